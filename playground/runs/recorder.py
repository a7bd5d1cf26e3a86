"""Writes down lanes that have ended: from the log on the bus into the database, once, whatever dies in between.

The bus keeps a list of ended lanes. An entry leaves it only when its lane is in the database, and writing a lane twice
changes nothing. A sweep looks for what the list has missed: lanes that stay open though their log has ended or is gone.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta

import msgspec
from django.db import transaction
from django.utils import timezone

from models_backend.protocol.events import (
    Error,
    Figures,
    LaneDone,
    LaneFailed,
    LaneStarted,
    LaneStopped,
    decode,
    encode,
)
from playground import bus
from playground.bus import ended, log
from playground.bus.ending import end
from playground.bus.tail import Entry
from playground.errors import BusDown, DatabaseBusy
from playground.models import Lane, LaneInsight

from . import insights, replay
from .database import in_database
from .service import MEND_SECONDS
from .synthesis import LOST

Row = tuple[int, dict[str, str], str]  # index of a lane, its columns, and its packed insight

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0
ADOPT_MS = 60_000  # entries that another recorder took so long ago and has not written are taken over
OPEN_SECONDS = 30  # lanes younger than this are nobody's business yet
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)

UNREADABLE = Error(code="lost", message="The log of this answer cannot be read. Run it again.")


async def record_until(stop: asyncio.Event, consumer: str, chores: tuple[Callable[[], object], ...] = ()) -> None:
    """Record until `stop` is set. `chores` are synchronous, and done with each sweep.

    A bus or database that is away is waited for; streams go on meanwhile, and what has ended waits on the bus.
    """
    recording = asyncio.create_task(_record_until(stop, consumer, chores))
    told = asyncio.create_task(stop.wait())
    try:
        # What it is in the middle of stays on the bus, and is done by the next.
        await asyncio.wait({recording, told}, return_when=asyncio.FIRST_COMPLETED)
        if recording.done():
            recording.result()
    finally:
        await end(recording, told)
        await bus.close()


async def _record_until(stop: asyncio.Event, consumer: str, chores: tuple[Callable[[], object], ...]) -> None:
    failures = 0
    swept = -SWEEP_SECONDS
    pending = True  # first what this consumer took before it was last ended
    while not stop.is_set():
        try:
            if time.monotonic() - swept >= SWEEP_SECONDS:
                await ended.join()
                await ended.adopt(consumer, ADOPT_MS)
                await sweep()
                for chore in chores:
                    await in_database(chore)
                swept, pending = time.monotonic(), True
            pending = await record_some(consumer, pending=pending)
            failures = 0
        except (BusDown, DatabaseBusy) as error:
            pending = True
            if failures == 0:
                logger.warning("%s; what has ended is written down when it is back", error.code)
            delay = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
            failures += 1
            try:
                await asyncio.wait_for(stop.wait(), delay)
            except TimeoutError:
                continue


async def record_some(consumer: str, *, pending: bool, block_ms: int = ended.BLOCK_MS) -> bool:
    """Record what has ended, waiting for it unless `pending`. True while there may be more of what was pending."""
    entries = await ended.take(consumer, pending=pending, block_ms=block_ms)
    runs: dict[str, list[int]] = {}
    for entry in entries:
        runs.setdefault(entry.run, []).append(entry.lane)
    for run, lanes in runs.items():
        await record(run, lanes)
    await ended.acknowledge([entry.entry for entry in entries])
    return pending and bool(entries)


async def record(run: str, lanes: list[int]) -> None:
    """Write those of `lanes` down that have ended by the log. Raises BusDown or DatabaseBusy."""
    entries = await log.whole(run)
    try:
        rows = [row for lane in lanes if (row := row_of(entries, lane))]
    except msgspec.MsgspecError:
        logger.exception("the log of run %s cannot be read", run)
        rows = [_failed(lane, UNREADABLE) for lane in lanes]
    await in_database(_write, run, rows)


async def sweep() -> int:
    """Record open lanes whose end was missed, and end those whose log is gone for good. Returns how many it ended."""
    waiting = await in_database(_open_lanes)
    swept = 0
    for run, lanes in waiting.items():
        if await log.newest(run) is not None:
            swept += await in_database(_write, run, await _rows(run, list(lanes)))
        else:
            since = time.time() - MEND_SECONDS
            lost = [_failed(lane, LOST) for lane, created in lanes.items() if created < since]
            swept += await in_database(_write, run, lost)
    return swept


async def _rows(run: str, lanes: list[int]) -> list[Row]:
    entries = await log.whole(run)
    return [row for lane in lanes if (row := row_of(entries, lane))]


def row_of(entries: list[Entry], lane: int) -> Row | None:
    """The columns of one lane as its log tells them; None while it has not ended."""
    started: LaneStarted | None = None
    end: LaneDone | LaneStopped | LaneFailed | None = None
    for _, raw in entries:
        event = decode(raw)
        if getattr(event, "lane", None) != lane:
            continue
        if isinstance(event, LaneStarted):
            started = event
        elif isinstance(event, LaneDone | LaneStopped | LaneFailed):
            end = event
            break
    if end is None:
        return None
    state = replay.replay(entries).lanes[lane]
    columns = {
        "state": state.state,
        "text": state.text,
        "ids_json": msgspec.json.encode(replay.token_ids(entries, lane)).decode(),
        "started_json": encode(started).decode() if started else "",
        "ended_json": encode(end).decode(),
        "search": f"{state.text}\n{state.model}".casefold(),
    }
    return lane, columns, insights.pack(state.insight, state.scored)


def _failed(lane: int, error: Error) -> Row:
    end = LaneFailed(lane, error, Figures(), time.time() * 1000)
    return lane, {"state": "failed", "ended_json": encode(end).decode()}, ""


def _write(run: str, rows: list[Row]) -> int:
    """Write rows of lanes that are open; one that has ended never changes again."""
    lanes = Lane.objects.filter(run_id=run, state=Lane.State.OPEN)
    written = 0
    for index, columns, packed in rows:
        with transaction.atomic():
            if not lanes.filter(index=index).update(**columns):
                continue
            if packed:
                lane = Lane.objects.only("pk").get(run_id=run, index=index)
                LaneInsight.objects.create(lane=lane, packed_json=packed)
        written += 1
    return written


def _open_lanes() -> dict[str, dict[int, float]]:
    """Open lanes by run, with the time of their creation in seconds."""
    since = timezone.now() - timedelta(seconds=OPEN_SECONDS)
    found: dict[str, dict[int, float]] = {}
    rows = Lane.objects.filter(state=Lane.State.OPEN, created_at__lt=since)
    for run, lane, created in rows.values_list("run_id", "index", "created_at"):
        found.setdefault(run, {})[lane] = created.timestamp()
    return found
