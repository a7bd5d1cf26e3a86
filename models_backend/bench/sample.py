"""One round of one case: when it began, when each lane's tokens came, and the three figures that follow from that.

Lanes that answer together do not begin at the same moment, so speed is counted in the window in which all of them do.
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

Figures = dict[str, float]
FEWEST = 3  # tokens of each lane in the window, below which a speed is a guess


class TooShort(Exception):
    """The answers ended before their speed could be told."""


def of_streams(began: float, streams: Sequence[Sequence[float]]) -> Figures:
    """Times are seconds of one steady clock, one list a lane. Raises TooShort.

    `tokens_per_second` is of all lanes together, `first_ms` is until the last of them has begun, `step_ms` is the
    median time between two tokens of a lane.
    """
    first = first_ms(began, streams)
    start = max(times[0] for times in streams)
    end = min(times[-1] for times in streams)
    inside = [[time for time in times if start <= time <= end] for times in streams]
    if any(len(times) < FEWEST for times in inside) or end <= start:
        shortest = min(len(times) for times in inside)
        raise TooShort(f"all {len(streams)} lanes answered together for {shortest} tokens only")
    counted = sum(sum(time > start for time in times) for times in inside)
    gaps = [later - earlier for times in inside for earlier, later in pairwise(times)]
    return {"tokens_per_second": counted / (end - start), "first_ms": first, "step_ms": median(gaps) * 1000}


def first_ms(began: float, streams: Sequence[Sequence[float]]) -> float:
    """Milliseconds until every lane has said something. Raises TooShort if one never does."""
    if not streams or not all(streams):
        raise TooShort("a lane said nothing")
    return (max(times[0] for times in streams) - began) * 1000


def middle(samples: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds."""
    return {name: median(sample[name] for sample in samples) for name in samples[0]}


def together(replies: Sequence[dict[str, Any]]) -> tuple[float, list[list[float]]]:
    """What several contestants did at the same time, as one: they share the machine's steady clock."""
    return min(reply["began"] for reply in replies), [times for reply in replies for times in reply["streams"]]
