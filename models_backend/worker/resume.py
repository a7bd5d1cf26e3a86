"""From a claim to work: which lanes to compute, from which token on, and which to end at once. Pure."""

from dataclasses import dataclass, field

import msgspec

from models_backend.engine import Request
from models_backend.protocol.events import (
    Error,
    Figures,
    LaneAdded,
    LaneEvent,
    LaneFailed,
    LaneStarted,
    LaneStopped,
    LaneToken,
)
from models_backend.protocol.runs import LaneSpec

from .bus import Claim
from .entry import Entry

MAX_FAILURES = 2  # owners that may die with a part before it is taken to be what kills them


@dataclass
class Plan:
    requests: list[Request] = field(default_factory=list)
    events: list[LaneEvent] = field(default_factory=list)


def plan(entry: Entry, claim: Claim, at: float) -> Plan:
    """Decide for each lane of `entry` that has not ended. `at` stamps the events (ms)."""
    todo = Plan()
    for lane in entry.lanes:
        if lane in claim.ended:
            continue
        ids, text, count = _said(claim, lane)
        figures = Figures(_prompt_tokens(claim, lane), count)
        if claim.failures >= MAX_FAILURES:
            todo.events.append(LaneFailed(lane, _CRASHED, figures, at))
        elif lane in claim.stopped:
            todo.events.append(LaneStopped(lane, figures, at))
        else:
            spec = _spec(claim, lane)
            try:
                params = claim.spec.lane_params(spec)
            except msgspec.ValidationError as error:
                todo.events.append(LaneFailed(lane, Error("invalid_value", str(error), "params"), figures, at))
                continue
            todo.requests.append(
                Request(
                    run=entry.run,
                    lane=lane,
                    model=spec.model,
                    prompt=claim.spec.prompt,
                    params=params,
                    seed=int(entry.run[:8], 16),  # the same for every lane and every attempt
                    attempt=claim.attempt,
                    resume=ids,
                    strength=spec.strength,
                    prefix=spec.prefix,
                    shadows=spec.shadows,
                    resume_text=text,
                    resume_tokens=count,
                    owner=claim.owner,
                )
            )
    return todo


_CRASHED = Error(
    "worker_crashed",
    f"The worker stopped {MAX_FAILURES} times while it answered this, so it is not tried again. "
    "Run it again with a shorter prompt or fewer tokens, or look at the worker's log.",
)


def _spec(claim: Claim, lane: int) -> LaneSpec:
    if lane < len(claim.spec.lanes):
        return claim.spec.lanes[lane]
    return next(event.spec for event in claim.events if isinstance(event, LaneAdded) and event.lane == lane)


def _said(claim: Claim, lane: int) -> tuple[tuple[int, ...], str, int]:
    """What the log has of the answer: its ids, its text, and how many tokens it counts."""
    said = [event for event in claim.events if isinstance(event, LaneToken) and event.lane == lane]
    ids = tuple(id_ for event in said for id_ in event.ids)
    return ids, "".join(event.text for event in said), said[-1].index + len(said[-1].ids) if said else 0


def _prompt_tokens(claim: Claim, lane: int) -> int:
    started = [event for event in claim.events if isinstance(event, LaneStarted) and event.lane == lane]
    return started[-1].prompt_tokens if started else 0
