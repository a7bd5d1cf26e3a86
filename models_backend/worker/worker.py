"""The worker's loops: live, claim, compute, publish, listen for Stop, take over from the dead.

Nothing here is kept that the bus could not give back: a worker that is killed loses no more than the step it was in.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models_backend.config import Settings
from models_backend.engine import Engine
from models_backend.protocol.events import ENDS, Error, Figures, LaneEvent, LaneFailed
from models_backend.protocol.log import STOPS, queue_key
from models_backend.protocol.workers import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS, Heartbeat, ModelInfo

from .bus import Fenced, Gap, Gone, WorkerBus
from .engine_thread import EngineThread, Events
from .entry import Entry
from .part import Part
from .resume import plan
from .turns import Room

logger = logging.getLogger("diptych.worker")
BROKEN = (RedisError, OSError)


class Worker:
    def __init__(self, settings: Settings, engines: Mapping[str, Engine], redis: Redis, name: str) -> None:
        self.name = name
        self.engines = list(engines.values())
        self.host = socket.gethostname()
        self.bus = WorkerBus(redis, name, [])
        self.base_of: dict[str, str] = {}  # by model; engines find and lose models while they run
        self.engine_of: dict[str, Engine] = {}  # by base
        self.default: Engine | None = None  # whose model makes this worker ready
        self.default_model = settings.model
        self.engine_kind = settings.engine
        self._know_models()
        self.parts: dict[tuple[str, int], Part] = {}  # by run and lane
        self.started_at = time.time()
        self._dirty = asyncio.Event()  # something to publish
        self._room = asyncio.Event()  # a lane has ended
        self._models = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._mending = asyncio.Lock()
        self._generation = 0  # counts the times the bus came back
        self._rescue_from = 0.0
        # Last, for engines begin to call as soon as they are listened to.
        self.thread = EngineThread(self.engines, self.default, self._deliver, self._models_changed, self._died)

    async def run(self, quit_: asyncio.Event) -> None:
        """Work until `quit_` is set, then leave politely. Raises what killed the engine thread, if anything did."""
        await self._mend(0)
        self.thread.start()
        loops = [
            asyncio.create_task(self._forever(step))
            for step in (self._beat, self._take, self._publish, self._announce, self._listen, self._rescue)
        ]
        quitting = asyncio.create_task(quit_.wait())
        await asyncio.wait({quitting, self._failure, *loops}, return_when=asyncio.FIRST_COMPLETED)
        ending = {quitting, *loops}
        while ending:  # up to Python 3.11 wait_for, which redis-py sends with, may swallow a cancellation: say it again
            for task in ending:
                task.cancel()
            _, ending = await asyncio.wait(ending, timeout=0.05)
        if self._failure.done():
            self._failure.result()
        for task in loops:
            if not task.cancelled() and task.exception():
                raise task.exception()  # type: ignore[misc]
        await self._leave()

    async def _leave(self) -> None:
        self.thread.close()
        await asyncio.to_thread(self.thread.join)
        for engine in self.engines:
            engine.close()
        await asyncio.sleep(0)  # let the last step's events arrive
        with contextlib.suppress(*BROKEN):
            await self._write_all()
            for part in set(self.parts.values()):
                await self.bus.release(part.entry, part.attempt)
            await self.bus.leave()

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat `step`; when the bus fails it, wait until the bus is back and our state on it is true again."""
        while True:
            generation = self._generation
            try:
                await step()
            except BROKEN as error:
                logger.warning("the bus does not answer (%s)", error)
                await asyncio.sleep(0.05)
                await self._mend(generation)

    async def _mend(self, seen: int) -> None:
        """Wait for the bus, then make it and us agree again. One loop does it, the others wait for it."""
        async with self._mending:
            if self._generation != seen:
                return
            delay = 0.05
            while True:
                try:
                    await self.bus.open_queues()
                    await self._beat_once()
                    await self.bus.publish_models(self._infos(), self.host)
                    await self._agree()
                    for entry in await self.bus.mine():
                        if not any(part.entry == entry for part in self.parts.values()):
                            await self._accept(entry)
                    break
                except BROKEN:
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 1.0)
            self._generation += 1
            # After a break the others, too, need time to say that they live.
            self._rescue_from = time.monotonic() + (DEAD_AFTER_SECONDS if self._generation > 1 else 0)
            self._dirty.set()

    async def _agree(self) -> None:
        for part in set(self.parts.values()):
            try:
                written, stops = await self.bus.check(part.entry, part.attempt)
            except (Fenced, Gone) as error:
                self._drop(part, error)
                continue
            part.written(written)
            self._stop(part, stops)

    async def _look_for_stops(self) -> None:
        """Find stops whose word was lost on its way, and parts that were taken from us."""
        for part in set(self.parts.values()):
            try:
                _, stops = await self.bus.check(part.entry, part.attempt)
            except (Fenced, Gone) as error:
                self._drop(part, error)
                continue
            self._stop(part, stops)

    def _stop(self, part: Part, lanes: set[int]) -> None:
        for lane in lanes & part.open:
            self.thread.stop(part.entry.run, lane)

    # live ------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        await self._beat_once()
        await self._look_for_stops()
        await self._tell_places()
        await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _beat_once(self) -> None:
        engines, default = self.engines, self.default
        trouble = "; ".join(engine.trouble for engine in engines if engine.trouble)
        await self.bus.beat(
            Heartbeat(
                worker=self.name,
                host=self.host,
                pid=os.getpid(),
                device=default.device if default is not None else "",
                engine=self.engine_kind,
                models=tuple(self.base_of),
                ready=default is not None and default.loaded and not default.trouble,
                running=sum(engine.running for engine in engines),
                waiting=sum(engine.waiting for engine in engines),
                slots=self._slots,
                started_at=self.started_at,
                at=time.time(),
                note=self.thread.note or trouble,
                cache_hits=sum(engine.cache_hits for engine in engines),
                cache_asked=sum(engine.cache_asked for engine in engines),
            )
        )

    async def _announce(self) -> None:
        await self._models.wait()
        self._models.clear()
        self._know_models()
        await self.bus.open_queues()
        await self.bus.publish_models(self._infos(), self.host)
        await self._beat_once()

    def _know_models(self) -> None:
        served = [(model, engine) for engine in self.engines for model in engine.models()]
        self.base_of = {model.id: model.queue for model, _ in served}
        self.engine_of = {model.queue: engine for model, engine in served}
        self.bus.serve(list(self.engine_of))
        if self.default is None:
            alone = self.engines[0] if self.engine_kind == "remote" and self.engines else None
            self.default = self.engine_of.get(self.base_of.get(self.default_model, ""), alone)

    def _infos(self) -> list[ModelInfo]:
        return [msgspec.structs.replace(model, host=self.host) for engine in self.engines for model in engine.models()]

    # claim -----------------------------------------------------------------------------------------------------

    @property
    def _slots(self) -> int:
        return sum(engine.slots for engine in self.engines)

    def _rooms(self) -> dict[str, Room]:
        """What can be taken in, by queue; counted in lanes that have not ended, which the engine may not know yet."""
        rooms = {}
        for engine in self.engines:
            bases = [base for base, one in self.engine_of.items() if one is engine]
            mine = [(lane, part) for (_, lane), part in self.parts.items() if part.entry.base in bases]
            lanes = sum(lane in part.open for lane, part in mine)
            waiting = frozenset(part.entry.owner for _, part in mine if part.waits)
            rooms |= {queue_key(base): Room(engine.slots - lanes, engine.slots, waiting) for base in bases}
        return rooms

    async def _take(self) -> None:
        self._room.clear()
        rooms = self._rooms()
        if not any(room.free > 0 or room.ahead for room in rooms.values()) and rooms:
            await self._room.wait()
            return
        # Where one of several engines is full its next free slot must not go unnoticed while another queue is read.
        block_ms = 1000 if all(room.free > 0 for room in rooms.values()) else 100
        for entry in await self.bus.take(block_ms, rooms):
            await self._accept(entry)

    async def _tell_places(self) -> None:
        """Who waits on the bus for an engine of ours that is full hears where in the queue that is."""
        for queue, room in self._rooms().items():
            if room.free <= 0:
                waiting = {part for part in self.parts.values() if part.entry.queue == queue}
                await self.bus.tell_places(queue, sum(part.waits for part in waiting))

    async def _rescue(self) -> None:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        room = self._slots - sum(len(part.open) for part in set(self.parts.values()))
        if room <= 0 or time.monotonic() < self._rescue_from:
            return
        for entry in await self.bus.rescue(room):
            logger.info("taking over run %s lanes %s", entry.run, entry.part)
            await self._accept(entry)

    async def _accept(self, entry: Entry) -> None:
        try:
            claim = await self.bus.claim(entry)
        except Gone:
            await self.bus.finish(entry)
            return
        part = Part(entry, claim.attempt, set(entry.lanes) - claim.ended)
        todo = plan(entry, claim, time.time() * 1000)
        for lane in part.open:
            self.parts[entry.run, lane] = part
        if not part.open:
            await self.bus.finish(entry)
            return
        for event in todo.events:
            self._receive([(entry.run, event)])
        if any(self.base_of.get(request.model) != entry.base for request in todo.requests):
            await self._look_again(entry.base)
        served = [request for request in todo.requests if self.base_of.get(request.model) == entry.base]
        for request in todo.requests:
            if request not in served:
                error = Error("model_not_found", f"No worker serves the model {request.model!r} any more.", "model")
                self._receive([(entry.run, LaneFailed(request.lane, error, Figures(), time.time() * 1000))])
        if served:
            self.thread.submit(self.engine_of[entry.base], served)

    async def _look_again(self, base: str) -> None:
        """Somebody asks for a model that is not known here: another worker may have seen its folder first."""
        engine = self.engine_of.get(base)
        if engine is not None:
            await asyncio.to_thread(engine.look)
            self._know_models()

    # publish ---------------------------------------------------------------------------------------------------

    def _deliver(self, events: Events) -> None:
        self._loop.call_soon_threadsafe(self._receive, events)

    def _receive(self, events: list[tuple[str, LaneEvent]]) -> None:
        for run, event in events:
            part = self.parts.get((run, event.lane))
            if part is not None:
                part.add(event)
                if isinstance(event, ENDS):
                    self._room.set()
        self._dirty.set()

    async def _publish(self) -> None:
        await self._dirty.wait()
        self._dirty.clear()
        await self._write_all()

    async def _write_all(self) -> None:
        for part in set(self.parts.values()):
            try:
                while batch := part.next_batch():
                    await self._write(part, *batch)
                if part.over:
                    await self.bus.finish(part.entry)
                    self._forget(part)
            except (Fenced, Gone) as error:
                self._drop(part, error)

    async def _write(self, part: Part, number: int, events: list[LaneEvent]) -> None:
        try:
            await self.bus.append(part.entry, part.attempt, number, events)
            part.written(number)
        except Gap:
            written, _ = await self.bus.check(part.entry, part.attempt)
            part.written(written)

    def _drop(self, part: Part, error: Exception) -> None:
        """The part is no longer ours to answer: stop computing it and say nothing."""
        logger.warning("run %s lanes %s: %s", part.entry.run, part.entry.part, type(error).__name__.lower())
        self._forget(part)
        for lane in part.entry.lanes:
            self.thread.stop(part.entry.run, lane)

    def _forget(self, part: Part) -> None:
        self.parts = {key: kept for key, kept in self.parts.items() if kept is not part}
        self._room.set()

    # stop ------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear of stops at once; a word that is lost is found with the next heartbeat."""
        async with self.bus.redis.pubsub() as channel:
            await channel.subscribe(STOPS)
            async for message in channel.listen():
                if message["type"] == "message":
                    run, lane = message["data"].decode().split()
                    if (run, int(lane)) in self.parts:
                        self.thread.stop(run, int(lane))

    # ends ------------------------------------------------------------------------------------------------------

    def _models_changed(self) -> None:
        self._loop.call_soon_threadsafe(self._models.set)

    def _died(self, error: BaseException) -> None:
        def fail() -> None:
            if not self._failure.done():
                self._failure.set_exception(error)

        self._loop.call_soon_threadsafe(fail)
