"""Who is computed next: rows wait their turn, take a slot for each seat, read their prompt in chunks, then decode.

Knows rows and numbers only. Promises: turns are shared out as waiting.py says, a row begins when the slots and the
memory for its longest answer are there, running rows never wait longer than one chunk of somebody's prompt, those who
read long prompts take turns, the lanes of one run read theirs together, and no prompt is read twice at the same time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from .contract import EngineError
from .prefixes import Copy, Prefixes
from .sequence import Row
from .waiting import MOST, Waiting

CHUNK_ALONE = 2  # nobody is decoding, so nobody stalls: chunks may be so many times longer
TOLD = 100  # rows at the head of the queue that are told their position


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: rows that decode one token, and rows that read so many ids of their prompt."""

    decode: list[Row]
    prefill: list[tuple[Row, int]]


class Scheduler:
    """Holds the rows between their arrival and their end.

    At most `slots` slots are in use; `spare` more only keep prefixes. `tokens` is how many positions rows may fill
    together. `copies`: a slot can be copied, and begun at a later position than 0.
    """

    def __init__(
        self,
        slots: int,
        chunk: int | None,
        *,
        tokens: int | None = None,
        spare: int = 0,
        copies: bool = False,
        most: int = MOST,
    ) -> None:
        self.waiting = Waiting(slots, most)
        self.running: list[Row] = []
        self.cache_hits = 0  # ids of prompts that were not computed, and
        self.cache_asked = 0  # all ids of prompts
        self._slots = slots
        self._tokens = tokens
        self._spare = spare
        self._prefixes = Prefixes(copies)
        self._free = set(range(slots + spare))
        self._peak = 0  # the most slots that were in use at a time
        self._chunk = chunk
        self._short = False  # memory ran out, and no row has ended since
        self._unsettled: list[Row] = []  # they have slots, and wait for a beginning that another row computes
        self._copies: list[Copy] = []
        self._fresh: list[Row] = []  # whose beginnings these copies bring
        self._turn = 0
        self._turns: dict[tuple[str, str], float] = {}  # when an owner, or a run, last read a chunk of its prompt
        self._moved = False  # the queue has changed

    def add(self, row: Row) -> None:
        """Let a row wait. Raises EngineError if too many do, or if it could never begin."""
        seats = len(row.seats)
        if seats > self._slots:
            raise EngineError(
                "too_many_shadows",
                f"This answer needs {seats} places at once, its model's and its shadows', but this worker has "
                f"{self._slots} (DIPTYCH_SLOTS). Ask for fewer shadows.",
            )
        if self._tokens is not None and row.reserved > self._tokens:
            raise EngineError(
                "memory_exceeded",
                f"Prompt and answer may come to {row.reserved} tokens over {seats} model{'s' if seats > 1 else ''}, "
                f"but this worker has memory for {self._tokens}. Lower max_tokens, or shorten the prompt.",
            )
        self.waiting.add(row)
        self._moved = True

    def find(self, run: str, lane: int) -> Row | None:
        return next((row for row in (*self.running, *self.waiting) if row.key == (run, lane)), None)

    def remove(self, row: Row, keep: bool = False) -> list[int]:
        """Forget a row, running or waiting; returns the slots that it had. `keep` says that what it left is sound."""
        self._moved = True
        if row in self.waiting:
            self.waiting.remove(row)
            return []
        self._short = False
        return self._let_go(row, keep)

    def preempt(self, row: Row, keep: bool = False) -> list[int]:
        """Take a running row's slots, which are returned, and let it wait: all its ids will be read again.

        Nobody begins until a row has ended, for until then there is no more memory than now.
        """
        slots = self._let_go(row, keep)
        row.fed = 0
        self._moved = self._short = True
        self.waiting.put_back(row)
        return slots

    def forget(self, adapter: str | None) -> None:
        """The weights of `adapter` are others from now on (None: of the base); what they computed is not used again."""
        self._prefixes.forget(adapter)

    def admit(self) -> list[Row]:
        """Give free slots to those whose turn it is; returns the rows that have them now. Nobody overtakes them."""
        if self._short and self.running:
            return []
        begun = list(self._fitting())
        if not begun:
            return []
        self._moved = True
        busy = [seat.slot for row in self.running for seat in row.seats]
        count = len(busy) + sum(len(row.seats) for row in begun)
        self._peak = max(self._peak, count)
        for row in begun:
            self.waiting.take(row)
            self._prefixes.known(row)  # so that what is wanted now counts as fresh
        # Memory for keys and values grows with the slots that were ever used: no more than the peak and the spare ones.
        free = [slot for slot in sorted(self._free) if slot < self._peak + self._spare]
        self._copies += self._prefixes.sit(begun, free, busy)
        self._free -= {seat.slot for row in begun for seat in row.seats}
        self.running += begun
        self._unsettled += begun
        return begun

    def moved(self) -> list[tuple[Row, int]]:
        """Rows whose place in the queue has changed since they were last told, the next to begin being 1.

        Only the first `TOLD` are told, and none that has begun before.
        """
        if not self._moved:
            return []
        self._moved = False
        changed = []
        for position, row in enumerate(islice(self.waiting.order(self.running), TOLD), 1):
            if row.told != position and not row.begun:
                row.told = position
                changed.append((row, position))
        return changed

    def copies(self) -> list[Copy]:
        """What the runner has to copy, in this order, before its next pass."""
        self._fresh = []
        for row in list(self._unsettled):
            known = self._prefixes.known(row)
            soon = self._prefixes.known(row, self._joining())
            if soon > known and 2 * (soon - known) >= row.owing - known:
                continue  # another row computes at least half of the rest right now: once is less work than twice
            self._unsettled.remove(row)
            self._fresh.append(row)
            self._copies += self._prefixes.settle(row)
            if row.cached is None:
                row.cached = min(row.fed, len(row.prompt))
                self.cache_hits += row.cached
                self.cache_asked += len(row.prompt)
        copies, self._copies = self._copies, []
        return copies

    def lost(self, slot: int) -> None:
        """A copy into `slot` has failed: what it should have brought is computed."""
        self._prefixes.lose(slot)
        for row in self.running:
            if row.fed and slot in (seat.slot for seat in row.seats):
                row.fed = row.cached = 0

    def plan(self) -> Plan:
        joining = self._joining()
        decode = [row for row in self._settled() if row not in joining]
        return Plan(_by_slot(decode), self._prefill(joining, bool(decode)))

    def followers(self) -> list[Row]:
        """Rows whose beginning the last `copies` brought, all but one id: that is all they need to start.

        For lanes that come together and share a prompt, which one of them has just read: where nobody is decoding,
        they start in the same step as that one. Else they decode with the others in the next.
        """
        return _by_slot([row for row in self._fresh if row.fed and row.owing == 1])

    # ----------------------------------------------------------------------------------------------------------------

    def _fitting(self) -> Iterator[Row]:
        """Rows in their order, up to the first for which there is no room."""
        slots = self._slots - sum(len(row.seats) for row in self.running)
        tokens = None if self._tokens is None else self._tokens - sum(row.reserved for row in self.running)
        for row in self.waiting.order(self.running):
            slots -= len(row.seats)
            if tokens is not None:
                tokens -= row.reserved
            if slots < 0 or (tokens is not None and tokens < 0):
                return
            yield row

    def _settled(self) -> list[Row]:
        return [row for row in self.running if row not in self._unsettled]

    def _joining(self) -> list[Row]:
        return [row for row in self._settled() if row.owing > 1 or not row.fed]

    def _prefill(self, joining: list[Row], others: bool) -> list[tuple[Row, int]]:
        """Chunks of the lanes of the run whose turn it is, and of others while the padded batch is within budget."""
        if not joining:
            return []
        joining = self._take_turns(joining)
        if self._chunk is None:
            return [(joining[0], joining[0].owing)]
        budget = self._chunk if others else self._chunk * CHUNK_ALONE
        group, seats = [], 0
        for row in joining:
            if row.request.run == joining[0].request.run and (not group or seats + len(row.seats) <= budget):
                group.append(row)
                seats += len(row.seats)
        width = min(max(row.owing for row in group), max(1, budget // seats))
        for row in joining:
            if row not in group and row.owing <= width and (seats + len(row.seats)) * width <= budget:
                group.append(row)
                seats += len(row.seats)
        return [(row, min(row.owing, width)) for row in _by_slot(group)]

    def _take_turns(self, joining: list[Row]) -> list[Row]:
        """The rows with that one first whose owner, then whose run, has waited longest for a chunk."""
        names = [(("owner", row.request.owner), ("run", row.request.run)) for row in joining]
        # Who is new comes before the one that was last, and after all who wait already.
        self._turns = {name: self._turns.get(name, self._turn - 0.5) for pair in names for name in pair}
        order = sorted(range(len(joining)), key=lambda i: [self._turns[name] for name in names[i]])
        self._turn += 1
        self._turns.update(dict.fromkeys(names[order[0]], self._turn))
        return [joining[i] for i in order]

    def _let_go(self, row: Row, keep: bool) -> list[int]:
        slots = [seat.slot for seat in row.seats]
        self.running.remove(row)
        if row in self._unsettled:
            self._unsettled.remove(row)
        self._prefixes.leave(row, keep)
        self._free |= set(slots)
        for seat in row.seats:
            seat.slot = -1
        return slots


def _by_slot(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.slot)
