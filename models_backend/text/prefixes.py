"""Which ids the keys and values in each cache slot belong to, so that a prompt's known beginning is not computed again.

A radix tree of slots, made simple (after SGLang's RadixAttention, arXiv 2312.07104): there are few slots, so the
longest shared beginning is found by looking at each. Keys and values are known by the owner, the adapter, its strength
and the ids; nothing is shared between owners, for a hit would tell one what another has asked. Knows ids and slots
only: what has to be copied is told, not done.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from .sequence import Row, Seat

WORTH = 16  # ids: fewer are computed again rather than kept aside


@dataclass(frozen=True, slots=True)
class Copy:
    """Make slot `target` hold what `source` holds at its first `length` positions."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Key:
    """Two rows with the same key and the same ids have the same keys and values."""

    owner: str
    adapter: str | None
    strength: float
    generation: int  # of the adapter: its weights may have been loaded anew under the same id


@dataclass(slots=True)
class _Held:
    """`row` is at work in the slot and holds its first `fed` ids; without a row, `ids` is what was left there."""

    key: Key
    row: Row | None
    ids: Sequence[int]
    stamp: int


class Prefixes:
    """What the slots hold. With `copies` false slots hold nothing that anyone could use."""

    def __init__(self, copies: bool) -> None:
        self.copies = copies
        self._held: dict[int, _Held] = {}
        self._generations: dict[str | None, int] = {}
        self._clock = 0

    def key(self, row: Row, seat: Seat) -> Key:
        return Key(row.request.owner, seat.adapter, seat.strength, self._generations.get(seat.adapter, 0))

    def forget(self, adapter: str | None) -> None:
        """What was computed with this adapter, also by rows that are still at work, is of no use to later rows."""
        self._generations[adapter] = self._generations.get(adapter, 0) + 1
        stale = [slot for slot, held in self._held.items() if held.row is None and held.key.adapter == adapter]
        for slot in stale:
            del self._held[slot]

    def known(self, row: Row, computing: Iterable[Row] = ()) -> int:
        """How many of the row's first ids all its seats find somewhere, counting what `computing` rows will have."""
        ids, soon = self._beginning(row), set(computing)
        if not ids:
            return 0
        return min(self._best(self.key(row, seat), ids, soon)[0] for seat in row.seats)

    def sit(self, rows: Sequence[Row], free: Sequence[int], busy: Sequence[int]) -> list[Copy]:
        """Give each seat of the rows one of the `free` slots; `busy` are those of the rows they will be batched with.

        The slots of a batch lie side by side if they can, for then a cache can be read without gathering it. Among
        such places it takes those where the rows' beginnings lie, else those that were not wanted for longest. What is
        overwritten and worth it moves to a free slot that nobody takes now.
        """
        seats = [(seat, self.key(row, seat), self._beginning(row)) for row in rows for seat in row.seats]
        found = [{slot: self._left(slot, key, ids) for slot in free} for _, key, ids in seats]
        windows = [free[i : i + len(seats)] for i in range(len(free) - len(seats) + 1)]
        targets = max(windows, key=lambda window: self._merit(window, found, busy))
        spare = [slot for slot in free if slot not in targets]
        copies: list[Copy] = []
        for seat, slot in _pair(found, targets):
            seats[seat][0].slot = slot
            copies += self._set_aside(slot, found[seat][slot], spare)
        return copies

    def settle(self, row: Row) -> list[Copy]:
        """Bring what is known of the row's beginning into its slots, and make it hold them; sets `row.fed`."""
        length = self.known(row)
        ids = row.ids[:length]
        row.fed = length  # first, for a seat may copy from the one before it
        copies: list[Copy] = []
        for seat in row.seats:
            key = self.key(row, seat)
            if length and self._left(seat.slot, key, ids) < length:
                copies.append(Copy(self._best(key, ids, set())[1], seat.slot, length))
            self._held[seat.slot] = _Held(key, row, (), self._tick())
        return copies

    def lose(self, slot: int) -> None:
        """What should be in `slot` is not."""
        held = self._held.get(slot)
        if held is not None and held.row is None:
            del self._held[slot]

    def leave(self, row: Row, keep: bool) -> None:
        """The row lets its slots go; `keep` what it computed there for others."""
        left = row.ids[: row.fed]
        for seat in row.seats:
            held = self._held.get(seat.slot)
            if held is None or held.row is not row:  # it never settled: what was there before is there still
                continue
            if keep and left and self.copies and held.key == self.key(row, seat):
                self._held[seat.slot] = _Held(held.key, None, left, self._tick())
            else:
                del self._held[seat.slot]

    # ----------------------------------------------------------------------------------------------------------------

    def _beginning(self, row: Row) -> list[int]:
        """The ids that need not be computed again. At least one always is: something must come out of it."""
        last = row.length - (1 if row.ends is None else 2)
        return row.ids[: max(0, min(row.reusable, last))] if self.copies else []

    def _merit(self, window: Sequence[int], found: Sequence[dict[int, int]], busy: Sequence[int]) -> tuple[float, ...]:
        """How good it is to seat rows here: side by side, over what they know, over what is old, low."""
        batch = sorted([*window, *busy])
        beside = batch[-1] - batch[0] < len(batch)
        lost, kept = 0, 0
        for seat, slot in _pair(found, window):
            held = self._held.get(slot)
            if held is not None and 2 * found[seat][slot] >= len(held.ids):
                kept += found[seat][slot]
            elif held is not None:
                lost = max(lost, held.stamp)
        return beside, kept, -lost, -window[0]

    def _best(self, key: Key, ids: Sequence[int], soon: set[Row]) -> tuple[int, int]:
        """The longest beginning of `ids` in any slot, and the slot."""
        best = (0, -1)
        for slot, held in self._held.items():
            if held.key == key:
                best = max(best, (_shared(ids, self._contents(held, soon)), slot))
        if best[0]:
            self._held[best[1]].stamp = self._tick()
        return best

    def _left(self, slot: int, key: Key, ids: Sequence[int]) -> int:
        """How much of `ids` lies in a slot that nobody works in."""
        held = self._held.get(slot)
        return _shared(ids, held.ids) if held and held.row is None and held.key == key else 0

    @staticmethod
    def _contents(held: _Held, soon: set[Row]) -> Sequence[int]:
        if held.row is None:
            return held.ids
        return held.row.ids if held.row in soon else held.row.ids[: held.row.fed]

    def _set_aside(self, slot: int, used: int, spare: Sequence[int]) -> list[Copy]:
        """Copy what was left in `slot`, all but `used` of which will be lost, to where the least is lost by it."""
        held = self._held.get(slot)
        if held is None or held.row is not None or not spare or len(held.ids) - used < max(WORTH, used):
            return []
        place = min(spare, key=lambda s: (self._held[s].stamp if s in self._held else 0, s))
        if place in self._held and self._held[place].stamp > held.stamp:
            return []
        twins = [twin for twin in self._held.values() if twin is not held and twin.key == held.key]
        if any(_shared(held.ids, self._contents(twin, set())) == len(held.ids) for twin in twins):
            return []
        self._held[place] = replace(held)
        return [Copy(slot, place, len(held.ids))]

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _pair(found: Sequence[dict[int, int]], slots: Sequence[int]) -> list[tuple[int, int]]:
    """Each seat, by its number, with one of the slots: where most of its beginning lies, first those that have most."""
    pairs: dict[int, int] = {}
    for seat, slot in sorted(product(range(len(found)), slots), key=lambda pair: -found[pair[0]][pair[1]]):
        if seat not in pairs and slot not in pairs.values():
            pairs[seat] = slot
    return sorted(pairs.items())


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning: slices compare fast, so by halves."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
