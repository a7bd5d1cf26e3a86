"""What workers and models there are, looked up once for all sockets of this process, and sent when it changes."""

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable

import msgspec

from playground.errors import BusDown
from playground.runs import service

from . import frames

LOOK_SECONDS = 1.0
LOAD_EVERY = 2  # looks between two frames in which nothing but load figures has changed

Reader = Callable[[frames.Models], Awaitable[None]]


class Board:
    """Looks while somebody reads. `look` is what it asks; given, so that tests need no bus."""

    def __init__(self, look: Callable[[], Awaitable[frames.Models]]) -> None:
        self._look = look
        self._readers: set[Reader] = set()
        self._task: asyncio.Task[None] | None = None
        self._newest: frames.Models | None = None
        self._since = 0

    async def join(self, reader: Reader) -> None:
        """Call `reader` now, if the bus answers, and at each change."""
        self._readers.add(reader)
        if self._task is None or self._task.done():
            self._newest = None
            self._task = asyncio.create_task(self._run())
        elif self._newest is not None:
            await reader(self._newest)

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)
        if not self._readers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while self._task is asyncio.current_task():  # a cancellation may be swallowed, see bus/ending.py
            with contextlib.suppress(BusDown):  # the page hears of that from the runs it follows
                await self.once()
            await asyncio.sleep(LOOK_SECONDS)

    async def once(self) -> None:
        """Look, and tell all readers if there is something to tell."""
        found = await self._look()
        self._since += 1
        before = self._newest
        if before is not None and _plain(found) == _plain(before):
            load_changed = _load(found) != _load(before)
            if not load_changed or self._since < LOAD_EVERY:
                return
        self._newest, self._since = found, 0
        await asyncio.gather(*(reader(found) for reader in list(self._readers)), return_exceptions=True)


async def look() -> frames.Models:
    models, workers = await asyncio.gather(service.models(), service.heartbeats())
    return frames.Models(models, workers)


def _plain(board: frames.Models) -> frames.Models:
    """The board without clocks and load figures."""
    still = {"at": 0.0, "running": 0, "waiting": 0, "cache_hits": 0, "cache_asked": 0}
    quiet = [msgspec.structs.replace(worker, **still) for worker in board.workers]
    return frames.Models(board.models, quiet)


def _load(board: frames.Models) -> list[tuple[str, int, int, int]]:
    return [(worker.worker, worker.running, worker.waiting, worker.cache_asked) for worker in board.workers]


_boards: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Board] = weakref.WeakKeyDictionary()


def board() -> Board:
    """The board of the running event loop."""
    return _boards.setdefault(asyncio.get_running_loop(), Board(look))
