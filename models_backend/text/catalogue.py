"""The fine-tuned models that there are for each base, looked up again every few seconds while the worker runs."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from models_backend import registry
from models_backend.registry import Entry

log = logging.getLogger(__name__)

SECONDS = 2.0  # between two looks; one takes a millisecond for a handful of adapters
SHARE = 0.02  # of the time, at most, is spent on looking: 300 checkpoints take 40 ms


class Catalogue:
    """One base's fine-tuned models by id. `entries` is replaced as a whole, so any thread may read it at any time."""

    def __init__(self, base: Entry, tuned: Sequence[Entry] = ()) -> None:
        self.base = base
        self.entries = {entry.id: entry for entry in tuned}

    def update(self, entries: Sequence[Entry]) -> bool:
        """Take this base's out of all the registry's `entries`; returns whether anything has changed."""
        found = {entry.id: entry for entry in entries if entry.base == self.base.id and entry.adapter is not None}
        changed = found != self.entries
        self.entries = found
        return changed


class Lookout:
    """Looks into the registry's folders, at once when asked and else every few seconds, for all bases of a worker.

    `watch` names who is told when the models of a base have changed: in the thread that looked.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._told: list[tuple[Catalogue, Callable[[list[Entry]], None]]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, catalogue: Catalogue, told: Callable[[list[Entry]], None]) -> None:
        self._told.append((catalogue, told))

    def look(self) -> None:
        """Reads small files: milliseconds. A folder that cannot be read at the moment changes nothing."""
        with self._lock:
            try:
                entries = registry.models(self._home)
            except (OSError, registry.RegistryError) as error:
                log.warning("the folder of models cannot be read: %s", error)
                return
            for catalogue, told in self._told:
                if catalogue.update(entries):
                    told(list(catalogue.entries.values()))

    def start(self) -> None:
        """Look every few seconds from now on. Starting twice does nothing."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._go_on, name="lookout", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def _go_on(self) -> None:
        took = 0.0
        while not self._closing.wait(max(SECONDS, took / SHARE)):
            started = time.monotonic()
            self.look()
            took = time.monotonic() - started
