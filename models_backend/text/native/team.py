"""The threads that run a pass together. Between passes they sleep, and take nothing from a busy machine."""

import threading
from queue import SimpleQueue

import numpy as np

from .balance import Balance
from .records import LINE, Model, Room, Rows
from .step import forward

_Job = tuple[Model, Rows, Room, np.ndarray, int, "_Counters"]


class Team:
    """At most `size` threads, one of which is the caller's. Not for several callers at once."""

    def __init__(self, size: int, regions: int) -> None:
        self.size = size
        self._regions = regions
        self._balance = Balance(size)
        self._counters: list[_Counters] = []
        self._calls: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(size - 1)]
        for number, call in enumerate(self._calls):
            threading.Thread(
                target=self._help, args=(number + 1, call), name=f"native-{number + 1}", daemon=True
            ).start()

    def run(self, model: Model, rows: Rows, room: Room, logits: np.ndarray) -> None:
        """Fill `logits`. Returns when all is computed; a thread that slept through it looks in later, in vain."""
        counters, threads = self._fresh(), self._balance.threads()
        room = room._replace(counters=counters.values)
        counters.inside = threads - 1
        for call in self._calls[: threads - 1]:
            call.put((model, rows, room, logits, threads, counters))
        forward(model, rows, room, logits, 0, threads)

    def close(self) -> None:
        """Let the other threads end."""
        for call in self._calls:
            call.put(None)
        self._calls = []
        self.size = 1

    def _help(self, number: int, call: "SimpleQueue[_Job | None]") -> None:
        while (job := call.get()) is not None:
            model, rows, room, logits, threads, counters = job
            forward(model, rows, room, logits, number, threads)
            counters.leave()

    def _fresh(self) -> "_Counters":
        """Counters that no late thread looks at any more, all zero."""
        counters = next((one for one in self._counters if not one.inside), None)
        if counters is None:
            counters = _Counters(self._regions)
            self._counters.append(counters)
        counters.values[:] = 0
        return counters


class _Counters:
    def __init__(self, regions: int) -> None:
        self.values = np.zeros((regions, 2, LINE), np.int64)
        self.inside = 0  # threads that have yet to leave the pass
        self._lock = threading.Lock()

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1
