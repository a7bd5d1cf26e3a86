"""A process that keeps one core busy whenever it is not paused: the neighbour on a busy machine."""

import threading
from typing import Any

from models_backend.bench.contestant import Jobs


def jobs(options: dict[str, Any]) -> Jobs:
    def spin() -> None:
        number = 1
        while True:
            number = number * 1103515245 + 12345 & 0x7FFFFFFF

    threading.Thread(target=spin, daemon=True).start()
    return {}
