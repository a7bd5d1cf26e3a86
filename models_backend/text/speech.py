"""What a row's outcomes tell, as events: scores of the prompt, tokens with their text, insight into each of them."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from models_backend.protocol.events import Candidate, Insight, LaneEvent, LaneScored, LaneToken, Shade

from .contract import Dialect, EngineError, Seen
from .sequence import Row

DIGITS = 4  # behind the point; differences below are those of the order in which a machine adds
TEXTS = 65_536  # of tokens, kept; a vocabulary may have more, but what is likely here is likely there
CANDIDATES_AT_ONCE = 2048  # in one event, which crosses sockets and is parsed whole


class Speech:
    """The voice of one engine. `clock` and `steady` are the engine's."""

    def __init__(self, dialect: Dialect, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._decode = dialect.decode
        self._clock = clock
        self._steady = steady
        self._text = lru_cache(maxsize=TEXTS)(self._read)

    def known(self, row: Row, seen: Sequence[Seen]) -> Iterator[LaneEvent]:
        """Scores of known tokens: first those of the prompt, then the tokens that were forced, which are now said.

        `seen` are of consecutive tokens; the last one follows the last id that was fed, if what follows it is known.
        """
        border = len(row.prompt) + len(row.answer.ids)
        first = min(row.fed, row.length - 1) - len(seen) + 1
        top = row.used.prompt_logprobs or 0
        for start, part in _parts(seen[: max(0, len(row.prompt) - first)], top):
            insight = tuple(self.insight(one, top) for one in part)
            yield LaneScored(row.request.lane, first + start, insight, at=self._clock())
            row.scored = first + start + len(part) - 1
        said = max(0, min(row.fed - border + 1, len(row.forced)))
        if said:
            yield from self._tokens(row, row.forced[:said], seen[border - first :][:said] if row.watched else ())

    def given(self, row: Row) -> Iterator[LaneEvent]:
        """All tokens that are forced, where nobody wants to know what the model thinks of them."""
        return self._tokens(row, list(row.forced), ())

    def drawn(self, row: Row, token: int, seen: Seen | None) -> Iterator[LaneEvent]:
        """The token that came of a draw: only that shows how fast the model is, and that its numbers are sound."""
        now = self._steady()
        row.times.first = row.times.first or now
        row.times.last = now
        return self._tokens(row, [token], () if seen is None else (seen,))

    def _tokens(self, row: Row, ids: Sequence[int], seen: Sequence[Seen]) -> Iterator[LaneEvent]:
        """Add `ids` to the answer; those that were forced are so no longer. `seen` is of each of them, or of none."""
        top = row.used.top_logprobs or 0
        for start, part in _parts(seen, top) if seen else ((0, ()),):
            some = tuple(ids[start : start + len(part)] if part else ids)
            del row.forced[: len(some)]
            index = len(row.answer.ids)
            text = "".join([row.answer.push(token) for token in some])
            insight = tuple(self.insight(one, top) for one in part)
            yield LaneToken(row.request.lane, index, some, text, at=self._clock(), insight=insight)

    def insight(self, seen: Seen, top: int) -> Insight:
        """With at most `top` alternatives. Raises EngineError, `invalid_logits`, for a number that is none."""
        shades = tuple(
            Shade(
                logprob=_number(shade.logprob),
                rank=shade.rank,
                entropy=_number(shade.entropy),
                kl=_number(shade.kl),
                reverse_kl=_number(shade.reverse_kl),
                top=self._top(shade, top),
            )
            for shade in seen.shades
        )
        return Insight(
            id=seen.id,
            text=self._text(seen.id),
            logprob=_number(seen.logprob),
            rank=seen.rank,
            entropy=_number(seen.entropy),
            top=self._top(seen, top),
            shades=shades,
        )

    def _top(self, seen: Seen, top: int) -> tuple[Candidate, ...]:
        return tuple(Candidate(id_, self._text(id_), _number(logprob)) for id_, logprob in seen.top[:top])

    def _read(self, id_: int) -> str:
        """What a token adds to a text: some tokenizers drop the space of the first word, so it is said twice."""
        once, twice = self._decode([id_]), self._decode([id_, id_])
        return twice[len(once) :] if twice.startswith(once) else once


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise EngineError("invalid_logits", "The model gave numbers that are not finite. Its weights may be damaged.")
    return round(value, DIGITS) + 0.0  # never minus zero


def _parts(seen: Sequence[Seen], top: int) -> Iterator[tuple[int, Sequence[Seen]]]:
    """Cut into what one event may carry, with the place of each piece."""
    size = max(1, CANDIDATES_AT_ONCE // ((1 + len(seen[0].shades)) * (1 + top))) if seen else 1
    for start in range(0, len(seen), size):
        yield start, seen[start : start + size]
