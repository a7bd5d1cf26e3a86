"""Workers on a real bus, with the engine that needs no model."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from redis.asyncio import Redis

from models_backend.config import Settings
from models_backend.protocol import log
from models_backend.protocol.events import (
    Figures,
    LaneAdded,
    LaneDone,
    LaneFailed,
    LaneQueued,
    LaneStarted,
    LaneStopped,
    LaneToken,
    RunCreated,
    decode,
    encode,
)
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion, LaneSpec, RunSpec
from models_backend.protocol.workers import Heartbeat, ModelInfo
from models_backend.text import fake
from models_backend.text.open import open_engines
from models_backend.worker.bus import Fenced, WorkerBus
from models_backend.worker.entry import Entry
from models_backend.worker.worker import Worker

RUN = "0123456789abcdef" * 2
QUEUE = log.queue_key(fake.BASE)
BOTH = (LaneSpec(fake.BASE), LaneSpec(fake.SHOUT))


class House:
    """Starts workers and speaks to the bus as the web does."""

    def __init__(self, redis: Redis, home) -> None:
        self.redis = redis
        self.home = home
        self.tasks: dict[str, tuple[asyncio.Task, asyncio.Event, Redis]] = {}

    async def worker(self, name: str, delay: float = 1, slots: int = 8) -> Worker:
        pool = self.redis.connection_pool.connection_kwargs
        settings = Settings(home=self.home, engine="fake", model=fake.BASE, fake_delay=delay, slots=slots)
        redis = Redis(unix_socket_path=pool["path"])
        worker = Worker(settings, open_engines(settings, name), redis, name)
        quit_ = asyncio.Event()
        self.tasks[name] = (asyncio.create_task(worker.run(quit_)), quit_, redis)
        await until(lambda: self.beats(name))
        return worker

    async def leave(self, name: str) -> None:
        task, quit_, redis = self.tasks.pop(name)
        quit_.set()
        await asyncio.wait_for(task, 20)
        await redis.aclose()

    async def beats(self, name: str) -> bool:
        raw = await self.redis.get(log.worker_key(name))
        return raw is not None and msgspec.json.decode(raw, type=Heartbeat).ready

    async def start(self, text: str, lanes=BOTH, run: str = RUN, owner: str = "", **params) -> None:
        spec = RunSpec(Completion(text), tuple(lanes), Params(**params))
        part = ",".join(str(lane) for lane in range(len(lanes)))
        script = self.redis.register_script(log.START)
        keys = [log.run_key(run), log.log_key(run), QUEUE]
        args = [msgspec.json.encode(spec), encode(RunCreated(run, spec, 0)), 1000, run, len(lanes), part, owner]
        assert await script(keys=keys, args=args) == 1

    async def add(self, lane: int, spec: LaneSpec, replaces: int) -> int:
        script = self.redis.register_script(log.ADD)
        event = encode(LaneAdded(lane, spec, replaces, 0))
        return await script(keys=[log.run_key(RUN), log.log_key(RUN), QUEUE], args=[event, 1000, RUN, lane])

    async def stop(self, lane: int) -> int:
        script = self.redis.register_script(log.STOP)
        event = encode(LaneStopped(lane, Figures(), 0))
        return await script(keys=[log.run_key(RUN), log.log_key(RUN), log.ENDED], args=[lane, event, RUN, log.STOPS])

    async def events(self, lane: int | None = None, run: str = RUN) -> list:
        rows = [decode(fields[b"e"]) for _, fields in await self.redis.xrange(log.log_key(run))]
        return rows if lane is None else [event for event in rows if getattr(event, "lane", None) == lane]

    async def ended(self, *lanes: int, run: str = RUN) -> bool:
        state = await self.redis.hgetall(log.run_key(run))
        return all(state.get(f"lane:{lane}".encode()) == b"ended" for lane in lanes)

    async def tokens(self, lane: int = 0) -> int:
        return sum(isinstance(event, LaneToken) for event in await self.events(lane))


@pytest.fixture
async def house(bus, valkey, tmp_path) -> AsyncIterator[House]:
    redis = Redis(unix_socket_path=valkey)
    found = House(redis, tmp_path)
    yield found
    for name in list(found.tasks):
        await found.leave(name)
    await redis.aclose()


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for a fact on the bus; fails, saying so, if it never comes."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)


def text_of(events: list) -> str:
    return "".join(event.text for event in events if isinstance(event, LaneToken))


async def test_both_lanes_are_answered_and_the_queue_is_empty_afterwards(house):
    await house.worker("one")
    await house.start("Tell me a story", max_tokens=12, seed=1)
    await until(lambda: house.ended(0, 1))
    for lane in (0, 1):
        events = await house.events(lane)
        assert isinstance(events[0], LaneStarted) and isinstance(events[-1], LaneDone)
    said, shouted = [text_of(await house.events(lane)) for lane in (0, 1)]
    assert said and shouted and said != shouted
    await until(lambda: _empty(house))
    assert await house.redis.xlen(log.ENDED) == 2, "the recorder is told of both"


async def _empty(house: House) -> bool:
    return await house.redis.xlen(QUEUE) == 0


async def test_a_run_queued_before_any_worker_came_is_answered(house):
    await house.start("Early", max_tokens=5)
    await house.worker("late")
    await until(lambda: house.ended(0, 1))


async def test_the_part_of_a_dead_worker_is_taken_over_and_goes_on_where_the_log_ends(house):
    first = await house.worker("first", delay=10)
    await house.start("[[long]]", max_tokens=60, seed=3)
    await until(lambda: _at_least(house, 10))
    cut = Cut(first.bus)
    await house.redis.delete(log.worker_key("first"))
    await house.worker("second", delay=0)
    await until(lambda: house.ended(0, 1))
    events = await house.events(0)
    assert [event.worker for event in events if isinstance(event, LaneStarted)] == ["first", "second"]
    assert [event.index for event in events if isinstance(event, LaneToken)] == list(range(60))

    await house.start("[[long]]", run="f" * 32, max_tokens=60, seed=3)
    await until(lambda: house.ended(0, 1, run="f" * 32))
    assert text_of(events) == text_of(await house.events(0, run="f" * 32)), "as if nobody had died"
    cut.mend()


async def _at_least(house: House, count: int) -> bool:
    return await house.tokens() >= count


class Cut:
    """A worker behind a cut line: it computes on, but neither its heartbeat nor what it says is heard."""

    def __init__(self, bus: WorkerBus) -> None:
        self._whole = asyncio.Event()
        self._bus, self._append, self._beat = bus, bus.append, bus.beat
        bus.append, bus.beat = self._wait(bus.append), self._wait(bus.beat)  # type: ignore[method-assign]

    def _wait(self, call):
        async def later(*args):
            await self._whole.wait()
            await call(*args)

        return later

    def mend(self) -> None:
        self._bus.append, self._bus.beat = self._append, self._beat  # type: ignore[method-assign]
        self._whole.set()


async def test_a_worker_that_was_taken_for_dead_is_fenced_out_and_lets_go(house):
    first = await house.worker("first", delay=10)
    await house.start("[[long]]", max_tokens=200, seed=3)
    await until(lambda: _at_least(house, 5))
    other = WorkerBus(house.redis, "other", [fake.BASE])
    ((_, _, entry_id),) = [(QUEUE, 0, row["message_id"]) for row in await _pending(house)]
    await other.claim(Entry(QUEUE, entry_id.decode(), RUN, "0,1"))

    async def let_go() -> bool:
        return not first.parts

    await until(let_go)
    said = await house.tokens()
    await asyncio.sleep(0.1)
    assert await house.tokens() == said, "nothing is appended by the one that was fenced out"


async def _pending(house: House) -> list:
    return await house.redis.xpending_range(QUEUE, log.QUEUE_GROUP, "-", "+", 10)


async def test_a_batch_sent_twice_is_written_once(house):
    await house.start("x")
    bus = WorkerBus(house.redis, "w", [fake.BASE])
    await bus.open_queues()
    (entry,) = await bus.take(block_ms=1000)
    claim = await bus.claim(entry)
    batch = [LaneToken(0, 0, (1,), "a", 0), LaneToken(1, 0, (2,), "b", 0)]
    for _ in range(3):
        await bus.append(entry, claim.attempt, 1, batch)
    assert [event for event in await house.events() if isinstance(event, LaneToken)] == batch
    assert await bus.check(entry, claim.attempt) == (1, set())


async def test_an_old_attempt_can_no_longer_write(house):
    await house.start("x")
    bus = WorkerBus(house.redis, "w", [fake.BASE])
    await bus.open_queues()
    (entry,) = await bus.take(block_ms=1000)
    old = await bus.claim(entry)
    new = await bus.claim(entry)
    assert (old.attempt, new.attempt, new.failures) == (1, 2, 1)
    with pytest.raises(Fenced):
        await bus.append(entry, old.attempt, 1, [LaneToken(0, 0, (1,), "a", 0)])
    assert len(await house.events()) == 1


async def test_a_worker_that_leaves_politely_does_not_count_as_a_failure(house):
    await house.worker("one", delay=20)
    await house.start("[[long]]", max_tokens=40)
    for name in ("two", "three", "four"):
        await until(lambda: _at_least(house, 1))
        await house.leave(next(iter(house.tasks)))
        await house.worker(name, delay=20)
    await until(lambda: house.ended(0, 1))
    assert isinstance((await house.events(0))[-1], LaneDone)


async def test_what_the_bus_has_lost_is_said_again(house):
    await house.worker("one", delay=10)
    await house.start("[[long]]", max_tokens=60, seed=3)
    await until(lambda: _at_least(house, 20))
    await _lose(house, batches=8)
    await until(lambda: house.ended(0, 1))
    for lane in (0, 1):
        indexes = [event.index for event in await house.events(lane) if isinstance(event, LaneToken)]
        assert indexes == list(range(60))


async def _lose(house: House, batches: int) -> None:
    """Put run and log back to where they were some batches ago, as a bus does that died before writing, in one go."""
    script = house.redis.register_script("""
        local written = tonumber(redis.call('HGET', KEYS[1], 'batch:0,1'))
        local keep = tonumber(redis.call('HGET', KEYS[1], 'seq')) - 2 * ARGV[1]
        local entries = redis.call('XRANGE', KEYS[2], '-', keep .. '-0')
        redis.call('DEL', KEYS[2])
        for _, entry in ipairs(entries) do redis.call('XADD', KEYS[2], entry[1], entry[2][1], entry[2][2]) end
        redis.call('HSET', KEYS[1], 'seq', keep, 'batch:0,1', written - ARGV[1])
    """)
    await script(keys=[log.run_key(RUN), log.log_key(RUN)], args=[batches])
    await house.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def test_stop_ends_one_lane_and_the_other_goes_on(house):
    await house.worker("one", delay=10)
    await house.start("[[long]]", max_tokens=80)
    await until(lambda: _at_least(house, 5))
    assert await house.stop(0) == 3
    await until(lambda: house.ended(0))
    first = await house.events(0)
    assert isinstance(first[-1], LaneStopped) and text_of(first)
    assert first[-1].figures.completion_tokens == sum(isinstance(event, LaneToken) for event in first)
    assert await house.stop(0) == 1, "twice is no error and changes nothing"
    await until(lambda: house.ended(1))
    assert await house.events(0) == first
    assert len([event for event in await house.events(1) if isinstance(event, LaneToken)]) == 80


async def test_stop_before_any_worker_claims_ends_the_lane_at_once_and_for_good(house):
    await house.start("[[long]]", max_tokens=5)
    assert await house.stop(0) == 2
    await house.worker("late")
    await until(lambda: house.ended(0, 1))
    assert [type(event) for event in await house.events(0)] == [LaneStopped]
    assert isinstance((await house.events(1))[-1], LaneDone)


async def test_a_stop_that_nobody_heard_is_found_when_the_line_is_back(house):
    await house.worker("one", delay=10)
    await house.start("[[long]]", max_tokens=500)
    await until(lambda: _at_least(house, 5))
    await house.redis.hset(log.run_key(RUN), "stop:0", 1)  # marked, but the word was lost
    await house.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: house.ended(0))
    await house.stop(1)
    await until(lambda: house.ended(1))
    assert [type((await house.events(lane))[-1]) for lane in (0, 1)] == [LaneStopped, LaneStopped]


async def test_a_lane_run_again_is_answered_beside_the_first_take(house):
    await house.worker("one")
    await house.start("Once more", max_tokens=6, seed=1)
    await until(lambda: house.ended(0, 1))
    assert await house.add(2, LaneSpec(fake.SHOUT), replaces=1) > 0
    await until(lambda: house.ended(2))
    assert text_of(await house.events(2)) == text_of(await house.events(1)) != ""


async def test_a_part_that_killed_two_workers_is_failed(house):
    await house.start("x")
    bus = WorkerBus(house.redis, "w", [fake.BASE])
    await bus.open_queues()
    (entry,) = await bus.take(block_ms=1000)
    await bus.claim(entry)
    await bus.claim(entry)
    await house.worker("third")  # "w" gave no sign of life, so its entry is taken over
    await until(lambda: house.ended(0, 1))
    assert [event.error.code for event in await house.events() if isinstance(event, LaneFailed)] == [
        "worker_crashed",
        "worker_crashed",
    ]


async def test_a_model_that_was_removed_meanwhile_fails_its_lane_alone(house):
    await house.start("x", lanes=(LaneSpec(fake.BASE), LaneSpec("ft:fake-base:gone")), max_tokens=4)
    await house.worker("one")
    await until(lambda: house.ended(0, 1))
    assert isinstance((await house.events(0))[-1], LaneDone)
    assert (await house.events(1))[-1].error.code == "model_not_found"


async def test_more_runs_than_slots_wait_on_the_bus_and_are_all_answered(house):
    runs = [f"{n:032x}" for n in range(6)]
    await house.worker("one", slots=2)
    for run in runs:
        await house.start("Queue", run=run, max_tokens=4)
    for run in runs:
        await until(lambda run=run: house.ended(0, 1, run=run))


async def test_a_bus_that_forgot_everything_is_served_again(house):
    await house.worker("one")
    await house.redis.flushall()
    await until(lambda: house.redis.exists(log.MODELS), 10)
    await house.start("After the flood", max_tokens=4)
    await until(lambda: house.ended(0, 1))


async def test_models_that_a_host_no_longer_has_are_taken_out_of_the_list(house):
    gone = ModelInfo(
        "ft:fake-base:old", "Old", base=fake.BASE, host=Worker.__init__.__globals__["socket"].gethostname()
    )
    elsewhere = ModelInfo("far", "Far", host="another-host")
    await house.redis.hset(log.MODELS, mapping={m.id: msgspec.json.encode(m) for m in (gone, elsewhere)})
    await house.worker("one")
    assert set(await house.redis.hkeys(log.MODELS)) == {fake.BASE.encode(), fake.SHOUT.encode(), b"far"}


# Turns and places -----------------------------------------------------------------------------------------------------


def run_id(n: int) -> str:
    return f"{n:032x}"


async def began(house: House, *runs: str) -> list[str]:
    """Runs in the order in which their first lanes began."""
    at = {}
    for run in runs:
        at[run] = next(event.at for event in await house.events(0, run=run) if isinstance(event, LaneStarted))
    return sorted(runs, key=lambda run: at[run])


async def test_many_runs_of_one_owner_keep_nobody_elses_single_lane_waiting(house):
    await house.worker("one", slots=2, delay=2)
    runs = [run_id(n) for n in range(13)]
    for run in runs[:12]:
        await house.start("[[long]]", BOTH[:1], run=run, owner="a", max_tokens=20)
    await until(lambda: _at_least_in(house, runs[1], 1))
    await house.start("[[long]]", BOTH[:1], run=runs[12], owner="b", max_tokens=20)
    for run in runs:
        await until(lambda run=run: house.ended(0, run=run))
    order = await began(house, *runs)
    assert order.index(runs[12]) <= 5, "about the next that began after it came, with 12 runs before it"


async def _at_least_in(house: House, run: str, count: int) -> bool:
    return sum(isinstance(event, LaneToken) for event in await house.events(0, run=run)) >= count


async def test_a_lane_of_another_owner_is_next_before_the_lanes_that_wait_inside_the_worker(house):
    await house.worker("one", slots=1, delay=2)
    await house.start("[[long]]", BOTH[:1] * 6, run=run_id(1), owner="a", max_tokens=150)
    await until(lambda: _at_least_in(house, run_id(1), 1))
    await house.start("[[long]]", BOTH[:1], run=run_id(2), owner="b", max_tokens=2)
    await until(lambda: house.ended(0, run=run_id(2)))
    assert not await house.ended(2, run=run_id(1)), "one of six lanes ended, perhaps two, before it had its turn"


async def test_whose_run_it_is_reaches_the_engine_and_lanes_that_are_added_later(house):
    worker = await house.worker("one")
    asked = []
    engine = worker.engines[0]
    submit = engine.submit
    engine.submit = lambda *requests: (asked.extend(requests), submit(*requests))[1]
    await house.start("Mine", owner="p7", max_tokens=3)
    await until(lambda: house.ended(0, 1))
    await house.add(2, LaneSpec(fake.SHOUT), replaces=1)
    await until(lambda: house.ended(2))
    assert [(request.lane, request.owner) for request in asked] == [(0, "p7"), (1, "p7"), (2, "p7")]


async def test_lanes_that_no_worker_has_taken_are_told_their_place_and_each_change_once(house):
    await house.worker("one", slots=1, delay=3)
    await house.worker("two", slots=1, delay=3)
    runs = [run_id(n) for n in range(5)]
    for run in runs:
        await house.start("[[long]]", BOTH[:1], run=run, max_tokens=900)
    last = runs[-1]
    await until(lambda: _told(house, last, 3))
    for run in runs[:2]:
        script = house.redis.register_script(log.STOP)
        keys = [log.run_key(run), log.log_key(run), log.ENDED]
        await script(keys=keys, args=[0, encode(LaneStopped(0, Figures(), 0)), run, log.STOPS])
    await until(lambda: _told(house, last, 1))
    places = [event.position for event in await house.events(0, run=last) if isinstance(event, LaneQueued)]
    assert places == sorted(set(places), reverse=True), "both workers are full, and only one of them tells"
    for name in list(house.tasks):
        await house.leave(name)


async def _told(house: House, run: str, position: int) -> bool:
    told = [event.position for event in await house.events(0, run=run) if isinstance(event, LaneQueued)]
    return bool(told) and told[-1] == position


async def test_a_lane_that_was_taken_or_has_ended_is_told_no_place(house):
    bus = WorkerBus(house.redis, "w", [fake.BASE])
    await bus.open_queues()
    for n in range(3):
        await house.start("x", run=run_id(n))
    (first,) = await bus.take(block_ms=1000)
    script = house.redis.register_script(log.STOP)
    keys = [log.run_key(run_id(1)), log.log_key(run_id(1)), log.ENDED]
    await script(keys=keys, args=[0, encode(LaneStopped(0, Figures(), 0)), run_id(1), log.STOPS])
    await bus.claim(first)
    for _ in range(2):
        await bus.tell_places(QUEUE, before=4)
    told = {
        n: [
            (event.lane, event.position) for event in await house.events(run=run_id(n)) if isinstance(event, LaneQueued)
        ]
        for n in range(3)
    }
    assert told == {0: [], 1: [(1, 6)], 2: [(0, 7), (1, 8)]}
    other = WorkerBus(house.redis, "other", [fake.BASE])
    await other.tell_places(QUEUE, before=0)
    assert len(await house.events(run=run_id(2))) == 3, "another worker does not contradict the one that tells"


async def test_an_entry_is_taken_by_one_worker_alone(house):
    buses = [WorkerBus(house.redis, f"w{n}", [fake.BASE]) for n in range(4)]
    await buses[0].open_queues()
    for n in range(8):
        await house.start("x", run=run_id(n))
    taken = [await asyncio.gather(*(bus.take(block_ms=10) for bus in buses)) for _ in range(3)]
    runs = [entry.run for round_ in taken for found in round_ for entry in found]
    assert sorted(runs) == [run_id(n) for n in range(8)]
    mine = [entry.run for bus in buses for entry in await bus.mine()]
    assert sorted(mine) == sorted(runs)
