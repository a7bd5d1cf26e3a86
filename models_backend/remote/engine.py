"""The engine of one server: lanes wait for a slot, are answered over HTTP, and leave their events for `step`.

All of it happens on an event loop in a thread of its own, so a server that is slow or away holds up nobody. `step` only
hands out what has come; until something comes the engine is not busy, and it wakes the worker when it is.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from models_backend import engine as interface
from models_backend.engine import EngineError, Event, Note, Request
from models_backend.protocol.events import Error, Figures, LaneEvent, LaneFailed, LaneQueued, LaneStopped
from models_backend.protocol.workers import ModelInfo
from models_backend.registry import Entry

from .adapters import Adapters
from .answer import Answer, Clocks, Target
from .client import Client
from .discovery import Found, discover, unseen
from .errors import UpstreamError
from .upstreams import Remote

LOOK_SECONDS = 15.0  # between two looks at a server that answers
BUSY_SECONDS = 120.0  # while it answers lanes
BACK_SECONDS = (0.5, 15.0)  # between looks at one that does not: at first, and at most
LOOK_LIMIT = 30.0  # seconds that one look may take
CLOSE_SECONDS = 5.0
_BROKEN = "its engine has ended by a fault of ours. The worker's log tells which; start the worker again."

Key = tuple[str, int]  # run and lane

log = logging.getLogger("diptych.remote")


class RemoteEngine(interface.Engine):
    """Serves the models of one server. `prefix` goes before their ids; `worker` is the name in lane.started.

    `installed` reads the registry, for adapters that the server may be given.
    """

    loaded = True  # there is nothing to bring into memory

    def __init__(
        self,
        remote: Remote,
        worker: str,
        prefix: str = "",
        installed: Callable[[], list[Entry]] = list,
        clocks: Clocks | None = None,
    ) -> None:
        self.slots = remote.spec.slots
        self.trouble = f"{remote.spec.name}: it has not answered yet"
        self._remote = remote
        self._worker = worker
        self._prefix = prefix
        self._installed = installed
        self._clocks = clocks or Clocks(lambda: time.time() * 1000, time.monotonic)
        self._found = unseen(remote.spec, prefix)
        self._news: deque[Event] = deque()
        self._wake: Callable[[], None] = lambda: None
        self._changed: Callable[[], None] = lambda: None
        self._waiting: deque[tuple[Request, float]] = deque()
        self._running: dict[Key, tuple[Answer, asyncio.Task[None]]] = {}
        self._told: dict[Key, int] = {}  # the position in the queue that was told last
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._broken = False  # it ended though nobody closed it

    # What the worker asks -----------------------------------------------------------------------------------------

    def models(self) -> list[ModelInfo]:
        return list(self._found.infos)

    @property
    def device(self) -> str:
        return f"{self._remote.spec.name} ({self._found.kind.name})"

    @property
    def busy(self) -> bool:
        return bool(self._news)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def load(self, note: Note = lambda text: None) -> None:
        """Begin to look at the server; does not wait for it."""
        self._start()

    def listen(self, wake: Callable[[], None], changed: Callable[[], None]) -> None:
        self._wake, self._changed = wake, changed
        self._start()

    def submit(self, *requests: Request) -> None:
        if not self._call(partial(self._arrive, requests, self._clocks.steady())) and self._broken:
            error = Error("engine_error", f"{self._remote.spec.name}: {_BROKEN}")
            for request in requests:
                self._publish(request.run, _failed(request, error, self._clocks.wall()))

    def stop(self, run: str, lane: int) -> None:
        self._call(partial(self._stop, (run, lane)))

    def step(self) -> list[Event]:
        """What has come since the last step. Returns at once."""
        events: list[Event] = []
        while self._news:
            events.append(self._news.popleft())
        return events

    def close(self) -> None:
        """Break off what runs and end the thread."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(self._end)
            thread.join(CLOSE_SECONDS)

    # The thread ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._closed or self._loop is not None:
                return
            self._loop = asyncio.new_event_loop()
            self._look_now = asyncio.Event()
            name = f"remote {self._remote.spec.name}"
            self._thread = threading.Thread(target=self._work, args=(self._loop,), name=name, daemon=True)
            self._thread.start()

    def _call(self, function: Callable[[], None]) -> bool:
        """Have `function` called in the thread; False if that has ended."""
        self._start()
        with self._lock:
            if self._closed or self._loop is None:
                return False
            self._loop.call_soon_threadsafe(function)
            return True

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            self._watching = loop.create_task(self._live())
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(self._watching)
        except Exception:
            log.exception("the engine of %s has ended", self._remote.spec.name)
            self._broken = True
            self.trouble = f"{self._remote.spec.name}: {_BROKEN}"
            self._changed()
        finally:
            with self._lock:
                self._closed = True
            loop.close()

    def _end(self) -> None:
        self._watching.cancel()

    async def _live(self) -> None:
        async with contextlib.aclosing(Client(self._remote)) as self._client:
            self._adapters = Adapters(self._client, self._installed, self._clocks.steady)
            try:
                await self._watch()
            finally:
                with self._lock:
                    broken, self._closed = not self._closed, True
                await self._leave(broken)

    async def _leave(self, broken: bool) -> None:
        tasks = [task for _, task in self._running.values()]
        for answer, task in self._running.values():
            if broken:
                answer.failed(f"{self._remote.spec.name}: {_BROKEN}")
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Looking at the server ----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Know at all times whether the server answers, and with which models; it comes back by itself."""
        pause = BACK_SECONDS[0]
        while True:
            self._look_now.clear()
            try:
                found = await self._look()
            except UpstreamError as error:
                self._lost(error.why)
                wait, pause = pause * random.uniform(0.8, 1.0), min(pause * 2, BACK_SECONDS[1])
            else:
                self._see(found, "" if found.infos else f"{self._remote.spec.name}: it has no models")
                wait, pause = LOOK_SECONDS, BACK_SECONDS[0]
            if await self._told_to_look(wait):
                await asyncio.sleep(BACK_SECONDS[0])  # many lanes that fail together are one reason to look
            elif self._running and not self.trouble:  # what answers is there; and some servers do one thing at a time
                await self._told_to_look(BUSY_SECONDS - wait)

    async def _told_to_look(self, seconds: float) -> bool:
        """Wait for so long; True if somebody wants the server looked at before that."""
        try:
            async with asyncio.timeout(seconds):  # up to Python 3.11 wait_for may swallow the word to end
                await self._look_now.wait()
        except TimeoutError:
            return False
        return True

    async def _look(self) -> Found:
        try:
            async with asyncio.timeout(LOOK_LIMIT):
                found = await discover(self._client, self._prefix)
                if found.kind.name == "vllm" and self._remote.spec.adapters:
                    listed = [info.id.removeprefix(self._prefix) for info in found.infos]
                    if await self._adapters.settle(listed):
                        found = await discover(self._client, self._prefix)
                return found
        except TimeoutError:
            raise UpstreamError("upstream_silent", f"it said nothing for {LOOK_LIMIT:g} seconds.") from None
        except UpstreamError:
            raise
        except Exception:
            log.exception("%s tells its models in a way that breaks us", self._remote.spec.name)
            raise UpstreamError("upstream_garbage", "its list of models cannot be read.") from None

    def _lost(self, why: str) -> None:
        infos = tuple(msgspec.structs.replace(info, loaded=False) for info in self._found.infos)
        self._see(Found(self._found.kind, infos, self._found.theirs), f"{self._remote.spec.name}: {why}")

    def _see(self, found: Found, trouble: str) -> None:
        news = (found.infos, trouble) != (self._found.infos, self.trouble)
        if trouble != self.trouble:
            log.info("%s", trouble or f"{self._remote.spec.name} ({found.kind.name}) has {len(found.infos)} models")
        self._found, self.trouble = found, trouble
        if news:
            self._changed()

    # Answering ----------------------------------------------------------------------------------------------------

    def _arrive(self, requests: tuple[Request, ...], now: float) -> None:
        for request in requests:
            self._forget((request.run, request.lane))  # a later attempt; nobody reads the events of the earlier one
            self._waiting.append((request, now))
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            request, now = self._waiting.popleft()
            key = (request.run, request.lane)
            self._told.pop(key, None)
            try:
                target = self._target(request.model)
            except EngineError as error:
                self._publish(request.run, _failed(request, error.as_error(), self._clocks.wall()))
                continue
            publish = partial(self._publish, request.run)
            answer = Answer(request, target, self._worker, publish, self._clocks, now)
            self._running[key] = (answer, asyncio.ensure_future(self._answer(answer)))
        for position, (request, _) in enumerate(self._waiting, 1):
            key = (request.run, request.lane)
            if self._told.get(key) != position:
                self._told[key] = position
                self._publish(request.run, LaneQueued(request.lane, position, self._clocks.wall()))

    def _target(self, model: str) -> Target:
        found = self._found
        info = next((info for info in found.infos if info.id == model), None)
        if info is None:
            raise EngineError("model_not_found", f"{self._remote.spec.name} has no model {model}.", "model")
        adapters = frozenset(found.theirs[other.id] for other in found.infos if other.base is not None)
        return Target(self._client, found.kind, info, found.theirs[model], adapters)

    async def _answer(self, answer: Answer) -> None:
        key = (answer.request.run, answer.request.lane)
        try:
            await answer.run()
        except Exception as error:
            log.exception("lane %s of run %s fails", key[1], key[0])
            answer.failed(f"The engine failed on this answer: {type(error).__name__}.")
        finally:
            if self._running.get(key, (None,))[0] is answer:
                del self._running[key]
            if not answer.reached:
                self._look_now.set()
            if not self._closed:
                self._admit()

    def _stop(self, key: Key) -> None:
        waiting = next((request for request, _ in self._waiting if (request.run, request.lane) == key), None)
        if waiting is not None:
            figures = Figures(completion_tokens=waiting.resume_tokens)
            self._publish(waiting.run, LaneStopped(waiting.lane, figures, self._clocks.wall()))
        elif key in self._running:
            self._running[key][0].stopped()
        self._forget(key)
        self._admit()

    def _forget(self, key: Key) -> None:
        self._told.pop(key, None)
        self._waiting = deque(each for each in self._waiting if (each[0].run, each[0].lane) != key)
        if key in self._running:
            answer, task = self._running.pop(key)
            answer.silence()
            task.cancel()

    def _publish(self, run: str, event: LaneEvent) -> None:
        self._news.append((run, event))
        self._wake()


def _failed(request: Request, error: Error, at: float) -> LaneFailed:
    return LaneFailed(request.lane, error, Figures(completion_tokens=request.resume_tokens), at)
