"""Rows that have no slot yet, and whose turn it is: between owners, then between an owner's runs, then as they came.

Who has least in the batch is next, so that eight lanes or fifty runs of one owner keep nobody else's single lane
waiting for longer than the next free slot; among equals who has waited longest since coming or since the last turn. The
lanes of a run follow each other, up to their owner's fair share of the batch, so that where there is room they begin
together.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from .contract import EngineError
from .sequence import Row

MOST = 1000  # rows that may wait


class Waiting:
    """The queue of a batch with so many slots. Nobody starves: who has no row left in the batch is first in time."""

    def __init__(self, slots: int, most: int = MOST) -> None:
        self._slots = slots
        self._most = most
        self._rows: dict[Row, int] = {}  # with the time of its arrival
        self._served: dict[tuple[str, ...], int] = {}  # when an owner, or a run of it, that still waits had a turn
        self._now = 0  # arrivals and turns so far

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
        self._now += 1
        self._rows[row] = self._now

    def put_back(self, row: Row) -> None:
        """A row that has had its turn and gave way comes before all that have not."""
        self._rows[row] = min(self._rows.values(), default=0) - 1

    def remove(self, row: Row) -> None:
        del self._rows[row]

    def take(self, row: Row) -> None:
        """It has its turn now."""
        self.remove(row)
        self._now += 1
        owner = row.request.owner
        self._served |= {(owner,): self._now, (owner, row.request.run): self._now}
        waits = {name for one in self._rows for name in _names(one)}
        self._served = {name: at for name, at in self._served.items() if name in waits}

    def order(self, running: Iterable[Row]) -> Iterator[Row]:
        """All rows as they would begin beside `running` if none of those ended. The queue must not change meanwhile."""
        owners: Counter[str] = Counter()  # slots that they have
        runs: Counter[str] = Counter()
        for row in running:
            owners[row.request.owner] += len(row.seats)
            runs[row.request.run] += len(row.seats)
        lines = self._lines(runs)
        share = -(-self._slots // max(1, len({*owners, *lines})))
        served = dict(self._served)
        turns = [(owners[owner], self._since(served, owner, line), owner) for owner, line in lines.items()]
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
                served |= dict.fromkeys(_names(row), self._now + 1)
                if not rows or owners[owner] >= share:
                    break
            if rows:
                heapq.heappush(line, (runs[run], max(rows[-1][0], served[owner, run]), run, rows))
            if line:
                heapq.heappush(turns, (owners[owner], self._since(served, owner, line), owner))

    def _lines(self, runs: Counter[str]) -> dict[str, list["_Line"]]:
        """The runs of each owner: what they have in the batch, since when they wait, and their rows, newest first."""
        waiting: dict[str, dict[str, list[tuple[int, Row]]]] = {}
        for row, arrival in self._rows.items():
            waiting.setdefault(row.request.owner, {}).setdefault(row.request.run, []).append((arrival, row))
        lines = {}
        for owner, found in waiting.items():
            for rows in found.values():
                rows.sort(key=lambda pair: -pair[0])
            lines[owner] = [
                (runs[run], max(rows[-1][0], self._served.get((owner, run), rows[-1][0])), run, rows)
                for run, rows in found.items()
            ]
            heapq.heapify(lines[owner])
        return lines

    @staticmethod
    def _since(served: dict[tuple[str, ...], int], owner: str, line: list["_Line"]) -> int:
        oldest = min(rows[-1][0] for *_, rows in line)
        return max(oldest, served.get((owner,), oldest))


_Line = tuple[int, int, str, list[tuple[int, Row]]]


def _names(row: Row) -> tuple[tuple[str, ...], ...]:
    return (row.request.owner,), (row.request.owner, row.request.run)
