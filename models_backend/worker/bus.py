"""The worker's window to the bus: queue entries in, events out. Every call may raise redis.exceptions.RedisError."""

import asyncio
import time
from dataclasses import dataclass

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from models_backend.protocol import log
from models_backend.protocol.events import ENDS, Event, LaneEvent, decode, encode
from models_backend.protocol.runs import RunSpec
from models_backend.protocol.workers import DEAD_AFTER_SECONDS, Heartbeat, ModelInfo


class Fenced(Exception):
    """Another worker owns the part now; whatever this one still has to say of it is void."""


class Gap(Exception):
    """The bus has lost what was written before; it has to be said again first."""


class Gone(Exception):
    """The run is no longer on the bus."""


@dataclass(frozen=True)
class Entry:
    """One entry of a queue: the lanes of a run that share a base model. `part` names them, as in "0,1"."""

    queue: str
    id: str
    run: str
    part: str

    @property
    def base(self) -> str:
        return self.queue.removeprefix(log.queue_key(""))

    @property
    def lanes(self) -> list[int]:
        return [int(lane) for lane in self.part.split(",")]


@dataclass(frozen=True)
class Claim:
    """A part that is now ours. `failures` counts the owners before us who vanished without a word."""

    attempt: int
    failures: int
    spec: RunSpec
    ended: set[int]
    stopped: set[int]
    events: list[Event]


class WorkerBus:
    def __init__(self, redis: Redis, worker: str, bases: list[str]) -> None:
        self.redis = redis
        self.worker = worker
        self.queues: list[str] = []
        self.serve(bases)
        self._claim = redis.register_script(log.CLAIM)
        self._append = redis.register_script(log.APPEND)
        self._check = redis.register_script(log.CHECK)
        self._release = redis.register_script(log.RELEASE)

    def serve(self, bases: list[str]) -> None:
        """From now on take lanes of these bases; new ones need `open_queues`."""
        self.queues = [log.queue_key(base) for base in bases]

    # queue -----------------------------------------------------------------------------------------------------

    async def open_queues(self) -> None:
        for queue in self.queues:
            try:
                await self.redis.xgroup_create(queue, log.QUEUE_GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def take(self, block_ms: int) -> list[Entry]:
        """Wait up to `block_ms` for a new entry of any of our queues."""
        if not self.queues:  # a server elsewhere has not told its models yet
            await asyncio.sleep(block_ms / 1000)
            return []
        streams = dict.fromkeys(self.queues, ">")
        answer = await self.redis.xreadgroup(log.QUEUE_GROUP, self.worker, streams, count=1, block=block_ms)
        return [_entry(queue, id_, fields) for queue, entries in _pairs(answer) for id_, fields in entries]

    async def mine(self) -> list[Entry]:
        """Entries that this worker took and has not finished, as the bus remembers them."""
        if not self.queues:
            return []
        answer = await self.redis.xreadgroup(log.QUEUE_GROUP, self.worker, dict.fromkeys(self.queues, "0"), count=1000)
        return [_entry(queue, id_, fields) for queue, entries in _pairs(answer) for id_, fields in entries if fields]

    async def rescue(self, room: int) -> list[Entry]:
        """Take over up to `room` entries of workers that have stopped living."""
        rescued: list[Entry] = []
        for queue in self.queues:
            for consumer in await self.redis.xinfo_consumers(queue, log.QUEUE_GROUP):
                name = consumer["name"].decode()
                if name == self.worker or await self.redis.exists(log.worker_key(name)):
                    continue
                if consumer["pending"] == 0:
                    await self.redis.xgroup_delconsumer(queue, log.QUEUE_GROUP, name)
                    continue
                pending = await self.redis.xpending_range(
                    queue, log.QUEUE_GROUP, "-", "+", room - len(rescued), consumername=name
                )
                ids = [entry["message_id"] for entry in pending]
                if not ids:
                    continue
                # The idle time is the lock: claiming sets it to 0, so that of two rescuers only one succeeds.
                entries = await self.redis.xclaim(queue, log.QUEUE_GROUP, self.worker, 500, ids)
                rescued += [_entry(queue.encode(), id_, fields) for id_, fields in entries if fields]
                if len(rescued) >= room:
                    return rescued
        return rescued

    async def finish(self, entry: Entry) -> None:
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.xack(entry.queue, log.QUEUE_GROUP, entry.id)
            pipe.xdel(entry.queue, entry.id)
            await pipe.execute()

    # runs ------------------------------------------------------------------------------------------------------

    async def claim(self, entry: Entry) -> Claim:
        answer = await self._claim(keys=[log.run_key(entry.run)], args=[entry.part])
        if answer == log.GONE:
            raise Gone(entry.run)
        attempt, released, spec, *states = answer
        rows = await self.redis.xrange(log.log_key(entry.run))
        facts = list(zip(entry.lanes, states[::2], states[1::2], strict=True))
        return Claim(
            attempt=attempt,
            failures=attempt - 1 - released,
            spec=msgspec.json.decode(spec, type=RunSpec),
            ended={lane for lane, state, _ in facts if state == b"ended"},
            stopped={lane for lane, _, stop in facts if stop},
            events=[decode(fields[log.FIELD.encode()]) for _, fields in rows],
        )

    async def append(self, entry: Entry, attempt: int, batch: int, events: list[LaneEvent]) -> None:
        """Write one batch, once, however often it is sent. Raises Fenced, Gone or Gap."""
        args: list[str | int | bytes] = [entry.part, attempt, batch, log.KEEP_SECONDS, entry.run]
        for event in events:
            args += [event.lane, int(isinstance(event, ENDS)), encode(event)]
        keys = [log.run_key(entry.run), log.log_key(entry.run), log.ENDED]
        _raise(await self._append(keys=keys, args=args), entry)

    async def check(self, entry: Entry, attempt: int) -> tuple[int, set[int]]:
        """Return how many of our batches are written, and which lanes were told to stop. Raises Fenced or Gone."""
        answer = await self._check(keys=[log.run_key(entry.run)], args=[entry.part, attempt])
        _raise(answer, entry)
        batches, *stops = answer
        return batches, {lane for lane, stop in zip(entry.lanes, stops, strict=True) if stop}

    async def release(self, entry: Entry, attempt: int) -> None:
        await self._release(keys=[log.run_key(entry.run)], args=[entry.part, attempt])

    # presence --------------------------------------------------------------------------------------------------

    async def beat(self, heartbeat: Heartbeat) -> None:
        now = time.time()
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.set(log.worker_key(self.worker), msgspec.json.encode(heartbeat), ex=DEAD_AFTER_SECONDS)
            pipe.zadd(log.WORKERS, {self.worker: now})
            pipe.zremrangebyscore(log.WORKERS, 0, now - 60)
            await pipe.execute()

    async def leave(self) -> None:
        """Be dead at once, so that nobody waits for the heartbeat to run out."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.delete(log.worker_key(self.worker))
            pipe.zrem(log.WORKERS, self.worker)
            await pipe.execute()

    async def publish_models(self, models: list[ModelInfo], host: str) -> None:
        """Make the list of models true: ours are written, those that this host no longer has are taken out.

        What another living worker of this host serves stays: it may have other engines.
        """
        ids = {model.id for model in models} | await self._served_beside(host)
        known = await self.redis.hgetall(log.MODELS)
        stale = [
            id_
            for id_, raw in known.items()
            if id_.decode() not in ids and msgspec.json.decode(raw, type=ModelInfo).host == host
        ]
        async with self.redis.pipeline(transaction=True) as pipe:
            if stale:
                pipe.hdel(log.MODELS, *stale)
            if models:
                pipe.hset(log.MODELS, mapping={model.id: msgspec.json.encode(model) for model in models})
            await pipe.execute()

    async def _served_beside(self, host: str) -> set[str]:
        names = [name.decode() for name in await self.redis.zrange(log.WORKERS, 0, -1)]
        others = [log.worker_key(name) for name in names if name != self.worker]
        raws = await self.redis.mget(others) if others else []
        beats = [msgspec.json.decode(raw, type=Heartbeat) for raw in raws if raw is not None]
        return {model for beat in beats if beat.host == host for model in beat.models}


def _raise(answer: object, entry: Entry) -> None:
    if answer == log.FENCED:
        raise Fenced(f"{entry.run} {entry.part}")
    if answer == log.GONE:
        raise Gone(entry.run)
    if answer == log.GAP:
        raise Gap(entry.run)


def _entry(queue: bytes, id_: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(queue.decode(), id_.decode(), fields[b"run"].decode(), fields[b"lanes"].decode())


def _pairs(answer: object) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """XREADGROUP answers a list in RESP2 and a dict of lists in RESP3."""
    if isinstance(answer, dict):
        return [(queue, [row for rows in batches for row in rows]) for queue, batches in answer.items()]
    return list(answer or [])  # type: ignore[call-overload,no-any-return]
