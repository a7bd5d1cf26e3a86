"""A log made from the record, for a run whose own has expired: fewer events, same state."""

import time
from collections.abc import Iterator, Sequence
from itertools import groupby

from models_backend.protocol.events import (
    Error,
    Event,
    Figures,
    Insight,
    LaneAdded,
    LaneFailed,
    LaneScored,
    LaneToken,
    RunCreated,
    encode,
)
from playground.models import Lane, Run

from . import insights

PIECE = 128  # tokens with insight in one event, so that none is large

LOST = Error(
    code="lost",
    message="The log of this answer was lost before it ended, and what had been written with it. Run it again.",
)


def synthesise(run: Run) -> list[tuple[int, bytes]]:
    """Numbered raw events that replay to what the record says. A lane without an end is lost: its log is gone.

    `run` has its lanes and their insight prefetched.
    """
    events: list[Event] = [RunCreated(run.id, run.spec, run.created_at.timestamp() * 1000)]
    for lane in run.lanes.all():
        events += _events_of(lane, added=lane.index >= len(run.spec.lanes))
    return [(number, encode(event)) for number, event in enumerate(events, 1)]


def _events_of(lane: Lane, *, added: bool) -> list[Event]:
    at = lane.created_at.timestamp() * 1000
    events: list[Event] = [LaneAdded(lane.index, lane.spec, lane.replaces, at)] if added else []
    if lane.started is not None:
        events.append(lane.started)
        events += _said(lane, lane.started.at)
    events.append(lane.ended or LaneFailed(lane.index, LOST, Figures(), time.time() * 1000))
    return events


def _said(lane: Lane, at: float) -> Iterator[Event]:
    """Events for the insight into the prompt, then for the answer; all of its text comes with the first of these."""
    kept = getattr(lane, "insight", None)
    insight, scored = insights.unpack(kept.packed_json if kept else "")
    for index, some in _pieces(scored):
        yield LaneScored(lane.index, index + 1, some, at)
    text, said = lane.text, 0
    if not lane.ids:
        yield from _said_without_ids(lane, insight, at)
        return
    for index, some in _pieces(insight[: len(lane.ids)]):
        if index > said:
            yield LaneToken(lane.index, said, lane.ids[said:index], text, at)
            text = ""
        said = index + len(some)
        yield LaneToken(lane.index, index, lane.ids[index:said], text, at, some)
        text = ""
    if text or said < len(lane.ids):
        yield LaneToken(lane.index, said, lane.ids[said:], text, at)


def _said_without_ids(lane: Lane, insight: Sequence[Insight | None], at: float) -> Iterator[Event]:
    """The same for the answer of a remote model, whose tokens are counted by the figures of its end."""
    text, said = lane.text, 0
    for index, some in _pieces(insight):
        said = index + len(some)
        yield LaneToken(lane.index, said, (), text, at, some)
        text = ""
    count = max(said, lane.ended.figures.completion_tokens if lane.ended else 0)
    if text or said < count:
        yield LaneToken(lane.index, count, (), text, at)


def _pieces(known: Sequence[Insight | None]) -> Iterator[tuple[int, tuple[Insight, ...]]]:
    """Stretches without a hole, with the index where each begins."""
    for there, stretch in groupby(enumerate(known), key=lambda item: item[1] is not None):
        if not there:
            continue
        whole = [(index, seen) for index, seen in stretch if seen is not None]
        for start in range(0, len(whole), PIECE):
            some = whole[start : start + PIECE]
            yield some[0][0], tuple(seen for _, seen in some)
