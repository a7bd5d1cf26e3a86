"""The worker's window to the bus: queue entries in, events out. Every call may raise redis.exceptions.RedisError."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from models_backend.protocol import log
from models_backend.protocol.events import ENDS, Event, LaneEvent, LaneQueued, decode, encode
from models_backend.protocol.runs import RunSpec
from models_backend.protocol.workers import DEAD_AFTER_SECONDS, Heartbeat, ModelInfo

from .entry import Entry
from .turns import SCAN, Queue, Room, choose, order

LATER_MS = 50  # until a part that is left to others is looked at again
TOLD = 100  # lanes at the head of a queue that are told their place
TELL_MS = 3000  # who has told places goes on doing so; another worker may when that one has not for so long


class Fenced(Exception):
    """Another worker owns the part now; whatever this one still has to say of it is void."""


class Gap(Exception):
    """The bus has lost what was written before; it has to be said again first."""


class Gone(Exception):
    """The run is no longer on the bus."""


@dataclass(frozen=True)
class Claim:
    """A part that is now ours. `failures` counts the owners before us who vanished without a word."""

    attempt: int
    failures: int
    spec: RunSpec
    ended: set[int]
    stopped: set[int]
    events: list[Event]
    owner: str = ""


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
        self._take = redis.register_script(log.TAKE)
        self._place = redis.register_script(log.PLACE)
        self._told: dict[str, dict[str, tuple[int, ...]]] = {}  # by queue and entry: the places last told

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

    async def take(self, block_ms: int, rooms: Mapping[str, Room] | None = None) -> list[Entry]:
        """Wait up to `block_ms` for an entry that there is room for, and make it ours; `rooms` by queue, None: plenty.

        Waits less if an entry will be ripe sooner. Of queues that `rooms` does not have nothing is taken.
        """
        if rooms is None:
            rooms = dict.fromkeys(self.queues, _PLENTY)
        newest: dict[str, str] = {}
        for name, room in rooms.items():
            if room.free <= 0 and not room.ahead:
                continue
            while True:
                queue = await self._look(name)
                entry, later = choose(queue, room)
                if entry is None or await self._make_ours(entry):
                    break  # else another worker was faster
            if entry is not None:
                return [entry]
            block_ms = min(block_ms, LATER_MS) if later else block_ms
            newest[name] = queue.newest
        if newest:
            await self.redis.xread(newest, block=max(1, block_ms))  # type: ignore[arg-type]
        else:  # a server elsewhere has not told its models yet, or there is no room anywhere
            await asyncio.sleep(block_ms / 1000)
        return []

    async def _make_ours(self, entry: Entry) -> bool:
        args = [log.QUEUE_GROUP, self.worker, entry.id, entry.owner, log.TURN_SECONDS]
        return bool(await self._take(keys=[entry.queue, log.turns_key(entry.queue)], args=args))

    async def _look(self, name: str) -> Queue:
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.xrange(name, count=SCAN)
            pipe.xrevrange(name, count=1)
            pipe.xpending_range(name, log.QUEUE_GROUP, "-", "+", SCAN)
            pipe.hgetall(log.turns_key(name))
            pipe.time()
            rows, last, pending, turns, (seconds, micros) = await pipe.execute()
        entries = [_entry(name.encode(), id_, fields) for id_, fields in rows]
        taken = {row["message_id"].decode() for row in pending}
        newest = last[0][0].decode() if last else "0-0"
        served = {owner.decode(): float(at) for owner, at in turns.items()}
        return Queue(entries, taken, seconds * 1000 + micros / 1000, newest, served)

    async def tell_places(self, name: str, before: int) -> None:
        """Tell lanes that no worker has taken where they are in this queue, `before` others being before them.

        One worker does this for a queue, so that they do not contradict each other.
        """
        key = log.teller_key(name)
        if not await self.redis.set(key, self.worker, nx=True, px=TELL_MS):
            if await self.redis.get(key) != self.worker.encode():
                return
            await self.redis.pexpire(key, TELL_MS)
        told: dict[str, tuple[int, ...]] = {}
        known = self._told.get(name, {})
        at = time.time() * 1000
        async with self.redis.pipeline(transaction=False) as pipe:
            place = before
            for entry in order(await self._look(name)):
                if place >= TOLD:
                    break
                told[entry.id] = tuple(range(place + 1, place + 1 + len(entry.lanes)))
                place += len(entry.lanes)
                if known.get(entry.id) != told[entry.id]:
                    args: list[int | bytes] = []
                    for lane, position in zip(entry.lanes, told[entry.id], strict=True):
                        args += [lane, position, encode(LaneQueued(lane, position, at))]
                    keys = [log.run_key(entry.run), log.log_key(entry.run)]
                    await self._place(keys=keys, args=args, client=pipe)
            await pipe.execute()
        self._told[name] = told

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
        attempt, released, spec, owner, *states = answer
        rows = await self.redis.xrange(log.log_key(entry.run))
        facts = list(zip(entry.lanes, states[::2], states[1::2], strict=True))
        return Claim(
            attempt=attempt,
            failures=attempt - 1 - released,
            spec=msgspec.json.decode(spec, type=RunSpec),
            ended={lane for lane, state, _ in facts if state == b"ended"},
            stopped={lane for lane, _, stop in facts if stop},
            events=[decode(fields[log.FIELD.encode()]) for _, fields in rows],
            owner=owner.decode(),
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


_PLENTY = Room(free=1, slots=1)


def _raise(answer: object, entry: Entry) -> None:
    if answer == log.FENCED:
        raise Fenced(f"{entry.run} {entry.part}")
    if answer == log.GONE:
        raise Gone(entry.run)
    if answer == log.GAP:
        raise Gap(entry.run)


def _entry(queue: bytes, id_: bytes, fields: dict[bytes, bytes]) -> Entry:
    owner = fields.get(b"owner", b"")
    return Entry(queue.decode(), id_.decode(), fields[b"run"].decode(), fields[b"lanes"].decode(), owner.decode())


def _pairs(answer: object) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """XREADGROUP answers a list in RESP2 and a dict of lists in RESP3."""
    if isinstance(answer, dict):
        return [(queue, [row for rows in batches for row in rows]) for queue, batches in answer.items()]
    return list(answer or [])  # type: ignore[call-overload,no-any-return]
