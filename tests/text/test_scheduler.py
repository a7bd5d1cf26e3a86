"""Who is computed next: turns, room, chunks, what is read once for all, and what waits for whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_backend.text.contract import EngineError
from models_backend.text.scheduler import CHUNK_ALONE, Scheduler
from models_backend.text.sequence import Row

from .rows import Memory, row, step, work

CHUNK = 16


def finish(scheduler: Scheduler, *rows: Row) -> None:
    for one in rows:
        scheduler.remove(one, keep=True)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 90)), min_size=1, max_size=8), st.integers(1, 4))
def test_everyone_starts_in_the_end_and_running_rows_never_wait_longer_than_a_chunk(
    lanes: list[tuple[str, int]], slots: int
) -> None:
    scheduler = Scheduler(slots, CHUNK)
    rows = [row([0] * length, run, lane) for lane, (run, length) in enumerate(lanes)]
    for one in rows:
        scheduler.add(one)
    begun: list[Row] = []
    for _ in range(400):
        begun += scheduler.admit()
        assert scheduler.copies() == []
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
    assert sorted(begun, key=rows.index) == rows
    for run in "abc":
        mine = [one for one in begun if one.request.run == run]
        assert mine == sorted(mine, key=rows.index)
    assert not scheduler.running
    assert not len(scheduler.waiting)


# Turns ----------------------------------------------------------------------------------------------------------------


def test_the_single_lane_of_one_owner_is_next_after_fifty_runs_of_another() -> None:
    scheduler = Scheduler(2, CHUNK)
    for n in range(50):
        scheduler.add(row([n], f"a{n}", owner="a"))
    first, _ = scheduler.admit()
    late = row([7], "b", owner="b")
    scheduler.add(late)
    scheduler.remove(first)
    assert scheduler.admit() == [late]


def test_with_one_slot_owners_take_turns_and_who_comes_later_waits_for_one() -> None:
    scheduler = Scheduler(1, CHUNK)
    for n in range(4):
        scheduler.add(row([n], "a", n, owner="a"))
    begun = ""
    for n in range(10):
        found = scheduler.admit()
        begun += "".join(one.request.owner for one in found)
        if n < 4:
            scheduler.add(row([n], f"{n}", owner="bcde"[n]))
        for one in found:
            scheduler.remove(one)
    assert begun == "aabacdae", "nobody has two turns while another who came before the first of them waits"


def test_eight_lanes_of_a_run_leave_room_for_another_owners_lane_that_came_later() -> None:
    scheduler = Scheduler(8, CHUNK)
    eight = [row([lane], "a", lane, owner="a") for lane in range(8)]
    single = row([9], "b", owner="b")
    for one in (*eight, single):
        scheduler.add(one)
    begun = scheduler.admit()
    assert single in begun
    assert [one for one in begun if one is not single] == eight[:7]


def test_a_second_run_of_an_owner_is_next_before_the_first_ones_further_lanes() -> None:
    scheduler = Scheduler(2, CHUNK)
    long = [row([lane], "long", lane) for lane in range(4)]
    for one in long:
        scheduler.add(one)
    assert scheduler.admit() == long[:2]
    short = row([5], "short")
    scheduler.add(short)
    scheduler.remove(long[0])
    assert scheduler.admit() == [short]


def test_the_lanes_of_a_run_begin_together_where_there_is_room() -> None:
    scheduler = Scheduler(4, CHUNK)
    pairs = [[row([lane], run, lane, owner=run) for lane in (0, 1)] for run in ("a", "b", "c")]
    for pair in pairs:
        for one in pair:
            scheduler.add(one)
    assert scheduler.admit() == [*pairs[0], *pairs[1]]


def test_the_lanes_of_one_run_read_their_prompts_together() -> None:
    scheduler = Scheduler(4, CHUNK)
    pair, other = [row([0] * 40, "pair", lane) for lane in (0, 1)], row([0] * 40, "other")
    for one in (*pair, other):
        scheduler.add(one)
    scheduler.admit()
    scheduler.copies()
    while not pair[0].answer.ids:
        plan = scheduler.plan()
        assert [one for one, _ in plan.prefill if one is not other] in (pair, [])
        work(plan)
    assert pair[1].answer.ids


def test_long_prompts_take_turns_and_a_short_one_waits_for_one_chunk_of_each() -> None:
    scheduler = Scheduler(8, CHUNK)
    long = [row([n] * 10_000, f"long{n}", owner="a") for n in range(3)]
    decoding = row([5], "early", owner="b")
    scheduler.add(decoding)
    step(scheduler)
    for one in long:
        scheduler.add(one)
    for _ in range(30):
        step(scheduler)
    assert [one.fed for one in long] == [10 * CHUNK] * 3
    short = row([9] * 4, "short", owner="c")
    scheduler.add(short)
    step(scheduler)
    assert short.answer.ids


def test_a_long_prompt_is_not_starved_by_a_stream_of_short_ones() -> None:
    scheduler = Scheduler(4, CHUNK)
    long = row([1] * 5 * CHUNK, "long")
    scheduler.add(long)
    for n in range(100):
        scheduler.add(row([2] * CHUNK, f"short{n}"))
        step(scheduler)
        finish(scheduler, *[one for one in scheduler.running if one.answer.ids and one is not long])
        if long.answer.ids:
            break
    assert n <= 20


def test_a_whole_prompt_goes_in_at_once_where_the_runner_cannot_take_pieces() -> None:
    scheduler = Scheduler(4, None)
    for lane in range(2):
        scheduler.add(row([0] * 900, lane=lane))
    scheduler.admit()
    scheduler.copies()
    assert [count for _, count in scheduler.plan().prefill] == [900]


# Room -----------------------------------------------------------------------------------------------------------------


def test_a_row_begins_when_there_is_memory_for_its_longest_answer_and_nobody_overtakes_it() -> None:
    scheduler = Scheduler(8, CHUNK, tokens=250)
    first, big, small = row([0] * 50, "a"), row([0] * 100, "b"), row([0], "c", most=10)
    for one in (first, big, small):
        scheduler.add(one)
    assert scheduler.admit() == [first]  # 150 of 250; the next wants 200
    assert scheduler.admit() == []
    scheduler.remove(first)
    assert scheduler.admit() == [big, small]


def test_a_row_that_could_never_begin_is_refused_at_once_with_the_numbers() -> None:
    scheduler = Scheduler(2, CHUNK, tokens=250)
    with pytest.raises(EngineError, match=r"come to 251 tokens over 1 model, .* memory for 250") as refused:
        scheduler.add(row([0] * 151))
    assert refused.value.code == "memory_exceeded"
    with pytest.raises(EngineError, match="come to 300 tokens over 2 models"):
        scheduler.add(row([0] * 50, shadows=["x"]))
    with pytest.raises(EngineError, match="3 places at once") as refused:
        scheduler.add(row([0], shadows=["x", "y"]))
    assert refused.value.code == "too_many_shadows"
    assert not len(scheduler.waiting)


def test_too_many_waiting_rows_are_refused_by_name() -> None:
    scheduler = Scheduler(1, CHUNK, most=3)
    for lane in range(3):
        scheduler.add(row([0], lane=lane))
    with pytest.raises(EngineError, match="3 answers are waiting") as refused:
        scheduler.add(row([0], lane=3))
    assert refused.value.code == "queue_full"


def test_a_row_with_shadows_takes_a_slot_for_each() -> None:
    scheduler = Scheduler(4, CHUNK)
    pair, other = row([0], "a", shadows=["x"]), row([0], "b", shadows=["x", "y"])
    scheduler.add(pair)
    scheduler.add(other)
    assert scheduler.admit() == [pair]
    assert [seat.slot for seat in pair.seats] == [0, 1]
    assert scheduler.remove(pair) == [0, 1]
    assert scheduler.admit() == [other]


def test_a_row_that_gave_way_comes_first_again_but_not_before_another_has_ended() -> None:
    scheduler = Scheduler(4, CHUNK)
    rows = [row([lane], "r", lane) for lane in range(3)]
    for one in rows[:2]:
        scheduler.add(one)
    step(scheduler)
    said = list(rows[1].answer.ids)
    scheduler.preempt(rows[1])
    scheduler.add(rows[2])
    assert scheduler.admit() == []
    scheduler.remove(rows[0])
    assert scheduler.admit() == [rows[1], rows[2]]
    assert (rows[1].fed, rows[1].answer.ids) == (0, said)


# Positions ------------------------------------------------------------------------------------------------------------


def test_who_waits_is_told_the_place_and_each_change_of_it_once() -> None:
    scheduler = Scheduler(1, CHUNK)
    a, b, c = (row([0], run, owner=run) for run in "abc")
    for one in (a, b, c):
        scheduler.add(one)
    scheduler.admit()
    assert scheduler.moved() == [(b, 1), (c, 2)]
    assert scheduler.moved() == []
    scheduler.remove(b)
    assert scheduler.moved() == [(c, 1)]
    scheduler.remove(a)
    scheduler.admit()
    assert scheduler.moved() == []


def test_a_row_that_has_begun_is_told_no_place() -> None:
    scheduler = Scheduler(2, CHUNK)
    a, b = row([0], "a"), row([0], "b")
    for one in (a, b):
        scheduler.add(one)
    step(scheduler)
    scheduler.preempt(b)
    scheduler.admit()
    assert scheduler.moved() == []


def test_only_the_head_of_a_long_queue_is_told_its_place() -> None:
    scheduler = Scheduler(1, CHUNK)
    for n in range(300):
        scheduler.add(row([0], f"{n}"))
    assert [position for _, position in scheduler.moved()] == list(range(1, 101))


# Beginnings that are known --------------------------------------------------------------------------------------------


def caching(slots: int = 4, spare: int = 2) -> tuple[Scheduler, Memory]:
    return Scheduler(slots, CHUNK, spare=spare, copies=True), Memory(slots + spare)


def answer(scheduler: Scheduler, memory: Memory, *rows: Row, tokens: int = 3) -> int:
    """Compute rows that come together; how many ids went through the model for it."""
    before = memory.computed
    for one in rows:
        scheduler.add(one)
    while any(one in scheduler.running or one in scheduler.waiting for one in rows):
        step(scheduler, memory)
        finish(scheduler, *[one for one in rows if one in scheduler.running and len(one.answer.ids) >= tokens])
    return memory.computed - before


PROMPT = [n % 7 for n in range(100)]


def test_the_same_prompt_again_computes_only_its_last_token_and_the_answer() -> None:
    scheduler, memory = caching()
    assert answer(scheduler, memory, row(PROMPT, "a")) == 100 + 2
    again = row(PROMPT, "b")
    assert answer(scheduler, memory, again) == 1 + 2
    assert again.cached == again.figures().cached_tokens == 99
    assert (scheduler.cache_hits, scheduler.cache_asked) == (99, 200)


def test_the_next_turn_of_a_chat_goes_on_behind_the_answer_before() -> None:
    scheduler, memory = caching()
    first = row(PROMPT, "a")
    answer(scheduler, memory, first)
    turn = row([*first.ids, 5, 5, 5], "b")
    assert answer(scheduler, memory, turn) == 1 + 3 + 2  # the last token of an answer has never gone through the model


def test_lanes_of_one_model_and_prompt_that_come_together_read_it_once() -> None:
    scheduler, memory = caching(slots=8)
    assert answer(scheduler, memory, *[row(PROMPT, "a", lane) for lane in range(8)], tokens=1) == 100 + 7


def test_what_each_of_two_models_knows_is_not_given_to_the_other() -> None:
    scheduler, memory = caching()
    answer(scheduler, memory, row(PROMPT, "a"))
    for other in (row(PROMPT, "b", adapter="x"), row(PROMPT, "c", adapter="x", strength=0.5)):
        answer(scheduler, memory, other)
        assert other.cached == 0


def test_what_one_owner_asked_is_nobody_elses_to_find() -> None:
    scheduler, memory = caching()
    answer(scheduler, memory, row(PROMPT, "a", owner="a"))
    other = row(PROMPT, "b", owner="b")
    answer(scheduler, memory, other)
    assert other.cached == 0


def test_a_pair_that_alternates_with_another_prompt_finds_its_own_in_the_spare_slots() -> None:
    scheduler, memory = caching()
    other = [n % 5 for n in range(1, 80)]
    for prompt in (PROMPT, other):
        answer(scheduler, memory, row(prompt, "1"), row(prompt, "1", 1, adapter="x"))
    for prompt in (PROMPT, other, PROMPT):
        pair = row(prompt, "2"), row(prompt, "2", 1, adapter="x")
        answer(scheduler, memory, *pair)
        assert [one.cached for one in pair] == [len(prompt) - 1] * 2


def test_rows_of_a_batch_stay_side_by_side_whatever_they_find() -> None:
    scheduler, memory = caching(slots=4, spare=4)
    prompts = [[n % base for n in range(60)] for base in (3, 4, 5, 6)]
    for n, prompt in enumerate(prompts):
        answer(scheduler, memory, row(prompt, f"{n}"))
    again = [row(prompt, "all", lane) for lane, prompt in enumerate(prompts[1:3])]
    for one in again:
        scheduler.add(one)
    step(scheduler, memory)
    assert again[1].slot == again[0].slot + 1
    assert [one.cached for one in again] == [59, 59]


def test_what_is_in_the_way_of_a_row_that_must_sit_beside_others_is_moved_and_found_again() -> None:
    scheduler, memory = caching(slots=2, spare=1)
    running, early = row([9, 9], "a"), row(PROMPT, "b")
    scheduler.add(running)
    answer(scheduler, memory, early)
    late = row([8] * 30, "c")
    answer(scheduler, memory, late)
    again = row(PROMPT, "d")
    answer(scheduler, memory, again)
    assert again.cached == 99
    assert memory.slots[2][:99] == memory.slots[1][:99], "moved when `late` came, and copied back"


def test_scored_prompts_are_computed_whole_but_others_may_use_them() -> None:
    scheduler, memory = caching()
    answer(scheduler, memory, row(PROMPT, "a"))
    scored, after = row(PROMPT, "b", prompt_logprobs=1), row(PROMPT, "c")
    answer(scheduler, memory, scored)
    answer(scheduler, memory, after)
    assert (scored.cached, after.cached) == (0, 99)


def test_weights_that_were_loaded_anew_find_nothing_of_the_old_ones() -> None:
    scheduler, memory = caching()
    answer(scheduler, memory, row(PROMPT, "a", adapter="x"), row(PROMPT, "a", 1))
    early = row(PROMPT, "b", adapter="x")
    scheduler.add(early)
    step(scheduler, memory)
    scheduler.forget("x")
    memory.generations["x"] = 1
    late, base = row(PROMPT, "c", adapter="x"), row(PROMPT, "d")
    answer(scheduler, memory, late, base)
    finish(scheduler, early)
    answer(scheduler, memory, row([*early.ids, 5], "e", adapter="x"))  # `memory` sees whose keys it begins over
    assert (late.cached, base.cached) == (0, 99)


def test_a_row_whose_numbers_broke_leaves_nothing() -> None:
    scheduler, memory = caching()
    broken, after = row(PROMPT, "a"), row(PROMPT, "b")
    scheduler.add(broken)
    step(scheduler, memory)
    scheduler.remove(broken, keep=False)
    answer(scheduler, memory, after)
    assert after.cached == 0


def test_a_copy_that_fails_is_computed_instead() -> None:
    scheduler, memory = caching()
    pair = [row(PROMPT, "a", lane) for lane in (0, 1)]
    for one in pair:
        scheduler.add(one)
    while not (copies := (scheduler.admit(), scheduler.copies())[1]):
        work(scheduler.plan(), memory)
    assert [copy.target for copy in copies] == [pair[1].slot]
    scheduler.lost(pair[1].slot)
    assert (pair[1].fed, pair[1].cached) == (0, 0)
    work(scheduler.plan(), memory)
    assert pair[1].fed == CHUNK


def test_a_row_and_its_shadow_find_what_both_have() -> None:
    scheduler, memory = caching()
    answer(scheduler, memory, row(PROMPT, "a"))
    answer(scheduler, memory, row([*PROMPT[:50], 9], "b", adapter="x"))
    both = row(PROMPT, "c", shadows=["x"])
    answer(scheduler, memory, both)
    assert both.cached == 50


def test_a_row_whose_shadow_is_its_own_model_finds_for_both_what_lies_where_one_of_them_sits() -> None:
    scheduler, memory = caching(slots=2, spare=0)
    answer(scheduler, memory, row(PROMPT, "a", shadows=[None]))
    answer(scheduler, memory, row(PROMPT[:3], "b"))
    both = row(PROMPT, "c", shadows=[None])
    answer(scheduler, memory, both)
    assert both.cached == 99


def test_short_beginnings_in_common_do_not_make_rows_wait_for_each_other() -> None:
    scheduler, memory = caching()
    pair = [row([1, 2, 3, *[lane] * 9], f"{lane}") for lane in (4, 5)]
    for one in pair:
        scheduler.add(one)
    step(scheduler, memory)
    assert all(one.answer.ids for one in pair)
