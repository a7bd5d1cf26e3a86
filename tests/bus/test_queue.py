"""What is put on the bus, seen from outside."""

import time

import msgspec

from models_backend.protocol import log as places
from models_backend.protocol.events import Figures, LaneAdded, LaneStopped, RunCreated, decode
from models_backend.protocol.runs import Completion, LaneSpec, RunSpec
from models_backend.protocol.workers import Heartbeat, ModelInfo
from playground.bus import queue, workers

RUN = "b" * 32
SPEC = RunSpec(Completion("Once"), (LaneSpec("base"), LaneSpec("ft:base:x"), LaneSpec("other")))
CREATED = RunCreated(RUN, SPEC, 1.0)
QUEUES = ["base", "base", "other"]


async def test_lanes_of_one_base_are_queued_as_one_entry(bus):
    assert await queue.start(CREATED, QUEUES) is True
    entries = {
        base: [(e[b"run"], e[b"lanes"]) for _, e in bus.xrange(places.queue_key(base))] for base in ("base", "other")
    }
    assert entries == {"base": [(RUN.encode(), b"0,1")], "other": [(RUN.encode(), b"2")]}
    ((number, entry),) = bus.xrange(places.log_key(RUN))
    assert (number, decode(entry[b"e"])) == (b"1-0", CREATED)
    assert msgspec.json.decode(bus.hget(places.run_key(RUN), "spec"), type=RunSpec) == SPEC
    assert 0 < bus.ttl(places.log_key(RUN)) <= places.KEEP_SECONDS


async def test_a_run_started_twice_is_there_once(bus):
    await queue.start(CREATED, QUEUES)
    assert await queue.start(CREATED, QUEUES) is False
    assert bus.xlen(places.queue_key("base")) == 1
    assert bus.xlen(places.log_key(RUN)) == 1


async def test_a_lane_is_added_only_by_who_knows_how_many_there_are(bus):
    added = LaneAdded(3, LaneSpec("base"), 0, 2.0)
    assert await queue.add(RUN, added, "base") == places.GONE
    await queue.start(CREATED, QUEUES)
    assert await queue.add(RUN, LaneAdded(2, LaneSpec("base"), 0, 2.0), "base") == places.FENCED
    assert await queue.add(RUN, added, "base") == 2
    assert await queue.lanes(RUN) == 4
    assert await queue.add(RUN, added, "base") == places.FENCED


async def test_whose_run_it_is_stands_with_its_lanes_in_the_queue(bus):
    await queue.start(CREATED, QUEUES, owner="7")
    await queue.add(RUN, LaneAdded(3, LaneSpec("base"), 0, 2.0), "base")
    assert [entry[b"owner"] for _, entry in bus.xrange(places.queue_key("base"))] == [b"7", b"7"]
    assert [entry[b"owner"] for _, entry in bus.xrange(places.queue_key("other"))] == [b"7"]


async def test_stopping_a_queued_lane_ends_it_and_twice_is_once(bus):
    stopped = LaneStopped(1, Figures(), 3.0)
    assert await queue.stop(RUN, stopped) == places.GONE
    await queue.start(CREATED, QUEUES)
    assert [await queue.stop(RUN, stopped), await queue.stop(RUN, stopped)] == [2, 1]
    assert await queue.stop(RUN, LaneStopped(9, Figures(), 3.0)) == 0
    assert bus.xlen(places.ENDED) == 1


async def test_scripts_are_loaded_again_when_the_bus_has_forgotten_them(bus):
    await queue.start(CREATED, QUEUES)
    bus.script_flush()
    assert await queue.start(CREATED, QUEUES) is False


async def test_only_workers_that_live_are_listed(bus):
    now = time.time()
    for name, at in (("alive", now), ("dead", now - 60)):
        beat = Heartbeat(name, "h", 1, "cpu", "fake", ("m",), True, 0, 0, 4, at, at)
        bus.zadd(places.WORKERS, {name: at})
        bus.set(places.worker_key(name), msgspec.json.encode(beat))
    assert [worker.worker for worker in await workers.workers()] == ["alive"]


async def test_models_are_listed_each_base_before_what_is_tuned_from_it(bus):
    infos = [ModelInfo("z", "Z"), ModelInfo("ft:b:x", "X", base="b"), ModelInfo("b", "B")]
    bus.hset(places.MODELS, mapping={info.id: msgspec.json.encode(info) for info in infos})
    assert [model.id for model in await workers.models()] == ["b", "ft:b:x", "z"]
