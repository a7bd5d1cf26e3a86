"""From a run on the bus to its log, through a worker that has a server elsewhere, beside models of its own or alone."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from redis.asyncio import Redis

from models_backend.config import Settings
from models_backend.engine import EngineError
from models_backend.protocol import log
from models_backend.protocol.events import LaneStopped, RunCreated, encode
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Chat, LaneSpec, Message, RunSpec
from models_backend.protocol.workers import Heartbeat, ModelInfo
from models_backend.worker.engines import open_engines
from models_backend.worker.worker import Worker
from playground.runs import replay
from tests.stack import free_port

from .upstream import TEXT, TUNED, WORDS, Fault

RUN = "0123456789abcdef" * 2
FAKE = "fake-base"


class Bus:
    """Starts workers and speaks to the bus as the web does."""

    def __init__(self, redis: Redis, home) -> None:
        self.redis = redis
        self.home = home
        self.workers: dict[str, tuple[asyncio.Task, asyncio.Event, Redis, Worker]] = {}

    async def worker(self, name: str, **facts) -> Worker:
        settings = Settings(home=self.home, **{"engine": "fake", "model": FAKE, **facts})
        redis = Redis(unix_socket_path=self.redis.connection_pool.connection_kwargs["path"])
        worker = Worker(settings, open_engines(settings, name), redis, name)
        quit_ = asyncio.Event()
        self.workers[name] = (asyncio.create_task(worker.run(quit_)), quit_, redis, worker)
        await until(lambda: self._exists(name))
        return worker

    async def leave(self, name: str) -> None:
        task, quit_, redis, _ = self.workers.pop(name)
        quit_.set()
        await asyncio.wait_for(task, 20)
        await redis.aclose()

    async def _exists(self, name: str) -> bool:
        return bool(await self.redis.exists(log.worker_key(name)))

    async def beat(self, name: str) -> Heartbeat:
        return msgspec.json.decode(await self.redis.get(log.worker_key(name)), type=Heartbeat)

    async def models(self) -> dict[str, ModelInfo]:
        rows = await self.redis.hgetall(log.MODELS)
        return {id_.decode(): msgspec.json.decode(raw, type=ModelInfo) for id_, raw in rows.items()}

    async def serves(self, *ids: str) -> bool:
        models = await self.models()
        return all(id_ in models and (id_ == FAKE or models[id_].loaded) for id_ in ids)

    async def start(self, *lanes: LaneSpec, **params) -> None:
        spec = RunSpec(Chat((Message("user", "Tell me."),)), lanes, Params(**params))
        models = await self.models()
        queues: dict[str, list[str]] = {}
        for index, lane in enumerate(lanes):
            queues.setdefault(models[lane.model].queue, []).append(str(index))
        script = self.redis.register_script(log.START)
        keys = [log.run_key(RUN), log.log_key(RUN), *map(log.queue_key, queues)]
        args = [msgspec.json.encode(spec), encode(RunCreated(RUN, spec, 0)), 1000, RUN, len(lanes)]
        assert await script(keys=keys, args=[*args, *(",".join(part) for part in queues.values())]) == 1

    async def stop(self, lane: int) -> None:
        script = self.redis.register_script(log.STOP)
        event = encode(LaneStopped(lane, replay.Figures(), 0))
        await script(keys=[log.run_key(RUN), log.log_key(RUN), log.ENDED], args=[lane, event, RUN, log.STOPS])

    async def state(self) -> replay.RunState:
        rows = await self.redis.xrange(log.log_key(RUN))
        return replay.replay((number, fields[b"e"]) for number, (_, fields) in enumerate(rows, 1))

    async def ended(self, lanes: int) -> bool:
        return sum(lane.state in replay.ENDED for lane in (await self.state()).lanes) == lanes


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def wire(bus, valkey, tmp_path) -> AsyncIterator[Bus]:
    redis = Redis(unix_socket_path=valkey)
    found = Bus(redis, tmp_path)
    yield found
    for name in list(found.workers):
        await found.leave(name)
    await redis.aclose()


async def test_one_run_has_a_remote_lane_beside_one_of_this_machine(house, wire):
    server = house.server("vllm")
    await wire.worker("one", remote_url=server.url)
    await until(lambda: wire.serves(FAKE, "remote/meta/base", f"remote/{TUNED}"))
    await wire.start(LaneSpec(f"remote/{TUNED}"), LaneSpec(FAKE), LaneSpec("remote/meta/base"), max_tokens=30)
    await until(lambda: wire.ended(3))
    far, near, base = (await wire.state()).lanes
    assert (far.text, far.tokens, far.base, far.device) == (TEXT, len(WORDS), "remote/meta/base", "remote (vllm)")
    assert (base.text, near.state, near.base) == (TEXT, "done", FAKE)
    assert near.text and near.text != TEXT


async def test_a_worker_that_has_nothing_but_a_server_is_ready_when_that_answers(house, wire):
    port = free_port()
    await wire.worker("one", engine="remote", remote_url=f"http://127.0.0.1:{port}")
    await until(lambda: _notes(wire, "nobody listens"))
    assert not (await wire.beat("one")).ready
    house.server("ollama", port)
    await until(lambda: wire.serves("llama3:8b"))
    await until(lambda: _ready(wire))
    await wire.start(LaneSpec("llama3:8b"))
    await until(lambda: wire.ended(1))
    assert (await wire.state()).lanes[0].text == TEXT


async def _notes(wire, words):
    return words in (await wire.beat("one")).note


async def _ready(wire):
    beat = await wire.beat("one")
    return beat.ready and beat.models == ("llama3:8b",) and beat.note == ""


async def test_a_remote_model_may_be_the_default_that_makes_a_worker_ready(house, wire):
    server = house.server("vllm")
    await wire.worker("one", model="remote/meta/base", remote_url=server.url)
    await until(lambda: _is_ready(wire))
    assert (await wire.beat("one")).device == "remote (vllm)"


async def _is_ready(wire):
    return (await wire.beat("one")).ready


async def test_another_worker_goes_on_with_a_remote_answer_where_the_log_ends(house, wire):
    server = house.server("openai")
    server.faults.append(Fault(after=4, hang=True))
    first = await wire.worker("first", engine="remote", remote_url=server.url)
    await until(lambda: wire.serves("big"))
    await wire.start(LaneSpec("big"))
    await until(lambda: _said(wire, 4))
    first.bus.append = _never  # what it says from now on reaches nobody: as good as dead
    first.bus.beat = _never
    await wire.redis.delete(log.worker_key("first"))
    server.models[0]["owned_by"] = "llamacpp"  # a kind that goes on with a chat answer
    await wire.worker("second", engine="remote", remote_url=server.url)
    await until(lambda: wire.ended(1))
    (lane,) = (await wire.state()).lanes
    assert (lane.text, lane.tokens, lane.state, lane.attempt) == (TEXT, len(WORDS), "done", 2)
    assert server.asked[-1].body["messages"][-1] == {"role": "assistant", "content": "".join(WORDS[:4])}


async def _said(wire, tokens):
    return (await wire.state()).lanes[0].tokens >= tokens


async def _never(*_: object) -> None:
    await asyncio.Event().wait()


async def test_stop_reaches_the_server(house, wire):
    server = house.server("vllm")
    server.endless = True
    await wire.worker("one", engine="remote", remote_url=server.url)
    await until(lambda: wire.serves("meta/base"))
    await wire.start(LaneSpec("meta/base"), max_tokens=8000)
    await until(lambda: _said(wire, 5))
    await wire.stop(0)
    await until(lambda: wire.ended(1))
    (lane,) = (await wire.state()).lanes
    assert (lane.state, lane.figures.completion_tokens) == ("stopped", lane.tokens)
    assert await asyncio.to_thread(server.gone.wait, 10)


async def test_a_hanging_server_holds_up_no_other_engine(house, wire):
    server = house.server("vllm")
    server.faults.append(Fault(after=0, hang=True))
    worker = await wire.worker("one", remote_url=server.url)
    await until(lambda: wire.serves(FAKE, "remote/meta/base"))
    await wire.start(LaneSpec("remote/meta/base"), LaneSpec(FAKE), max_tokens=20)
    await until(lambda: _states(wire, "running", "done"))
    steps = []
    for engine in worker.engines:
        whole = engine.step
        engine.step = lambda whole=whole: steps.append(1) or whole()
    await asyncio.sleep(0.3)
    assert steps == [], "an engine that waits for its server is not stepped"


async def _states(wire, *states):
    return tuple(lane.state for lane in (await wire.state()).lanes) == states


async def test_two_workers_of_one_machine_do_not_take_each_others_models_away(house, wire):
    server = house.server("vllm")
    await wire.worker("far", engine="remote", remote_url=server.url)
    await until(lambda: wire.serves("meta/base"))
    await wire.worker("near")
    await until(lambda: wire.serves(FAKE, "meta/base"))
    await wire.leave("far")
    await wire.leave("near")
    await wire.worker("later")
    await until(lambda: _only(wire, FAKE))


async def _only(wire, base):
    return {model.queue for model in (await wire.models()).values()} == {base}


async def test_a_model_that_its_server_no_longer_has_is_told_to_who_asked_for_it(house, wire, monkeypatch):
    from models_backend.remote import engine as room

    monkeypatch.setattr(room, "LOOK_SECONDS", 0.05)
    server = house.server("vllm")
    await wire.worker("one", engine="remote", remote_url=server.url)
    await until(lambda: wire.serves("meta/base", TUNED))
    server.models = server.models[:1]
    models = await wire.models()
    await until(lambda: _gone(wire, TUNED))
    wire.models = lambda: _as(models)
    await wire.start(LaneSpec(TUNED))
    await until(lambda: wire.ended(1))
    assert (await wire.state()).lanes[0].error.code == "model_not_found"


async def _gone(wire, id_):
    return id_ not in await wire.models()


async def _as(value):
    return value


def test_a_worker_with_remote_engines_alone_loads_no_model_library(tmp_path):
    code = (
        "import sys\n"
        "from models_backend.worker import serve\n"
        "from models_backend.worker.engines import open_engines\n"
        "from models_backend.config import Settings\n"
        "assert len(open_engines(Settings(), 'w')) == 1\n"
        "print(sorted({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)))\n"
    )
    env = {"DIPTYCH_ENGINE": "remote", "DIPTYCH_REMOTE_URL": "http://127.0.0.1:1", "DIPTYCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_wrong_settings_are_an_error_in_words(tmp_path):
    with pytest.raises(EngineError, match="DIPTYCH_REMOTE_URL"):
        open_engines(Settings(home=tmp_path, engine="remote"), "w")
