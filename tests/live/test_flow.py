"""Flow control with the clock given: the window, the pace and the budget of one socket."""

from hypothesis import given
from hypothesis import strategies as st

from playground.live import flow
from playground.live.outbox import FRAME_BYTES, portions


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_window_closes_at_64_frames_and_opens_with_an_acknowledgement():
    window = flow.Window()
    for _ in range(64):
        assert window.open
        window.send(10)
    assert not window.open
    assert window.acknowledge(1) and window.open


def test_the_window_closes_by_bytes_too_but_one_frame_always_fits():
    window = flow.Window()
    window.send(1_000_000)
    assert not window.open
    window.acknowledge(1)
    assert window.open


def test_acknowledging_a_frame_acknowledges_those_before_it():
    window = flow.Window()
    for _ in range(10):
        window.send(1)
    assert window.acknowledge(7) and window.waiting == 3


def test_an_acknowledgement_of_nothing_changes_nothing():
    window = flow.Window()
    assert not window.acknowledge(1)
    window.send(5)
    assert not window.acknowledge(2) and not window.acknowledge(0)
    assert window.acknowledge(1) and not window.acknowledge(1)


@given(st.lists(st.integers(1, 100_000)), st.data())
def test_the_window_counts_what_was_sent_and_not_acknowledged(sizes, data):
    window = flow.Window()
    for size in sizes:
        window.send(size)
    upto = data.draw(st.integers(0, len(sizes)))
    window.acknowledge(upto)
    assert (window._bytes, window.waiting) == (sum(sizes[upto:]), len(sizes) - upto)


def test_slow_streams_are_sent_at_once_and_fast_ones_collected():
    clock = Clock()
    pace = flow.Pace(clock)
    for _ in range(100):
        clock.now += 1 / 30
        assert pace.sent(1) == 0
    waits = []
    for _ in range(100):
        clock.now += 1 / 200
        waits.append(pace.sent(1))
    assert waits[0] == 0 and waits[-1] == flow.COLLECT_SECONDS
    for _ in range(30):
        clock.now += 1 / 20
        last = pace.sent(1)
    assert last == 0


def test_a_client_may_say_much_at_once_and_then_little_by_little():
    clock = Clock()
    budget = flow.Budget(clock)
    assert [budget.take() for _ in range(101)] == [True] * 100 + [False]
    clock.now += 0.1
    assert [budget.take() for _ in range(3)] == [True, True, False]
    clock.now += 3600
    assert sum(budget.take() for _ in range(200)) == 100


@given(st.lists(st.integers(1, 2 * FRAME_BYTES), min_size=1, max_size=30))
def test_entries_are_cut_into_frames_in_order_and_none_is_lost(sizes):
    entries = [(number, b"x" * size) for number, size in enumerate(sizes)]
    cut = portions(entries)
    assert [entry for some in cut for entry in some] == entries
    assert all(len(some) == 1 or sum(len(raw) for _, raw in some) <= FRAME_BYTES for some in cut)
