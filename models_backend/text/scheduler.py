"""Who is computed next: rows wait in the order they came, take a slot each, read their prompt in chunks, then decode.

Knows rows and numbers only. Promises: nobody overtakes, a freed slot is given again, running rows never wait longer
than one chunk of somebody's prompt, and the lanes of one run read their prompts together, so they start together.
"""

from collections import deque
from dataclasses import dataclass

from .sequence import Row

CHUNK_ALONE = 2  # nobody is decoding, so nobody stalls: chunks may be so many times longer


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: rows that decode one token, and rows that read so many ids of their prompt."""

    decode: list[Row]
    prefill: list[tuple[Row, int]]


class Scheduler:
    """Holds the rows between their arrival and their end."""

    def __init__(self, slots: int, chunk: int | None) -> None:
        self.waiting: deque[Row] = deque()
        self.running: list[Row] = []
        self._free = set(range(slots))
        self._chunk = chunk

    def add(self, row: Row) -> None:
        self.waiting.append(row)

    def find(self, run: str, lane: int) -> Row | None:
        return next((row for row in (*self.running, *self.waiting) if row.key == (run, lane)), None)

    def remove(self, row: Row) -> None:
        """Forget a row, running or waiting, and free its slot."""
        if row.slot < 0:
            self.waiting.remove(row)
            return
        self.running.remove(row)
        self._free.add(row.slot)

    def admit(self) -> list[Row]:
        """Give free slots to those who wait, first come first served; returns the rows that begin."""
        begun = []
        while self.waiting and self._free:
            row = self.waiting.popleft()
            # The lowest free slot keeps the rows of a batch side by side, where the cache needs no copy to read them.
            row.own.slot = min(self._free)
            self._free.remove(row.slot)
            self.running.append(row)
            begun.append(row)
        return begun

    def plan(self) -> Plan:
        decode = [row for row in self.running if row.owing == 1 and row.fed]
        joining = [row for row in self.running if not (row.owing == 1 and row.fed)]
        return Plan(_by_slot(decode), self._prefill(joining, bool(decode)))

    def _prefill(self, joining: list[Row], others: bool) -> list[tuple[Row, int]]:
        """Chunks of the oldest run's lanes, and of later rows while the padded batch stays within the budget."""
        if not joining:
            return []
        if self._chunk is None:
            return [(joining[0], joining[0].owing)]
        budget = self._chunk if others else self._chunk * CHUNK_ALONE
        group = [row for row in joining if row.request.run == joining[0].request.run]
        group = group[:budget]
        width = min(max(row.owing for row in group), budget // len(group))
        for row in joining:
            if row not in group and row.owing <= width and (len(group) + 1) * width <= budget:
                group.append(row)
        return [(row, min(row.owing, width)) for row in _by_slot(group)]


def _by_slot(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.slot)
