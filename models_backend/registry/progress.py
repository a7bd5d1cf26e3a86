"""How long work reports on itself: what is being done, how much of it, out of how much.

Downloads that others do for us (pip, the hub's library) are followed by weighing the folder they write to.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

PHASES = "phases"  # the unit of work whose parts take unlike times, so that no share of it can be told
POLL = 0.3  # seconds between two looks at how much has arrived


@dataclass(frozen=True, slots=True)
class Progress:
    """`total` is None while the end is not known. `unit` is "bytes", PHASES, or what is counted, such as "rows"."""

    phase: str
    done: int = 0
    total: int | None = None
    unit: str = "bytes"


Watcher = Callable[[Progress], None]


@contextmanager
def weighing(folder: Path, start: Progress, watch: Watcher) -> Iterator[None]:
    """Report how many bytes lie in `folder` while the body fills it, and all of them when it has succeeded."""
    total = start.total
    over = threading.Event()

    def look() -> None:
        while not over.wait(POLL):
            size = weight(folder)
            watch(replace(start, done=size if total is None else min(size, total)))

    watch(start)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    watch(replace(start, done=weight(folder) if total is None else total))


def weight(folder: Path) -> int:
    """Bytes in a folder that others are writing to: files may go away while we look."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total
