"""Several answers of one model to one prompt (`n`), and the best of more of them (`best_of`), as lanes of one run.

Samples differ by their seed alone, so each can be had again by itself. The best are those with the highest
log-probability per token, as in OpenAI's API; the model's own, whatever temperature and filters were used.
"""

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

import msgspec

from models_backend.protocol.events import Insight
from models_backend.protocol.params import BOUNDS, Params, merge
from models_backend.protocol.runs import MAX_SAMPLES, LaneSpec
from playground.errors import BadParameter

_SEEDS = int(BOUNDS["seed"][1]) + 1


def count(n: int, best_of: int | None) -> int:
    """How many lanes are needed. Raises BadParameter, which names the field."""
    for field, value in (("n", n), ("best_of", best_of)):
        if value is not None and not 1 <= value <= MAX_SAMPLES:
            raise BadParameter(field, f"{field} must be from 1 to {MAX_SAMPLES}, not {value}.")
    if best_of is not None and best_of < n:
        raise BadParameter("best_of", f"best_of is {best_of}, but n is {n}: there must be as many to choose from.")
    return best_of or n


def expand(lane: LaneSpec, params: Params, n: int, seed: int, best_of: int | None = None) -> tuple[LaneSpec, ...]:
    """The lanes that answer for `lane` of a run with shared `params`; `seed` holds where neither of them names one.

    The first has that seed, each further one the next. Raises BadParameter, and msgspec.ValidationError as `merge`.
    """
    lanes = count(n, best_of)
    used = merge(params, lane.overrides)
    first = seed if used.seed is None else used.seed
    overrides: dict[str, Any] = dict(lane.overrides)
    if lanes > n and used.top_logprobs is None:  # what the choice goes by
        overrides["top_logprobs"] = 0
    return tuple(
        msgspec.structs.replace(lane, overrides={**overrides, "seed": (first + number) % _SEEDS})
        for number in range(lanes)
    )


def best(answers: Mapping[int, Sequence[Insight | None]], n: int) -> list[int]:
    """The `n` lanes with the highest log-probability per token, the best first; of equals the one that is first.

    `answers` has the insight into each token of each lane that ended well. A lane without a token, or with one of
    which nothing is known, is taken only where there are too few others.
    """
    return sorted(answers, key=lambda lane: (-_mean(answers[lane]), lane))[:n]


def _mean(tokens: Sequence[Insight | None]) -> float:
    known = [token.logprob for token in tokens if token is not None]
    return fsum(known) / len(known) if known and len(known) == len(tokens) else -float("inf")
