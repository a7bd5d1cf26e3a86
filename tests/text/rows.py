"""Rows for the scheduler's tests, and a runner that computes nothing but remembers what was written where."""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion
from models_backend.text.contract import Request
from models_backend.text.defaults import resolve
from models_backend.text.fake import FakeDialect
from models_backend.text.prefixes import Copy
from models_backend.text.scheduler import Plan, Scheduler
from models_backend.text.sequence import Answer, Row, Seat, Times

Written = tuple[str, str | None, float, int, int]  # owner, adapter, strength, generation of the weights, id


def row(
    ids: Sequence[int],
    run: str = "r",
    lane: int = 0,
    owner: str = "",
    adapter: str | None = None,
    strength: float | None = None,
    shadows: Sequence[str | None] = (),
    most: int = 100,
    **params: object,
) -> Row:
    asked = Params(**params)  # type: ignore[arg-type]
    used = resolve(asked, {"max_tokens": most}, 0, 10_000)
    request = Request(run, lane, "m", Completion(""), asked, 0, owner=owner, strength=strength)
    made = Row(request, adapter, list(ids), used, Answer(FakeDialect(), used), Times(0))
    made.companions = [Seat(shadow) for shadow in shadows]
    return made


def successor(one: Row) -> int:
    """The next token of a row: of its ids and its model alone."""
    return crc32(repr((one.ids, one.adapter, one.own.strength)).encode()) % 3


@dataclass
class Slip(AssertionError):
    """A row would have read what is not its own."""

    what: str


class Memory:
    """Slots x positions; says what each holds, and refuses to compute a row over anything that is not its own."""

    def __init__(self, slots: int) -> None:
        self.slots: list[list[Written]] = [[] for _ in range(slots)]
        self.generations: dict[str | None, int] = {}
        self.computed = 0

    def copy(self, copy: Copy) -> None:
        held = self.slots[copy.source][: copy.length]
        if len(held) < copy.length:
            raise Slip(f"{copy} of a slot that holds {len(held)}")
        self.slots[copy.target][: copy.length] = held

    def begin(self, one: Row) -> None:
        """What a row found in the cache must be what it would have computed now."""
        for seat in one.seats:
            expected = [self._mark(one, seat, token) for token in one.ids[: one.fed]]
            if self.slots[seat.slot][: one.fed] != expected:
                raise Slip(f"{one.key} begins over {self.slots[seat.slot]}")

    def feed(self, one: Row, count: int) -> None:
        for seat in one.seats:
            held = self.slots[seat.slot]
            before = [(owner, adapter, strength, token) for owner, adapter, strength, _, token in held[: one.fed]]
            own = [(one.request.owner, seat.adapter, seat.strength, token) for token in one.ids[: one.fed]]
            if before != own:
                raise Slip(f"{one.key} goes on over {before}")
            marks = [self._mark(one, seat, token) for token in one.ids[one.fed : one.fed + count]]
            held[one.fed : one.fed + count] = marks
            self.computed += count

    def _mark(self, one: Row, seat: Seat, token: int) -> Written:
        generation = self.generations.get(seat.adapter, 0)
        return (one.request.owner, seat.adapter, seat.strength, generation, token)


def work(plan: Plan, memory: Memory | None = None) -> None:
    """What the engine does with a plan."""
    compute([*((one, 1) for one in plan.decode), *plan.prefill], memory)


def compute(todo: Sequence[tuple[Row, int]], memory: Memory | None) -> None:
    """Feed so many ids of each row, with `successor` for a model."""
    for one, count in todo:
        if memory is not None:
            memory.feed(one, count)
        drawn = count == one.owing
        one.fed += count
        if drawn:
            one.answer.ids.append(successor(one))


def step(scheduler: Scheduler, memory: Memory | None = None) -> Plan:
    """One step of the engine without its events."""
    for one in scheduler.admit():
        one.begun = True
    bring(scheduler, memory)
    plan = scheduler.plan()
    work(plan, memory)
    if not plan.decode:
        bring(scheduler, memory)
        compute([(one, 1) for one in scheduler.followers()], memory)
    return plan


def bring(scheduler: Scheduler, memory: Memory | None) -> None:
    """Copy what has to be copied."""
    resting = [one for one in scheduler.running if not one.fed]
    for copy in scheduler.copies():
        if memory is not None:
            memory.copy(copy)
    for one in resting:
        if memory is not None and one.fed:
            memory.begin(one)
