"""Which part a worker takes next."""

from hypothesis import given
from hypothesis import strategies as st

from models_backend.worker.entry import Entry
from models_backend.worker.turns import AHEAD, RIPE_MS, Queue, Room, choose, order

NOW = 1_000_000


def entry(owner: str, lanes: int = 1, waited: int = 10_000, n: int = 0) -> Entry:
    part = ",".join(map(str, range(lanes)))
    return Entry("diptych:queue:m", f"{NOW - waited}-{n}", f"{n:032x}", part, owner)


def queue(*entries: Entry, taken: int = 0) -> Queue:
    return Queue(entries, {one.id for one in entries[:taken]}, NOW)


def owners(found: Queue) -> str:
    return "".join(one.owner for one in order(found))


def test_fifty_runs_of_one_owner_keep_anothers_single_lane_waiting_for_one_turn() -> None:
    many = [entry("a", n=n) for n in range(50)]
    assert owners(queue(*many, entry("b", n=50)))[:3] == "aba"


def test_what_is_at_work_counts_and_who_came_first_is_next_among_equals() -> None:
    found = queue(entry("a", 8, n=0), entry("a", n=1), entry("c", n=2), entry("b", n=3), entry("b", n=4), taken=1)
    assert owners(found) == "cbba"


def test_among_equals_it_is_the_turn_of_who_has_waited_longest_since_the_last() -> None:
    entries = [entry("a", waited=900, n=0), entry("a", waited=900, n=1), entry("b", waited=500), entry("c", waited=50)]
    served = Queue(entries, (), NOW, served={"a": NOW - 100})
    assert owners(served) == "baca"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 8)), max_size=40), st.integers(0, 10))
def test_everybody_is_in_the_order_once_and_each_owners_parts_as_they_came(
    parts: list[tuple[str, int]], taken: int
) -> None:
    entries = [entry(owner, lanes, n=n) for n, (owner, lanes) in enumerate(parts)]
    found = list(order(queue(*entries, taken=taken)))
    assert sorted(found, key=entries.index) == entries[taken:]
    for owner in "abcd":
        mine = [one for one in found if one.owner == owner]
        assert mine == sorted(mine, key=entries.index)


def test_a_worker_with_room_for_all_lanes_takes_a_part_at_once() -> None:
    part = entry("a", 2, waited=0)
    assert choose(queue(part), Room(2, 8)) == (part, False)


def test_a_part_that_is_too_big_for_the_room_is_left_to_another_worker_for_a_moment() -> None:
    young, ripe = entry("a", 4, waited=RIPE_MS - 1), entry("a", 4, waited=RIPE_MS)
    assert choose(queue(young), Room(3, 8)) == (None, True)
    assert choose(queue(ripe), Room(3, 8)) == (ripe, False)
    assert choose(queue(young), Room(3, 3)) == (young, False), "a worker at rest has nothing to wait for"


def test_a_full_worker_takes_nothing_while_nobody_waits_in_it() -> None:
    assert choose(queue(entry("a")), Room(0, 8)) == (None, False)
    assert not Room(0, 8).ahead


def test_a_full_worker_takes_one_part_of_each_owner_that_those_who_wait_in_it_would_overtake() -> None:
    second, other, young = entry("a", n=1), entry("b", n=2), entry("c", waited=1, n=3)
    assert choose(queue(second, other), Room(-3, 8, frozenset("a"))) == (other, False)
    assert choose(queue(second, young), Room(-3, 8, frozenset("a"))) == (None, True)
    assert choose(queue(second), Room(-3, 8, frozenset("ab"))) == (None, False)


def test_a_full_worker_hoards_no_more_than_a_few_parts() -> None:
    many = frozenset(map(str, range(AHEAD)))
    assert choose(queue(entry("z")), Room(-9, 8, many)) == (None, False)
