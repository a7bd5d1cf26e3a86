"""How many threads a step runs with: measured when a model is first opened on a processor, and remembered beside it."""

import json
import logging
import time
from pathlib import Path
from statistics import median

from models_backend.text import processor
from models_backend.text.contract import Feed, Score

from .runner import NativeRunner

log = logging.getLogger(__name__)

NAME = "native.threads.json"
ROUNDS, PASSES = 7, 4
WORTH = 1.15  # a further core must bring this much: others have a use for it too


def pick_threads(runner: NativeRunner, folder: Path) -> int:
    """The remembered count for this processor, or one that is measured now, which takes a second for a small model."""
    cores = processor.cores()
    machine = {"processor": processor.name(), "cores": cores, "precision": runner.precision}
    try:
        known = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if known["machine"] == machine and 1 <= int(known["threads"]) <= cores:
            return int(known["threads"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    times = measure(runner, candidates(cores))
    threads = choose(times)
    log.info("a step takes %s: %d threads", ", ".join(f"{t * 1000:.1f} ms with {n}" for n, t in times.items()), threads)
    try:
        facts = {"machine": machine, "threads": threads, "seconds": {str(n): round(t, 5) for n, t in times.items()}}
        (folder / NAME).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        log.warning("the number of threads cannot be remembered: %s", error)
    return threads


def candidates(cores: int) -> list[int]:
    """1, 2, 4, 8 ... and what lies at the end: all cores, and all but one."""
    powers = [1 << i for i in range(cores.bit_length())]
    return sorted({count for count in (*powers, cores - 1, cores) if 1 <= count <= cores})


def measure(runner: NativeRunner, counts: list[int]) -> dict[int, float]:
    """Median seconds of a pass of two rows with each count; they take turns, for neighbours come and go."""
    found: dict[int, list[float]] = {count: [] for count in counts}
    feeds = [Feed(slot, None, 8, [1], None, score=Score([0], 0)) for slot in (0, 1)]
    for number in range(ROUNDS + 1):
        for count in counts:
            runner.use_threads(count)
            for _ in range(PASSES):
                began = time.perf_counter()
                runner.probe(feeds)
                if number:  # the first round warms up
                    found[count].append(time.perf_counter() - began)
    return {count: median(times) for count, times in found.items()}


def choose(times: dict[int, float]) -> int:
    """The smallest count that no larger one beats by more than WORTH."""
    counts = sorted(times)
    best = counts[0]
    for count in counts[1:]:
        if times[best] > WORTH * times[count]:
            best = count
    return best
