"""Who is computed next: order, budget, and that nobody starves."""

from hypothesis import given
from hypothesis import strategies as st

from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion
from models_backend.text.contract import Request
from models_backend.text.defaults import resolve
from models_backend.text.fake import FakeDialect
from models_backend.text.scheduler import CHUNK_ALONE, Plan, Scheduler
from models_backend.text.sequence import Answer, Row, Times

CHUNK = 16


def row(length: int, run: str = "r", lane: int = 0) -> Row:
    used = resolve(Params(), {}, 0, 100)
    request = Request(run, lane, "m", Completion(""), Params(), 0)
    return Row(request, None, [0] * length, used, Answer(FakeDialect(), used), Times(0))


def work(plan: Plan) -> None:
    for one in plan.decode:
        one.fed += 1
        one.answer.ids.append(0)
    for one, count in plan.prefill:
        done = count == one.owing
        one.fed += count
        if done:
            one.answer.ids.append(0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 90)), min_size=1, max_size=8), st.integers(1, 4))
def test_everyone_starts_in_the_end_and_running_rows_never_wait_longer_than_a_chunk(
    lanes: list[tuple[str, int]], slots: int
) -> None:
    scheduler = Scheduler(slots, CHUNK)
    rows = [row(length, run, lane) for lane, (run, length) in enumerate(lanes)]
    for one in rows:
        scheduler.add(one)
    begun: list[Row] = []
    for _ in range(400):
        begun += scheduler.admit()
        plan = scheduler.plan()
        padded = len(plan.prefill) * max((count for _, count in plan.prefill), default=0)
        assert padded <= CHUNK * (1 if plan.decode else CHUNK_ALONE)
        assert plan.decode or plan.prefill or not scheduler.running
        assert len({one.slot for one in scheduler.running}) == len(scheduler.running) <= slots
        assert all(one in plan.decode for one in scheduler.running if one.answer.ids)
        work(plan)
        for one in list(scheduler.running):
            if len(one.answer.ids) >= 3:
                scheduler.remove(one)
    assert begun == rows
    assert not scheduler.running
    assert not scheduler.waiting


def test_the_lanes_of_one_run_read_their_prompts_together() -> None:
    scheduler = Scheduler(4, CHUNK)
    pair, other = [row(40, "pair", lane) for lane in (0, 1)], row(40, "other")
    for one in (*pair, other):
        scheduler.add(one)
    scheduler.admit()
    while not pair[0].answer.ids:
        plan = scheduler.plan()
        assert [one for one, _ in plan.prefill] == pair
        work(plan)
    assert pair[1].answer.ids
    assert not other.fed


def test_a_whole_prompt_goes_in_at_once_where_the_runner_cannot_take_pieces() -> None:
    scheduler = Scheduler(4, None)
    for lane in range(2):
        scheduler.add(row(900, lane=lane))
    scheduler.admit()
    assert [count for _, count in scheduler.plan().prefill] == [900]
