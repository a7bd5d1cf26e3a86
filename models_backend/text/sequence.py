"""One row of the batch: a request, the ids it has so far, and the text that they make."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from models_backend.protocol.events import Figures, Finish
from models_backend.protocol.params import Used

from .contract import FREE, Dialect, Draw, Feed, Request, Rules, Score
from .detokenizer import Detokenizer
from .stops import StopStrings


class Answer:
    """The ids of an answer and their text; knows when it is complete. A pure function of the ids pushed."""

    def __init__(self, dialect: Dialect, used: Used, rules: Rules = FREE) -> None:
        self.ids: list[int] = []
        self.rules = rules
        self.finish: Finish | None = "stop" if rules.form is not None and rules.form.complete([]) else None
        self._used = used
        self._ends = dialect.eos | rules.ends
        self._text = Detokenizer(dialect.decode)
        self._stops = StopStrings(used.stop)

    def push(self, token: int) -> str:
        """Take one more token and return the text that became certain. At the end that is all the rest.

        Text of the first `min_tokens` tokens is not searched for stop strings. Raises EngineError `constraint_broken`
        for a token that the form of the answer does not allow.
        """
        self.ids.append(token)
        if token in self._ends:
            self.finish = "stop"
            return self.rest()
        text = self._text.push(token)
        if len(self.ids) > self._used.min_tokens:
            text = self._stops.push(text)
        form = self.rules.form
        done = self._stops.hit or (form is not None and form.complete(self.ids))
        if not done and len(self.ids) < self._used.max_tokens:
            return text
        if not self._stops.hit:
            text += self.rest()
        self.finish = "stop" if done else "length"
        return text

    def rest(self) -> str:
        """Text that was held back and that nothing will decide any more."""
        return self._stops.push(self._text.flush()) + self._stops.flush()


def foresee(answer: Answer, dialect: Dialect, used: Used, prefix: Sequence[int]) -> tuple[list[int], Finish | None]:
    """The ids of `prefix` that are still to be said behind `answer`, and how they end it, if they do.

    Whatever follows an end is not said: a prefix ends an answer exactly as drawn tokens do.
    """
    if answer.finish is not None or not used.max_tokens:
        return [], answer.finish or "length"
    if len(prefix) <= len(answer.ids):
        return [], None
    trial = Answer(dialect, used, answer.rules)
    for token in answer.ids:
        trial.push(token)
    forced: list[int] = []
    for token in prefix[len(answer.ids) :]:
        if trial.finish is None:
            trial.push(token)
            forced.append(token)
    return forced, trial.finish


@dataclass(slots=True)
class Times:
    """Seconds of the engine's steady clock."""

    claimed: float
    first: float | None = None
    last: float | None = None


@dataclass(slots=True)
class Seat:
    """A cache slot that a row needs, for keys and values as `adapter` makes them, its deltas `strength` times."""

    adapter: str | None
    strength: float = 1.0
    slot: int = -1  # none yet


@dataclass(slots=True, eq=False)
class Row:
    """A lane from its admission to its end. `fed` counts the ids whose keys and values are in its seats' slots.

    `companions` are the seats of its shadows, which are fed the same ids in the same passes. `cached` counts the ids
    of the prompt that were found in the cache when it began.

    `forced` are the ids that come next whatever the model would draw. `ends` says that nothing is drawn behind them,
    and how the lane then ends. `scored` counts the tokens of the prompt, from the second on, whose insight was told.
    """

    request: Request
    adapter: str | None
    prompt: list[int]
    used: Used
    answer: Answer
    times: Times
    companions: list[Seat] = field(default_factory=list)
    fed: int = 0
    cached: int | None = None  # not known before it has its slots
    forced: list[int] = field(default_factory=list)
    ends: Finish | None = None
    scored: int = 0
    begun: bool = False  # lane.started has been said
    told: int = 0  # the position of the last lane.queued
    own: Seat = field(init=False)

    def __post_init__(self) -> None:
        strength = self.request.strength
        self.own = Seat(self.adapter, 1.0 if strength is None else strength)

    @property
    def seats(self) -> list[Seat]:
        """All that it needs a slot for, its own first."""
        return [self.own, *self.companions]

    @property
    def slot(self) -> int:
        """Its own; -1 while it waits."""
        return self.own.slot

    @property
    def ids(self) -> list[int]:
        return [*self.prompt, *self.answer.ids, *self.forced]

    @property
    def reusable(self) -> int:
        """How many ids at the start need not go through the model again if their keys and values are known."""
        return self.length - 1 if self._wanted is None else self._wanted

    @property
    def watched(self) -> bool:
        """Each token of the answer comes with insight."""
        return self.used.top_logprobs is not None

    @property
    def looks(self) -> int:
        """At how many known tokens the model must still be looked at, for all seats."""
        return 0 if self._wanted is None else (self.length - 1 - self._wanted) * len(self.seats)

    @property
    def reserved(self) -> int:
        """Positions that it may come to fill, over all seats."""
        return (len(self.prompt) + self.used.max_tokens) * len(self.seats)

    @property
    def key(self) -> tuple[str, int]:
        return self.request.run, self.request.lane

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer.ids) + len(self.forced)

    @property
    def owing(self) -> int:
        """Ids that must still go through the model before the next token can be drawn, or before the end where none is.

        1 while it decodes.
        """
        return self.length - self.fed - (0 if self.ends is None else 1)

    def feeds(self, count: int, place: int) -> list[Feed]:
        """The next `count` ids, for each seat, from `place` in the pass on. The last one owed also asks for a token."""
        start, stop = self.fed, self.fed + count
        draw = None
        if stop == self.length:
            ids = [*self.answer.ids, *self.forced] if self.forced else self.answer.ids
            draw = Draw(self.used, self.prompt, ids, self.answer.rules)
        own = self.own
        score = self._score(start, stop)
        first = Feed(own.slot, own.adapter, start, self._ids(start, stop), draw, own.strength, score=score)
        return [
            first,
            *(
                replace(first, slot=seat.slot, adapter=seat.adapter, strength=seat.strength, shadows=place)
                for seat in self.companions
            ),
        ]

    @property
    def _wanted(self) -> int | None:
        """The first position of which known tokens are to be scored: all from there on are. None: no more are."""
        if self.used.prompt_logprobs is not None and self.scored < len(self.prompt) - 1:
            return self.scored
        if self.watched and self.forced:
            return len(self.prompt) + len(self.answer.ids) - 1
        return None

    def _score(self, start: int, stop: int) -> Score | None:
        wanted = self._wanted
        if wanted is None or stop <= wanted:
            return None
        targets = self._ids(max(start, wanted) + 1, min(stop, self.length - 1) + 1)
        return Score(targets, max(self.used.prompt_logprobs or 0, self.used.top_logprobs or 0)) if targets else None

    def _ids(self, start: int, stop: int) -> Sequence[int]:
        border = len(self.prompt)
        known = [*self.answer.ids, *self.forced] if self.forced else self.answer.ids
        if start >= border:
            return known[start - border : stop - border]
        return self.prompt[start:stop] + known[: max(0, stop - border)]

    def figures(self) -> Figures:
        """A lane that went on from tokens it was given, or another worker drew, has no decode time."""
        first, last = self.times.first, self.times.last
        given = self.request.resume or self.request.prefix
        decode = None if first is None or last is None or given else round((last - first) * 1000, 3)
        return Figures(
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.answer.ids),
            first_ms=None if first is None else round((first - self.times.claimed) * 1000, 3),
            decode_ms=decode,
            cached_tokens=self.cached or 0,
        )
