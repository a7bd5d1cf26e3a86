"""Start, follow and stop runs, and add lanes to them. A run belongs to the bus: no process that dies takes it along.

Order matters: the record is written first, then the bus is told. What lies between, a crash say, is mended by whoever
asks for the run next (`_on_bus`), because both steps can be repeated without harm.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from django.conf import settings

from models_backend.protocol import log as places
from models_backend.protocol.events import Figures, LaneAdded, LaneStopped, RunCreated
from models_backend.protocol.params import Params
from models_backend.protocol.runs import LaneSpec, RunSpec
from models_backend.protocol.workers import Heartbeat, ModelInfo
from playground.access import lookup
from playground.bus import log, queue, workers
from playground.bus.ending import end as end_tasks
from playground.bus.tail import Entry
from playground.errors import BadParameter, Busy, Expired, NotFound
from playground.models import Lane, Run, User

from . import checking, records
from .database import in_database
from .synthesis import synthesise

MEND_SECONDS = 600  # a run that the bus does not know is put there again for so long; later it counts as lost


@dataclass(frozen=True)
class Reset:
    """The log is shorter than what the reader has: forget that, all events follow from 1."""


async def start(person: User, client_id: str, spec: RunSpec) -> Run:
    """Start a run. The same `client_id` (32 hex digits) again is the same run, however often it is sent.

    Raises BadParameter, NoWorker, Conflict (same id, other spec), Busy, DatabaseBusy, BusDown.
    """
    checking.check_client_id(client_id)
    run = await in_database(records.find, person, client_id, spec)
    if run is None:
        queues = checking.check_spec(spec, await workers.models())
        await _check_queues(person, queues)
        run = await in_database(records.create, person, client_id, spec, queues)
    await _on_bus(run)
    return run


async def find(person: User | None, run_id: str) -> Run:
    """The run for its owner. Raises NotFound."""
    return await in_database(lookup.run_for, person, run_id)


async def find_shared(person: User | None, token: str) -> Run:
    """The run that a share link opens for `person`, or for a guest. Raises NotFound."""
    return await in_database(_shared, person, token)


async def follow(run: Run, after: int, known: bytes | None = None) -> AsyncGenerator[Reset | list[Entry], None]:
    """Events of a run above number `after`, then new ones as they come, without gap or repeat.

    `known` is event `after` as the reader was given it. A bus that was killed may have lost its newest events, and the
    workers said them again in another order: where the log no longer has it at that place, the reader begins anew.
    Ends only for a run whose log has expired: its events are made from the record, and nothing will be added to them.
    Raises BusDown; follow again from the last number seen.
    """
    newest = await log.newest(run.id)
    if newest is None and await _on_bus(run):
        newest = await log.newest(run.id)
    if newest is None:
        if after:
            yield Reset()
        yield synthesise(await in_database(records.whole, run))
        return
    if after > newest or (known is not None and await log.at(run.id, after) != known):
        yield Reset()
        after = 0
    async with aclosing(log.follow(run.id, after)) as batches:
        async for entries in batches:
            yield entries


async def add_lane(
    person: User,
    run_id: str,
    client_id: str,
    *,
    replaces: int | None = None,
    lane: LaneSpec | None = None,
    params: Params | None = None,
) -> Lane:
    """Answer the prompt of a run once more. With `replaces` the new lane takes that lane's place on the page.

    `lane` None repeats the replaced lane as it was. `params` are the shared parameters it was set up with, where they
    have changed since the run began. Idempotent by `client_id`. Raises as `start`, NotFound and Expired.
    """
    checking.check_client_id(client_id)
    run = await find(person, run_id)
    lanes = list(run.lanes.all())
    if replaces is not None and replaces >= len(lanes):
        raise BadParameter("lane", f"This run has no lane {replaces}; it has {len(lanes)}, counted from 0.")
    if lane is None:
        if replaces is None:
            raise BadParameter("spec", "Say which model answers: a new lane needs a spec.")
        lane = lanes[replaces].spec
    if params is not None:
        checking.check_overrides(params, lane, "spec")
        wanted = RunSpec(run.spec.prompt, (lane,), params).lane_params(lane)
        lane = msgspec.structs.replace(lane, overrides=checking.differing(run.spec.params, wanted))
    known = {model.id: model for model in await workers.models()}
    waits = checking.check_lane(run.spec, lane, known, "spec")
    if not await _on_bus(run):
        raise Expired
    if not any(one.client_id == client_id for one in lanes):
        await _check_queues(person, [waits])
    added = await in_database(records.append, run, client_id, lane, waits, replaces)
    if not await _on_bus(await in_database(records.reload, run)):
        await in_database(records.discard, added)
        raise Expired
    return added


async def stop_lane(person: User, run_id: str, lane: int) -> None:
    """Stop one lane; its text is kept. Stopping what has ended changes nothing and is no error. Raises NotFound."""
    run = await find(person, run_id)
    count = len(run.lanes.all())
    if not 0 <= lane < count:
        raise BadParameter("lane", f"This run has no lane {lane}; it has {count}, counted from 0.")
    await _stop(run, [lane])


async def stop_run(person: User, run_id: str) -> None:
    """Stop all lanes of a run. Raises NotFound."""
    run = await find(person, run_id)
    await _stop(run, [lane.index for lane in run.lanes.all()])


async def models() -> list[ModelInfo]:
    return await workers.models()


async def heartbeats() -> list[Heartbeat]:
    return await workers.workers()


async def _check_queues(person: User, queues: list[str]) -> None:
    """Raises Busy when too many runs wait already, of all people or of this one."""
    most = settings.DIPTYCH_QUEUE
    for base in set(queues):
        count, own = await queue.waiting(base, str(person.pk), most)
        if count >= most:
            raise Busy(f"{count} runs are waiting for {base} already. Try again when some of them have ended.")
        if own >= max(1, most // 2):
            raise Busy(f"{own} of your runs are waiting for {base} already. Stop some, or wait until they have ended.")


async def _stop(run: Run, lanes: list[int]) -> None:
    for lane in lanes:
        stopped = LaneStopped(lane=lane, figures=Figures(), at=time.time() * 1000)
        if await queue.stop(run.id, stopped) == places.GONE and await _on_bus(run):
            await queue.stop(run.id, stopped)


async def _on_bus(run: Run) -> bool:
    """Make sure that the bus has the run and all its lanes. False when it is too old for that, or has ended."""
    lanes = list(run.lanes.all())
    count = await queue.lanes(run.id)
    if count is None:
        age = time.time() - run.created_at.timestamp()
        if age > MEND_SECONDS or any(lane.state != Lane.State.OPEN for lane in lanes):
            return False
        first = lanes[: len(run.spec.lanes)]
        created = RunCreated(run=run.id, spec=run.spec, at=records.milliseconds(run.created_at))
        await queue.start(created, [lane.queue for lane in first], owner=str(run.owner_id))
        count = len(first)
    while count is not None and count < len(lanes):  # each pass adds one, or finds that somebody else has
        lane = lanes[count]
        at = records.milliseconds(lane.created_at)
        await queue.add(run.id, LaneAdded(lane.index, lane.spec, lane.replaces, at), lane.queue)
        count = await queue.lanes(run.id)
    return count is not None


def _shared(person: User | None, token: str) -> Run:
    link = lookup.link_for(person, token)
    if link.run is None:
        raise NotFound
    return records.reload(link.run)


__all__ = [
    "Entry",
    "Reset",
    "add_lane",
    "end_tasks",
    "find",
    "find_shared",
    "follow",
    "heartbeats",
    "models",
    "start",
    "stop_lane",
    "stop_run",
]
