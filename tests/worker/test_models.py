"""Models that come and go while a worker runs: announced, served, withdrawn, without a new start."""

import asyncio

import msgspec

from models_backend.protocol import log
from models_backend.protocol.events import LaneDone, LaneFailed, LaneStarted
from models_backend.protocol.runs import LaneSpec
from models_backend.protocol.workers import ModelInfo
from models_backend.text import fake
from tests.worker.test_worker import House, house, until

__all__ = ["house"]  # the fixture

NEW = ModelInfo("ft:fake-base:new", "New", base=fake.BASE)


async def announced(house: House) -> dict[str, ModelInfo]:
    raws = await house.redis.hgetall(log.MODELS)
    return {id.decode(): msgspec.json.decode(raw, type=ModelInfo) for id, raw in raws.items()}


async def test_a_new_model_is_announced_and_served_and_withdrawn_when_it_is_gone(house):
    worker = await house.worker("one")
    [engine] = worker.engines
    shout = fake.INFOS[1]

    async def there() -> bool:
        return NEW.id in await announced(house)

    async def gone() -> bool:
        return not await there()

    await asyncio.to_thread(engine.know, [shout, NEW])
    await until(there)
    await house.start("Tell me a story", (LaneSpec(NEW.id),), max_tokens=5)
    await until(lambda: house.ended(0))
    assert isinstance((await house.events(0))[-1], LaneDone)
    assert (await announced(house))[NEW.id].context == fake.CONTEXT

    await house.start("[[long]]", (LaneSpec(NEW.id),), run="1" * 32, max_tokens=300)
    await until(lambda: began(house, "1" * 32))
    await asyncio.to_thread(engine.know, [shout])
    await asyncio.sleep(0)
    assert await there(), "a row still uses it"
    await until(lambda: house.ended(0, run="1" * 32))
    assert isinstance((await house.events(0, run="1" * 32))[-1], LaneDone)
    await until(gone)
    await house.start("Too late", (LaneSpec(NEW.id),), run="2" * 32)
    await until(lambda: house.ended(0, run="2" * 32))
    failed = (await house.events(0, run="2" * 32))[-1]
    assert isinstance(failed, LaneFailed) and failed.error.code == "model_not_found"


async def began(house: House, run: str) -> bool:
    return any(isinstance(event, LaneStarted) for event in await house.events(0, run=run))


async def test_a_model_that_another_worker_saw_first_is_looked_for(house):
    """Its folder lies there, but this worker has not looked since."""
    worker = await house.worker("one")
    [engine] = worker.engines
    looked = []

    def look() -> None:
        looked.append(NEW.id)
        engine.know([fake.INFOS[1], NEW])

    engine.look = look
    await house.start("Tell me a story", (LaneSpec(fake.BASE), LaneSpec(NEW.id)), max_tokens=5)
    await until(lambda: house.ended(0, 1))
    assert looked == [NEW.id]
    for lane in (0, 1):
        assert isinstance((await house.events(lane))[-1], LaneDone)
