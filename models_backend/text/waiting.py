"""Rows that have no slot yet, and whose turn it is: between owners, then between an owner's runs, then as they came.

Who has least in the batch is next, so that eight lanes or fifty runs of one owner keep nobody else's single lane
waiting for longer than the next free slot; among equals the one that came first. The lanes of a run follow each other,
up to their owner's fair share of the batch, so that where there is room they begin together.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from .contract import EngineError
from .sequence import Row

MOST = 1000  # rows that may wait


class Waiting:
    """The queue of a batch with so many slots. Nobody starves: whose rows have all left the batch is oldest in time."""

    def __init__(self, slots: int, most: int = MOST) -> None:
        self._slots = slots
        self._most = most
        self._rows: dict[Row, int] = {}  # with the number of its arrival
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """In no particular order."""
        return iter(self._rows)

    def __contains__(self, row: Row) -> bool:
        return row in self._rows

    def add(self, row: Row) -> None:
        """Raises EngineError when too many wait."""
        if len(self._rows) >= self._most:
            message = f"{len(self._rows)} answers are waiting already. Try again when some of them have ended."
            raise EngineError("queue_full", message)
        self._arrivals += 1
        self._rows[row] = self._arrivals

    def put_back(self, row: Row) -> None:
        """A row that has had its turn and gave way comes before all that have not."""
        self._rows[row] = -self._arrivals - len(self._rows)

    def remove(self, row: Row) -> None:
        del self._rows[row]

    def order(self, running: Iterable[Row]) -> Iterator[Row]:
        """All rows as they would begin beside `running` if none of those ended. The queue must not change meanwhile."""
        owners: Counter[str] = Counter()  # slots that they have
        runs: Counter[str] = Counter()
        for row in running:
            owners[row.request.owner] += len(row.seats)
            runs[row.request.run] += len(row.seats)
        lines = self._lines(runs)
        share = -(-self._slots // max(1, len({*owners, *lines})))
        turns = [(owners[owner], _oldest(line), owner) for owner, line in lines.items()]
        heapq.heapify(turns)
        while turns:
            *_, owner = heapq.heappop(turns)
            line = lines[owner]
            _, _, run, rows = heapq.heappop(line)
            while True:
                _, row = rows.pop()
                yield row
                owners[owner] += len(row.seats)
                runs[run] += len(row.seats)
                if not rows or owners[owner] >= share:
                    break
            if rows:
                heapq.heappush(line, (runs[run], rows[-1][0], run, rows))
            if line:
                heapq.heappush(turns, (owners[owner], _oldest(line), owner))

    def _lines(self, runs: Counter[str]) -> dict[str, list["_Line"]]:
        """The runs of each owner: what they have in the batch, their oldest arrival, and their rows, newest first."""
        waiting: dict[str, dict[str, list[tuple[int, Row]]]] = {}
        for row, arrival in self._rows.items():
            waiting.setdefault(row.request.owner, {}).setdefault(row.request.run, []).append((arrival, row))
        lines = {}
        for owner, found in waiting.items():
            for rows in found.values():
                rows.sort(key=lambda pair: -pair[0])
            lines[owner] = [(runs[run], rows[-1][0], run, rows) for run, rows in found.items()]
            heapq.heapify(lines[owner])
        return lines


_Line = tuple[int, int, str, list[tuple[int, Row]]]


def _oldest(line: list[_Line]) -> int:
    return min(oldest for _, oldest, _, _ in line)
