"""The one thread that computes. It loads engines when they are first needed and steps those that have work.

Torch releases the interpreter while it multiplies, so heartbeats and the bus go on beside it.
"""

import threading
import time
from collections.abc import Callable, Sequence

from models_backend.engine import Engine, EngineError, Event, Request
from models_backend.protocol.events import Error, Figures, LaneFailed, LaneLoading, LaneStopped

Events = list[Event]


class EngineThread(threading.Thread):
    """`deliver` gets the events of each step, `changed` is called when models have changed, `died` when all is lost.

    All three are called in this thread, `changed` also in those of engines that find out by themselves.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        preload: Engine | None,
        deliver: Callable[[Events], None],
        changed: Callable[[], None],
        died: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self.engines = engines
        self.note = "starting"
        self._preload = preload
        self._deliver, self._changed, self._died = deliver, changed, died
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._arrivals: list[tuple[Engine, Request]] = []  # for engines that are not in memory yet
        self._closing = False
        for engine in engines:
            engine.listen(self._wake.set, changed)

    # called from other threads -----------------------------------------------------------------------------------

    def submit(self, engine: Engine, requests: list[Request]) -> None:
        """Compute lanes of one base; those given together start together."""
        if engine.loaded:
            engine.submit(*requests)
        else:
            with self._lock:
                self._arrivals += [(engine, request) for request in requests]
            self._deliver([(request.run, LaneLoading(request.lane, request.model, _now())) for request in requests])
        self._wake.set()

    def stop(self, run: str, lane: int) -> None:
        with self._lock:
            kept = [(e, request) for e, request in self._arrivals if (request.run, request.lane) != (run, lane)]
            dropped = len(kept) < len(self._arrivals)
            self._arrivals = kept
        if dropped:
            self._deliver([(run, LaneStopped(lane, Figures(), _now()))])
        for engine in self.engines:
            engine.stop(run, lane)
        self._wake.set()

    def close(self) -> None:
        """End after the step under way."""
        self._closing = True
        self._wake.set()

    # this thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            if self._preload is not None:
                self._load(self._preload)
            self.note = ""
            while True:
                self._wake.clear()  # before looking, so that what comes while we look wakes us again
                if self._closing:
                    return
                self._load_arrivals()
                if not self._step():
                    self._wake.wait()
        except BaseException as error:  # the process ends with it and is started anew
            self._died(error)

    def _step(self) -> bool:
        busy = [engine for engine in self.engines if engine.loaded and engine.busy]
        for engine in busy:
            events = engine.step()
            if events:
                self._deliver(events)
        return bool(busy)

    def _load_arrivals(self) -> None:
        with self._lock:
            wanted = list(dict.fromkeys(engine for engine, _ in self._arrivals))
        for engine in wanted:
            error = self._load(engine)
            with self._lock:
                requests = [request for e, request in self._arrivals if e is engine]
                self._arrivals = [(e, request) for e, request in self._arrivals if e is not engine]
            if error is None:
                engine.submit(*requests)
            else:
                self._deliver([(each.run, LaneFailed(each.lane, error, Figures(), _now())) for each in requests])

    def _load(self, engine: Engine) -> Error | None:
        if engine.loaded:
            return None
        try:
            engine.load(self._say)
        except EngineError as error:
            self.note = str(error)
            return error.as_error()
        self.note = ""
        self._changed()
        return None

    def _say(self, note: str) -> None:
        self.note = note


def _now() -> float:
    return time.time() * 1000
