"""From the log to the state of a run, and back from a record to a log.

`reduce` is the one meaning of the events; `static/js/lib/run_store.js` says the same in the browser, and both are held
to `tests/protocol/sample.json`.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from models_backend.protocol import events
from models_backend.protocol.events import Error, Event, Figures, Insight
from models_backend.protocol.params import BOUNDS, Used
from models_backend.protocol.runs import LaneSpec, RunSpec, Variant

MAX_INSIGHT = int(BOUNDS["max_tokens"][1])  # tokens of an answer, or of a prompt, whose insight is kept


class LaneState(Struct):
    """One lane as the events so far tell it. `ids` is not sent to pages, which need only their count, `tokens`.

    `strength` is the one that was asked for, `used_strength` the one that the worker used. `insight[i]` is of token i
    of the answer, `scored[i]` of token i + 1 of the prompt; None where a worker gave none. `position` counts from 1,
    the next to begin, and is None for a lane that does not wait.
    """

    lane: int
    model: str
    overrides: dict[str, object]
    replaces: int | None = None
    strength: float | None = None
    prefix: tuple[int, ...] = ()
    shadows: tuple[Variant, ...] = ()
    state: str = "queued"  # queued, loading, running, stopped, failed, done
    position: int | None = None
    attempt: int = 0
    text: str = ""
    tokens: int = 0
    insight: list[Insight | None] = []
    scored: list[Insight | None] = []
    prompt_tokens: int = 0
    used: Used | None = None
    sha256: str | None = None
    base: str | None = None
    device: str | None = None
    worker: str | None = None
    precision: str = ""
    used_strength: float | None = None
    figures: Figures | None = None
    finish: str | None = None
    error: Error | None = None


class RunState(Struct):
    run: str | None = None
    spec: RunSpec | None = None
    lanes: list[LaneState] = []
    last: int = 0  # number of the newest event in it


ENDED = ("stopped", "failed", "done")
WAITING = ("queued", "loading")


def reduce(state: RunState, number: int, event: Event) -> RunState:
    """Apply one event in place. One that was applied before, or speaks of a lane that is not there, changes nothing."""
    if number <= state.last:
        return state
    state.last = number
    if isinstance(event, events.RunCreated):
        state.run, state.spec = event.run, event.spec
        state.lanes = [_lane(index, spec, None) for index, spec in enumerate(event.spec.lanes)]
        return state
    if isinstance(event, events.LaneAdded):
        if event.lane == len(state.lanes):
            state.lanes.append(_lane(event.lane, event.spec, event.replaces))
        return state
    if event.lane >= len(state.lanes) or (lane := state.lanes[event.lane]).state in ENDED:
        return state
    if isinstance(event, events.LaneQueued):
        if lane.state in WAITING:  # what has started never waits again on the page, whoever claims it
            lane.state, lane.position = "queued", event.position
    elif isinstance(event, events.LaneLoading):
        lane.state, lane.position = "loading", None
    elif isinstance(event, events.LaneStarted):
        lane.state, lane.position = "running", None
        lane.attempt, lane.worker, lane.base = event.attempt, event.worker, event.base
        lane.sha256, lane.device, lane.used = event.sha256, event.device, event.used
        lane.prompt_tokens = event.prompt_tokens
        lane.precision, lane.used_strength = event.precision, event.strength
    elif isinstance(event, events.LaneScored):
        _place(lane.scored, event.index - 1, event.insight)
    elif isinstance(event, events.LaneToken):
        # Tokens that are here already are never doubled; text without ids counts no further than its index.
        if event.index >= lane.tokens:
            lane.tokens = event.index + len(event.ids)
            lane.text += event.text
            _place(lane.insight, lane.tokens - len(event.insight), event.insight)
    else:
        _end(lane, event)
    return state


def replay(entries: Iterable[tuple[int, bytes]], state: RunState | None = None) -> RunState:
    """The state after these raw log entries."""
    state = state or RunState(lanes=[])
    for number, raw in entries:
        reduce(state, number, events.decode(raw))
    return state


def token_ids(entries: Iterable[tuple[int, bytes]], lane: int) -> tuple[int, ...]:
    """All token ids of one lane; none where some are missing, as in the answer of a remote model."""
    ids: list[int] = []
    for _, raw in entries:
        event = events.decode(raw)
        if isinstance(event, events.LaneToken) and event.lane == lane:
            if event.index > len(ids):
                return ()
            if event.index == len(ids):
                ids += event.ids
    return tuple(ids)


def _lane(index: int, spec: LaneSpec, replaces: int | None) -> LaneState:
    return LaneState(
        lane=index,
        model=spec.model,
        overrides=dict(spec.overrides),
        replaces=replaces,
        strength=spec.strength,
        prefix=spec.prefix,
        shadows=spec.shadows,
    )


def _place(known: list[Insight | None], index: int, insight: tuple[Insight, ...]) -> None:
    """Put `insight` at its place. What is there already stays; what was left out shows as None."""
    end = index + len(insight)
    if not insight or index < 0 or end <= len(known) or index >= MAX_INSIGHT:
        return
    known += [None] * (index - len(known))
    known += insight[len(known) - index :]
    del known[MAX_INSIGHT:]


def _end(lane: LaneState, event: events.LaneDone | events.LaneStopped | events.LaneFailed) -> None:
    lane.figures, lane.position = event.figures, None
    if isinstance(event, events.LaneDone):
        lane.state, lane.finish = "done", event.finish
    elif isinstance(event, events.LaneStopped):
        lane.state = "stopped"
    else:
        lane.state, lane.error = "failed", event.error


def as_json(state: RunState) -> bytes:
    """The state as the browser's reducer holds it."""
    return msgspec.json.encode(state)
