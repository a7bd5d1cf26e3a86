"""Whatever comes, goes, is stopped, gives way or is loaded anew, in whatever order: what the scheduler promises holds.

A model of the cache remembers which token of which model was written at each place, and refuses to compute a row over
anything that is not its own. `HYPOTHESIS_PROFILE=long` tries 10 000 stories instead of 300.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models_backend.text import prefixes
from models_backend.text.contract import EngineError
from models_backend.text.scheduler import CHUNK_ALONE, TOLD, Scheduler
from models_backend.text.sequence import Row

from .rows import Memory, row, step, successor

EXAMPLES = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 300
CHUNK = 4
WORTH = prefixes.WORTH
MODELS = (None, "x", "y")
# Few tokens and beginnings, so that much is shared.
BEGINNINGS = ((), (1, 2, 1), (1, 2, 1, 2, 0, 1, 2, 2, 1), (0,) * 12, tuple(range(3)) * 8)


class Batch(RuleBasedStateMachine):
    @initialize(
        slots=st.integers(1, 4),
        spare=st.integers(0, 2),
        tokens=st.none() | st.integers(20, 90),
        copies=st.booleans(),
        most=st.integers(2, 8),
    )
    def begin(self, slots: int, spare: int, tokens: int | None, copies: bool, most: int) -> None:
        prefixes.WORTH = 2  # prompts are short here
        self.slots, self.tokens, self.most = slots, tokens, most
        self.scheduler = Scheduler(slots, CHUNK, tokens=tokens, spare=spare, copies=copies, most=most)
        self.memory = Memory(slots + spare)
        self.rows: list[Row] = []  # that have not ended, in the order they came
        self.gave_way: set[Row] = set()
        self.places: dict[Row, int] = {}
        self.count = 0

    @rule(
        beginning=st.sampled_from(BEGINNINGS),
        rest=st.lists(st.integers(0, 2), min_size=1, max_size=3),
        lanes=st.integers(1, 3),
        owner=st.sampled_from("abc"),
        models=st.lists(st.sampled_from(MODELS), min_size=1, max_size=2),
        strength=st.sampled_from([None, 0.5]),
        most=st.integers(1, 6),
        scored=st.booleans(),
    )
    def submit(
        self,
        beginning: tuple[int, ...],
        rest: list[int],
        lanes: int,
        owner: str,
        models: list[str | None],
        strength: float | None,
        most: int,
        scored: bool,
    ) -> None:
        self.count += 1
        for lane in range(lanes):
            one = row(
                [*beginning, *rest],
                f"{self.count}",
                lane,
                owner,
                models[0],
                strength,
                models[1:],
                most,
                **({"prompt_logprobs": 0} if scored and lane else {}),
            )
            try:
                self.scheduler.add(one)
                self.rows.append(one)
            except EngineError as refused:
                fits = len(one.seats) <= self.slots and (self.tokens is None or one.reserved <= self.tokens)
                assert (refused.code == "queue_full") == fits
                assert not fits or len(self.scheduler.waiting) >= self.most  # rows that gave way come on top

    @rule(which=st.integers(0, 30))
    def stop(self, which: int) -> None:
        if self.rows:
            one = self.rows.pop(which % len(self.rows))
            assert self.scheduler.find(*one.key) is one
            self.scheduler.remove(one, keep=bool(one.answer.ids))

    @precondition(lambda self: len(self.scheduler.running) > 1)
    @rule()
    def run_out_of_memory(self) -> None:
        newest = self.scheduler.running[-1]
        self.scheduler.preempt(newest)
        self.gave_way.add(newest)

    @rule(model=st.sampled_from(MODELS))
    def load_anew(self, model: str | None) -> None:
        self.scheduler.forget(model)
        self.memory.generations[model] = self.memory.generations.get(model, 0) + 1

    @rule(times=st.integers(1, 4))
    def compute(self, times: int) -> None:
        for _ in range(times):
            self._step()

    def _step(self) -> bool:
        """One step, looked at from all sides; False when there was nothing to do."""
        scheduler = self.scheduler
        before = list(scheduler.running)
        decoding = [one for one in before if one.answer.ids and one.fed == one.length - 1]
        first = next(scheduler.waiting.order(scheduler.running), None)
        plan = step(scheduler, self.memory)
        begun = scheduler.running[len(before) :]
        assert first is None or not begun or begun[0] is first
        assert all(one in plan.decode for one in decoding), "a running row was left out"
        seats = sum(len(one.seats) for one, _ in plan.prefill)
        width = max((count for _, count in plan.prefill), default=0)
        limit = CHUNK * (1 if plan.decode else CHUNK_ALONE)
        assert seats * width <= limit or (len(plan.prefill) == 1 and width == 1)
        assert plan.decode or plan.prefill or not scheduler.running, "rows have slots and nobody computes"
        for one, place in scheduler.moved():
            assert not one.begun and 1 <= place <= TOLD and self.places.get(one) != place
            self.places[one] = place
        for one in list(scheduler.running):
            if len(one.answer.ids) >= one.used.max_tokens:
                self._end(one)
        return bool(before or begun)

    def _end(self, one: Row) -> None:
        self.scheduler.remove(one, keep=True)
        self.rows.remove(one)
        alone = row(one.prompt, adapter=one.adapter, strength=one.request.strength)
        for _ in one.answer.ids:
            alone.answer.ids.append(successor(alone))
        assert one.answer.ids == alone.answer.ids, "not the answer that it would have been"

    @invariant()
    def slots_are_held_by_one_seat_or_free(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        held = [seat.slot for one in self.scheduler.running for seat in one.seats]
        assert len(held) == len(set(held)) <= self.slots
        assert self.scheduler._free == set(range(len(self.memory.slots))) - set(held)
        assert all(seat.slot == -1 for one in self.scheduler.waiting for seat in one.seats)
        assert {*self.rows} == {*self.scheduler.running, *self.scheduler.waiting}

    @invariant()
    def reserved_memory_is_within_the_budget(self) -> None:
        if hasattr(self, "scheduler") and self.tokens is not None:
            assert sum(one.reserved for one in self.scheduler.running) <= self.tokens

    @invariant()
    def rows_of_a_run_begin_in_their_order(self) -> None:
        for n, one in enumerate(getattr(self, "rows", ())):
            for later in self.rows[n + 1 :]:
                if later.request.run == one.request.run and later.begun:
                    assert one.begun

    def teardown(self) -> None:
        """Nobody starves: whoever still waits ends within the steps that all of the work together takes."""
        if not hasattr(self, "scheduler"):
            return
        try:
            self._drain()
        finally:
            prefixes.WORTH = WORTH

    def _drain(self) -> None:
        for _ in range(sum(one.length + one.used.max_tokens + 2 for one in self.rows) + 1):
            if not self._step():
                break
        assert not self.rows
        assert self.scheduler._free == set(range(len(self.memory.slots)))


Batch.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    derandomize=EXAMPLES == 300,
    suppress_health_check=list(HealthCheck),
)
TestBatch = Batch.TestCase
