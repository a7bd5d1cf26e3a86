"""How many logits one pass may make: vocabularies reach 150 000 tokens, and a scored prompt wants them everywhere."""

from collections.abc import Iterator, Sequence

from .contract import Runner
from .sequence import Row

LOGITS = 1 << 26  # of tokens that are scored, in one pass: 256 MiB in float32


def positions(runner: Runner) -> int:
    """At how many positions a pass may look at known tokens, over all rows."""
    return max(1, LOGITS // runner.vocabulary)


def bounded(prefill: Sequence[tuple[Row, int]], runner: Runner) -> Iterator[list[tuple[Row, int]]]:
    """Cut a pass into passes whose logits stay within bounds. Rows without scores go by themselves and pay nothing."""
    plain = [(row, count) for row, count in prefill if not row.looks]
    if plain:
        yield plain
    most = positions(runner)
    batch: list[tuple[Row, int]] = []
    seats = width = 0
    for row, count in prefill:
        if not row.looks:
            continue
        if runner.chunk is not None:
            count = min(count, max(1, most // len(row.seats)))
        if batch and (seats + len(row.seats)) * max(width, count) > most:
            yield batch
            batch, seats, width = [], 0, 0
        batch.append((row, count))
        seats, width = seats + len(row.seats), max(width, count)
    if batch:
        yield batch
