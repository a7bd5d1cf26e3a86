"""How long work reports on itself: what is being done, how much of it, out of how much."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`total` is None while the end is not known. `unit` is "bytes" or what is counted, such as "tensors"."""

    phase: str
    done: int = 0
    total: int | None = None
    unit: str = "bytes"


Watcher = Callable[[Progress], None]
