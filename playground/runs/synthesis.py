"""A log made from the record, for a run whose own has expired: fewer events, same state."""

import time

from models_backend.protocol.events import Error, Event, Figures, LaneAdded, LaneFailed, LaneToken, RunCreated, encode
from playground.models import Lane, Run

LOST = Error(
    code="lost",
    message="The log of this answer was lost before it ended, and what had been written with it. Run it again.",
)


def synthesise(run: Run) -> list[tuple[int, bytes]]:
    """Numbered raw events that replay to what the record says. A lane without an end is lost: its log is gone."""
    events: list[Event] = [RunCreated(run.id, run.spec, run.created_at.timestamp() * 1000)]
    for lane in run.lanes.all():
        events += _events_of(lane, added=lane.index >= len(run.spec.lanes))
    return [(number, encode(event)) for number, event in enumerate(events, 1)]


def _events_of(lane: Lane, *, added: bool) -> list[Event]:
    at = lane.created_at.timestamp() * 1000
    events: list[Event] = [LaneAdded(lane.index, lane.spec, lane.replaces, at)] if added else []
    if lane.started is not None:
        events.append(lane.started)
        if lane.text or lane.ids:
            events.append(LaneToken(lane.index, 0, lane.ids, lane.text, lane.started.at))
    events.append(lane.ended or LaneFailed(lane.index, LOST, Figures(), time.time() * 1000))
    return events
