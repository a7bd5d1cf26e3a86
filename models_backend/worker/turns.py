"""Which of the parts that wait on the bus a worker takes next. Pure; all workers see the same queue and decide alike.

Turns are shared out between owners: whose lanes are fewest at work, anywhere, is next; among equals who has waited
longest since coming or since the last turn, and of an owner's parts the one that came first. A worker takes what it has
room for, and leaves what another could begin at once to that one.
"""

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .entry import Entry

SCAN = 1000  # entries at the head of a queue that are looked at; those behind come in the order of their arrival
RIPE_MS = 250  # a part that has waited so long is left alone by every worker with more room
AHEAD = 4  # parts that may wait in one engine while others wait on the bus


@dataclass(frozen=True)
class Queue:
    """The head of a queue as the bus tells it: its entries, the ids of those that some worker has, and the time.

    `newest` is the id of the last entry of the whole queue, `served` when each owner last had a turn.
    """

    entries: Sequence[Entry]
    taken: Collection[str]
    now: float  # milliseconds of the bus
    newest: str = "0-0"
    served: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """What one engine can take in: `free` of its `slots` (below 0: lanes wait in it), and whose parts wait there."""

    free: int
    slots: int
    owners: frozenset[str] = frozenset()

    @property
    def ahead(self) -> bool:
        """It is full, and those who wait in it would go before everybody on the bus if nothing more were taken."""
        return self.free <= 0 and 0 < len(self.owners) < AHEAD


def order(queue: Queue) -> Iterator[Entry]:
    """The parts that nobody has taken, as they would begin if nothing ended."""
    load: Counter[str] = Counter()
    lines: dict[str, deque[tuple[int, Entry]]] = {}
    for place, entry in enumerate(queue.entries):
        if entry.id in queue.taken:
            load[entry.owner] += len(entry.lanes)
        else:
            lines.setdefault(entry.owner, deque()).append((place, entry))
    served = dict(queue.served)

    def turn(owner: str) -> tuple[int, float, int, str]:
        place, entry = lines[owner][0]
        return load[owner], max(entry.queued_at, served.get(owner, 0)), place, owner

    turns = [turn(owner) for owner in lines]
    heapq.heapify(turns)
    while turns:
        *_, owner = heapq.heappop(turns)
        entry = lines[owner].popleft()[1]
        yield entry
        load[owner] += len(entry.lanes)
        served[owner] = queue.now
        if lines[owner]:
            heapq.heappush(turns, turn(owner))


def choose(queue: Queue, room: Room) -> tuple[Entry | None, bool]:
    """The part to take now, or None; and whether there is one to be taken when it is ripe."""
    later = False
    for entry in order(queue):
        if room.free >= len(entry.lanes) or room.free == room.slots:
            return entry, False
        if room.free > 0 or (room.ahead and entry.owner not in room.owners):
            if queue.now - entry.queued_at >= RIPE_MS:
                return entry, False
            later = True
    return None, later
