"""The recorder: what the log says of a lane that has ended is what the database says, whatever dies in between."""

import asyncio
import sqlite3
import time
from contextlib import aclosing
from datetime import timedelta

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from models_backend.protocol import log as places
from models_backend.protocol.events import (
    Candidate,
    Figures,
    Insight,
    LaneDone,
    LaneFailed,
    LaneScored,
    LaneStarted,
    LaneToken,
    encode,
)
from models_backend.protocol.params import Used
from models_backend.protocol.runs import RunSpec
from playground.bus import ended, log
from playground.models import Lane, LaneInsight, Run
from playground.runs import recorder, records, replay, service
from playground.runs.synthesis import synthesise
from tests.conftest import BASE, TUNED

ME = "a-recorder"
USED = Used(1.0, 1.0, 10, 0, 0.0, 1.0, 0.0, 0.0, ("\n",), 7)


async def started(alice, spec, client_id, text="hello", models=(BASE,), **params):
    return await service.start(alice, client_id(), msgspec.convert(spec(text, models, **params), RunSpec))


def answer(bus, run, lane=0, text=("a", "\x00", "🙂é"), end=None):
    """What a worker would write."""
    events = [LaneStarted(lane, 1, "w", BASE, BASE, "f" * 64, "cpu", 3, USED, 5.0)]
    events += [LaneToken(lane, index, (index + 10,), part, 6.0) for index, part in enumerate(text)]
    events += [end or LaneDone(lane, "stop", Figures(3, len(text), 1.5, 2.5), 7.0)]
    seq = int(bus.hget(places.run_key(run.id), "seq"))
    for number, event in enumerate(events, seq + 1):
        bus.xadd(places.log_key(run.id), {"e": encode(event)}, id=f"{number}-0")
    bus.hset(places.run_key(run.id), mapping={"seq": seq + len(events), f"lane:{lane}": "ended"})
    bus.xadd(places.ENDED, {"run": run.id, "lane": lane})


async def record_all():
    """What one recorder does between its start and the first time it has to wait."""
    await ended.join()
    while await recorder.record_some(ME, pending=True):
        pass
    await recorder.record_some(ME, pending=False, block_ms=1)


async def lane_of(run, index=0):
    return await Lane.objects.aget(run=run, index=index)


async def test_a_lane_that_has_ended_is_written_as_the_log_tells_it(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    answer(bus, run)
    await record_all()
    lane = await lane_of(run)
    assert (lane.state, lane.text, lane.ids) == ("done", "a\x00🙂é", (10, 11, 12))
    assert (lane.started.used, lane.started.sha256) == (USED, "f" * 64)
    assert (lane.ended.figures, lane.ended.finish) == (Figures(3, 3, 1.5, 2.5), "stop")
    assert bus.xlen(places.ENDED) == 0


async def test_text_on_the_page_is_text_in_the_log_is_text_in_the_database(worker, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id, models=(BASE, TUNED), max_tokens=40)
    page = replay.RunState(lanes=[])
    async with aclosing(service.follow(run, 0)) as steps:
        async for step in steps:
            replay.replay(step, page)
            if all(lane.state == "done" for lane in page.lanes):
                break
    await record_all()
    lanes = [await lane_of(run, index) for index in (0, 1)]
    assert [lane.text for lane in lanes] == [lane.text for lane in page.lanes]
    assert all(lane.text and len(lane.ids) == lane.ended.figures.completion_tokens for lane in lanes)
    assert msgspec.to_builtins(lanes[1].started.used) == msgspec.to_builtins(page.lanes[1].used)


async def test_an_expired_run_opens_as_it_was(worker, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id, models=(BASE, TUNED), max_tokens=12)
    live = replay.RunState(lanes=[])
    async with aclosing(service.follow(run, 0)) as steps:
        async for step in steps:
            replay.replay(step, live)
            if all(lane.state == "done" for lane in live.lanes):
                break
    await record_all()
    bus.delete(places.run_key(run.id), places.log_key(run.id))
    again = replay.RunState(lanes=[])
    async for step in service.follow(await service.find(alice, run.id), 0):
        replay.replay(step, again)
    live.last = again.last = 0
    assert msgspec.to_builtins(again) == msgspec.to_builtins(live)


async def test_writing_twice_changes_nothing(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    answer(bus, run)
    await recorder.record(run.id, [0])
    before = await lane_of(run)
    bus.xadd(places.log_key(run.id), {"e": encode(LaneToken(0, 3, (1,), "late", 8.0))}, id="99-0")
    await recorder.record(run.id, [0])
    assert (await lane_of(run)).text == before.text


async def test_what_a_recorder_had_taken_when_it_died_is_written_by_the_next(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    answer(bus, run)
    await ended.join()
    assert len(await ended.take(ME, pending=False)) == 1  # and here it dies
    await record_all()
    assert (await lane_of(run)).state == "done"
    assert bus.xpending(places.ENDED, places.RECORDER_GROUP)["pending"] == 0


async def test_what_another_recorder_took_and_never_wrote_is_adopted(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    answer(bus, run)
    await ended.join()
    await ended.take("somebody-else", pending=False)
    await ended.adopt(ME, idle_ms=0)
    await record_all()
    assert (await lane_of(run)).state == "done"


async def test_a_bus_that_has_forgotten_the_group_is_joined_anew(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    answer(bus, run)
    assert await ended.take(ME, pending=False) == []  # no group yet: joined
    await recorder.record_some(ME, pending=False, block_ms=1)
    assert (await lane_of(run)).state == "done"


async def test_a_lane_that_has_not_ended_is_left_alone(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    await recorder.record(run.id, [0])
    assert (await lane_of(run)).state == "open"


async def test_a_run_that_the_database_does_not_know_does_not_stop_the_others(models, bus, alice, spec, client_id):
    lost, kept = [await started(alice, spec, client_id) for _ in range(2)]
    answer(bus, lost)
    answer(bus, kept)
    await Run.objects.filter(pk=lost.pk).adelete()
    await record_all()
    assert (await lane_of(kept)).state == "done"
    assert bus.xlen(places.ENDED) == 0


async def test_a_log_that_cannot_be_read_fails_its_lane_and_stops_no_other(models, bus, alice, spec, client_id):
    broken, fine = [await started(alice, spec, client_id) for _ in range(2)]
    answer(bus, broken)
    bus.xadd(places.log_key(broken.id), {"e": b"not json"}, id="99-0")
    answer(bus, fine)
    await record_all()
    lane = await lane_of(broken)
    assert (lane.state, lane.ended.error.code) == ("failed", "lost")
    assert (await lane_of(fine)).state == "done"


async def _older(run, seconds):
    moment = timezone.now() - timedelta(seconds=seconds)
    await Run.objects.filter(pk=run.pk).aupdate(created_at=moment)
    await Lane.objects.filter(run=run).aupdate(created_at=moment)


async def test_the_sweep_finds_an_end_that_nobody_told_of(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    answer(bus, run, end=LaneFailed(0, recorder.UNREADABLE, Figures(), 9.0))
    bus.delete(places.ENDED)
    assert await recorder.sweep() == 0  # too young to be suspicious
    await _older(run, recorder.OPEN_SECONDS + 1)
    assert await recorder.sweep() == 1
    assert (await lane_of(run)).state == "failed"


async def test_the_sweep_ends_a_lane_whose_log_is_gone_for_good_and_no_sooner(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    bus.flushall()
    await _older(run, service.MEND_SECONDS - 60)
    assert await recorder.sweep() == 0
    await _older(run, service.MEND_SECONDS + 1)
    assert await recorder.sweep() == 1
    lane = await lane_of(run)
    assert (lane.state, lane.ended.error.code) == ("failed", "lost")


async def test_the_sweep_leaves_alone_what_still_runs(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    await _older(run, service.MEND_SECONDS + 1)
    assert await recorder.sweep() == 0
    assert (await lane_of(run)).state == "open"


async def test_a_recorder_runs_until_it_is_told_to_stop(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    stop, done = asyncio.Event(), []
    recording = asyncio.create_task(recorder.record_until(stop, ME, chores=(lambda: done.append(1),)))
    answer(bus, run)
    while (await lane_of(run)).state != "done":
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(recording, 10)
    assert done == [1]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a lock of the whole database is SQLite's")
async def test_a_locked_database_is_waited_for_while_streams_go_on(models, bus, alice, spec, client_id, monkeypatch):
    run = await started(alice, spec, client_id)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.05)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "init_command", "PRAGMA busy_timeout=50;")
    lock = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    stop = asyncio.Event()
    try:
        lock.execute("BEGIN EXCLUSIVE")
        recording = asyncio.create_task(recorder.record_until(stop, ME))
        answer(bus, run)
        async with aclosing(service.follow(run, 0)) as steps:
            assert len(await anext(steps)) == 6
        while bus.exists(places.ENDED) and not _pending(bus):
            await asyncio.sleep(0.01)
        assert bus.xlen(places.ENDED) == 1  # not acknowledged before it is written
        assert not recording.done()
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    deadline = time.monotonic() + 20
    while bus.xlen(places.ENDED) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(recording, 10)
    assert (await lane_of(run)).text == "a\x00🙂é"


def _pending(bus):
    return bus.xpending(places.ENDED, places.RECORDER_GROUP)["pending"] if bus.xinfo_groups(places.ENDED) else 0


async def test_insight_survives_the_bus_with_its_holes_and_its_scores(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    seen = [Insight(i, f"\x00{i}", -0.5 * i, i + 1, 1.5, (Candidate(3, "\u202e<b>", -1.25),)) for i in range(300)]
    end = LaneDone(0, "stop", Figures(3, 4, 1.5, 2.5), 7.0)
    events = [
        LaneStarted(0, 1, "w", BASE, BASE, "f" * 64, "cpu", 3, USED, 5.0, "4-bit", 0.5),
        LaneScored(0, 1, tuple(seen[:200]), 5.0),
        LaneScored(0, 203, tuple(seen[200:]), 5.0),
        LaneToken(0, 0, (10,), "a", 6.0),
        LaneToken(0, 1, (11, 12), "b", 6.0, (seen[1], seen[2])),
        LaneToken(0, 3, (13,), "c", 6.0),
        LaneToken(0, 4, (), "d", 6.0),
        end,
    ]
    seq = int(bus.hget(places.run_key(run.id), "seq"))
    for number, event in enumerate(events, seq + 1):
        bus.xadd(places.log_key(run.id), {"e": encode(event)}, id=f"{number}-0")
    live = replay.replay(await log.whole(run.id))
    await recorder.record(run.id, [0])
    await recorder.record(run.id, [0])
    again = replay.replay(synthesise(await sync_to_async(records.whole)(run)))
    assert again.lanes[0] == live.lanes[0]
    assert [bool(token) for token in again.lanes[0].insight] == [False, True, True]
    assert again.lanes[0].scored[200:202] == [None, None]
    assert await LaneInsight.objects.acount() == 1


async def test_an_answer_without_ids_survives_the_bus_with_its_insight(models, bus, alice, spec, client_id):
    run = await started(alice, spec, client_id)
    used = Used(None, None, 10, None, None, None, None, None, (), 7, dice="own")
    seen = [Insight(None, f" w{i}", -0.5, 1, None, (Candidate(None, f" w{i}", -0.5),)) for i in range(3)]
    events = [
        LaneStarted(0, 1, "w", BASE, BASE, None, "gpu (vllm)", 0, used, 5.0),
        LaneToken(0, 1, (), " w0", 6.0, (seen[0],)),
        LaneToken(0, 3, (), " w1 w2", 6.0, tuple(seen[1:])),
        LaneToken(0, 5, (), " and more", 6.0),
        LaneDone(0, "stop", Figures(3, 5, 1.5, 2.5), 7.0),
    ]
    seq = int(bus.hget(places.run_key(run.id), "seq"))
    for number, event in enumerate(events, seq + 1):
        bus.xadd(places.log_key(run.id), {"e": encode(event)}, id=f"{number}-0")
    live = replay.replay(await log.whole(run.id))
    await recorder.record(run.id, [0])
    again = replay.replay(synthesise(await sync_to_async(records.whole)(run)))
    assert again.lanes[0] == live.lanes[0]
    assert (again.lanes[0].text, again.lanes[0].tokens) == (" w0 w1 w2 and more", 5)
    assert again.lanes[0].insight == seen and again.lanes[0].used.temperature is None
    assert (await lane_of(run)).ids == ()
