"""One blocking read for all the logs that this process follows, instead of one connection for each reader.

It hands on what it hears and keeps little: a listener that falls behind loses entries, notices the gap in the numbers,
and reads the log itself. So nothing is lost, and memory stays bounded however slow a reader is.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

from redis.exceptions import RedisError

from models_backend.protocol import log
from playground.errors import BusDown

from .ending import end

logger = logging.getLogger(__name__)

Entry = tuple[int, bytes]  # number and raw JSON of an event

KEPT = 256  # entries that wait for one listener
KEPT_BYTES = 256 * 1024
BLOCK_MS = 2000  # less than the client's answer timeout
WAKE_SECONDS = 60  # a wake stream that nobody reads any more vanishes after so much


def entries_of(reply: list[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    """The entries of a reply of XRANGE or XREAD."""
    return [(int(entry_id.partition(b"-")[0]), fields[log.FIELD.encode()]) for entry_id, fields in reply]


class Listener:
    """What one reader has not taken yet."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._bytes = 0
        self._news = asyncio.Event()
        self._down = False

    async def take(self) -> list[Entry]:
        """Wait for entries and return all that there are. Raises BusDown when the tail has lost the bus."""
        await self._news.wait()
        self._news.clear()
        if self._down:
            raise BusDown
        taken, self._entries, self._bytes = self._entries, [], 0
        return taken

    def put(self, entries: list[Entry]) -> None:
        self._entries += entries
        self._bytes += sum(len(raw) for _, raw in entries)
        if len(self._entries) > KEPT or self._bytes > KEPT_BYTES:
            # Keep the newest alone: its number tells the reader that there is a gap to fill from the log.
            self._entries = self._entries[-1:]
            self._bytes = len(self._entries[0][1])
        self._news.set()

    def fail(self) -> None:
        self._down = True
        self._news.set()


class Tail:
    """Runs while somebody listens."""

    def __init__(self, client: Any, listening: Any) -> None:
        self._client = client
        self._listening = listening  # a client that has no other use
        self._listeners: dict[str, set[Listener]] = {}
        self._seen: dict[str, str] = {}  # log key -> id after which the next read begins
        self._wake = f"diptych:wake:{uuid.uuid4().hex}"
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listen(self, run: str) -> AsyncIterator[Listener]:
        """Hear all entries that the run's log gets from now on. Raises BusDown."""
        key = log.log_key(run)
        listener = Listener()
        try:
            if key not in self._listeners:
                newest = await self._client.xrevrange(key, count=1)
                self._seen.setdefault(key, newest[0][0].decode() if newest else "0-0")
            self._listeners.setdefault(key, set()).add(listener)
            await self._rouse()
        except (RedisError, OSError) as error:
            self._forget(key, listener)
            raise BusDown from error
        try:
            yield listener
        finally:
            self._forget(key, listener)

    async def aclose(self) -> None:
        if self._task is not None:
            await end(self._task)

    def _forget(self, key: str, listener: Listener) -> None:
        listeners = self._listeners.get(key, set())
        listeners.discard(listener)
        if not listeners:
            self._listeners.pop(key, None)
            self._seen.pop(key, None)

    async def _rouse(self) -> None:
        """Start the read, or make the one that is blocked begin again with the new log among its keys.

        An entry in a stream of our own cannot be missed, whether the read is blocked, on its way or not yet sent.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        else:
            pipe = self._client.pipeline(transaction=True)
            pipe.xadd(self._wake, {"w": ""}, maxlen=1, approximate=False)
            pipe.expire(self._wake, WAKE_SECONDS)
            await pipe.execute()

    async def _run(self) -> None:
        try:
            woken = "0-0"
            while self._listeners:
                streams: dict[Any, Any] = {self._wake: woken, **self._seen}
                for name, found in await self._listening.xread(streams, count=KEPT, block=BLOCK_MS) or ():
                    key = name.decode()
                    if key == self._wake:
                        woken = found[-1][0].decode()
                    elif key in self._listeners:
                        self._seen[key] = found[-1][0].decode()
                        entries = entries_of(found)
                        for listener in self._listeners[key]:
                            listener.put(entries)
        except (RedisError, OSError) as error:
            logger.warning("the bus does not answer: %s", type(error).__name__)
        finally:
            # However the read ended: who still listens must hear of it, and comes back.
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener.fail()
