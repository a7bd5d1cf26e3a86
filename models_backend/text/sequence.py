"""One row of the batch: a request, the ids it has so far, and the text that they make."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models_backend.protocol.events import Figures, Finish
from models_backend.protocol.params import Used

from .contract import Dialect, Draw, Feed, Request
from .detokenizer import Detokenizer
from .stops import StopStrings


class Answer:
    """The ids of an answer and their text; knows when it is complete. A pure function of the ids pushed."""

    def __init__(self, dialect: Dialect, used: Used) -> None:
        self.ids: list[int] = []
        self.finish: Finish | None = None
        self._used = used
        self._eos = dialect.eos
        self._text = Detokenizer(dialect.decode)
        self._stops = StopStrings(used.stop)

    def push(self, token: int) -> str:
        """Take one more token and return the text that became certain. At the end that is all the rest."""
        self.ids.append(token)
        if token in self._eos:
            self.finish = "stop"
            return self.rest()
        text = self._stops.push(self._text.push(token))
        if not self._stops.hit and len(self.ids) < self._used.max_tokens:
            return text
        if not self._stops.hit:
            text += self.rest()
        self.finish = "stop" if self._stops.hit else "length"
        return text

    def rest(self) -> str:
        """Text that was held back and that nothing will decide any more."""
        return self._stops.push(self._text.flush()) + self._stops.flush()


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
    """

    request: Request
    adapter: str | None
    prompt: list[int]
    used: Used
    answer: Answer
    times: Times
    companions: list[Seat] = field(default_factory=list)
    fed: int = 0
    cached: int = 0
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
        return [*self.prompt, *self.answer.ids]

    @property
    def reusable(self) -> int:
        """How many ids at the start need not go through the model again if their keys and values are known."""
        return 0 if self.used.prompt_logprobs is not None else self.length - 1

    @property
    def reserved(self) -> int:
        """Positions that it may come to fill, over all seats."""
        return (len(self.prompt) + self.used.max_tokens) * len(self.seats)

    @property
    def key(self) -> tuple[str, int]:
        return self.request.run, self.request.lane

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.answer.ids)

    @property
    def owing(self) -> int:
        """Ids that must still go through the model before the next token can be drawn; 1 while it decodes."""
        return self.length - self.fed

    def feed(self, count: int) -> Feed:
        """The next `count` ids; the last one of those owed also asks for a token."""
        draw = Draw(self.used, self.prompt, self.answer.ids) if count == self.owing else None
        return Feed(self.slot, self.adapter, self.fed, self._ids(self.fed, self.fed + count), draw)

    def _ids(self, start: int, stop: int) -> Sequence[int]:
        border = len(self.prompt)
        if start >= border:
            return self.answer.ids[start - border : stop - border]
        return (self.prompt[start:stop] + self.answer.ids[: max(0, stop - border)])[: stop - start]

    def figures(self) -> Figures:
        """A lane that another worker began has no decode time: its tokens were not all made in this attempt."""
        first, last = self.times.first, self.times.last
        decode = None if first is None or last is None or self.request.resume else round((last - first) * 1000, 3)
        return Figures(
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.answer.ids),
            first_ms=None if first is None else round((first - self.times.claimed) * 1000, 3),
            decode_ms=decode,
            cached_tokens=self.cached,
        )
