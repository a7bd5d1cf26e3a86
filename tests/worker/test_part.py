"""What a worker keeps of the lanes it owns."""

from models_backend.protocol.events import Figures, LaneDone, LaneToken
from models_backend.worker.entry import Entry
from models_backend.worker.part import Part


def part(lanes=(0, 1)) -> Part:
    return Part(Entry("diptych:queue:m", "1-0", "a" * 32, ",".join(map(str, lanes))), attempt=1, lanes=set(lanes))


def token(lane: int, index: int) -> LaneToken:
    return LaneToken(lane, index, (index,), "x", 0)


def done(lane: int) -> LaneDone:
    return LaneDone(lane, "stop", Figures(), 0)


def test_events_leave_in_numbered_batches_until_all_are_written():
    owned = part()
    owned.add(token(0, 0))
    owned.add(token(1, 0))
    assert owned.next_batch() == (1, [token(0, 0), token(1, 0)])
    owned.add(token(0, 1))
    assert owned.next_batch() == (1, [token(0, 0), token(1, 0)]), "a batch that may be on the bus is not changed"
    owned.written(1)
    assert owned.next_batch() == (2, [token(0, 1)])
    owned.written(2)
    assert owned.next_batch() is None


def test_batches_that_the_bus_lost_are_sent_again_as_they_were():
    owned = part()
    for index in range(3):
        owned.add(token(0, index))
        number, _ = owned.next_batch()
        owned.written(number)
    owned.written(1)
    assert owned.next_batch() == (2, [token(0, 1)])
    owned.written(2)
    assert owned.next_batch() == (3, [token(0, 2)])


def test_a_part_is_over_when_every_lane_has_ended_and_every_batch_is_written():
    owned = part()
    owned.add(done(0))
    owned.add(done(1))
    assert not owned.over
    number, _ = owned.next_batch()
    owned.written(number)
    assert owned.over


def test_a_lane_that_has_ended_says_nothing_more():
    owned = part()
    owned.add(done(0))
    owned.add(token(0, 0))
    assert owned.next_batch() == (1, [done(0)])
