"""The decode loop of one base model: step() = take in, admit, forward, publish.

One thread calls `load` and `step`; any thread may call `submit` and `stop`, which only leave a note that the next step
reads. A row that cannot go on ends with lane.failed, and the rows beside it never notice. Knows no torch and no bus.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from models_backend import engine as interface
from models_backend.protocol.events import (
    Error,
    Figures,
    LaneDone,
    LaneEvent,
    LaneFailed,
    LaneLoading,
    LaneQueued,
    LaneStarted,
    LaneStopped,
    LaneToken,
)
from models_backend.protocol.workers import ModelInfo

from .catalogue import Lookout
from .contract import Backend, Build, EngineError, Note, Outcome, OutOfMemory, Request
from .lending import Borrower, Lending, needed
from .passes import bounded
from .reception import receive
from .roster import Roster
from .scheduler import Scheduler
from .sequence import Row
from .speech import Speech
from .waiting import MOST

log = logging.getLogger(__name__)

Event = tuple[str, LaneEvent]


@dataclass(frozen=True, slots=True)
class _Arrival:
    request: Request
    at: float  # seconds of the steady clock: waiting for a long step to end belongs to the time to the first token


@dataclass(frozen=True, slots=True)
class _Stop:
    run: str
    lane: int


class _Known:
    """There are other models than before."""


class Engine(interface.Engine):
    """Serves one base and the fine-tuned models on it.

    `infos` describe the models, the base first; `build` loads them; `worker` is the name written into lane.started.
    `clock` gives milliseconds since 1970 for events, `steady` gives seconds for durations.
    `lookout` finds models that come and go, and tells `know`. At most `queue` lanes wait for one of the `slots`.
    """

    _speech: Speech  # from `load` on

    def __init__(
        self,
        infos: Sequence[ModelInfo],
        build: Build,
        worker: str,
        slots: int,
        clock: Callable[[], float] = lambda: time.time() * 1000,
        steady: Callable[[], float] = time.monotonic,
        lookout: Lookout | None = None,
        queue: int = MOST,
    ) -> None:
        self.base = infos[0].id
        self.slots = slots
        self._infos = Roster(infos)
        self._build = build
        self._queue = queue
        self._worker = worker
        self._clock = clock
        self._steady = steady
        self._inbox: deque[_Arrival | _Stop | _Known] = deque()
        self._backend: Backend | None = None
        self._lending: Lending | None = None
        self._lookout = lookout
        self._wake: Callable[[], None] = lambda: None
        self._changed: Callable[[], None] = lambda: None
        self._scheduler = Scheduler(slots, None)
        self._events: list[Event] = []

    # What the worker asks -----------------------------------------------------------------------------------------

    def models(self) -> list[ModelInfo]:
        """What this engine serves; complete before `load`, with proofs after it."""
        return self._infos.list()

    @property
    def loaded(self) -> bool:
        return self._backend is not None

    @property
    def device(self) -> str:
        return self._backend.runner.device if self._backend else ""

    @property
    def busy(self) -> bool:
        """There is something for `step` to do."""
        lending = self._lending is not None and self._lending.busy
        return bool(self._inbox or self._scheduler.running or self._scheduler.waiting or lending)

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        arrivals = sum(isinstance(note, _Arrival) for note in tuple(self._inbox))
        return len(self._scheduler.waiting) + (len(self._lending.waiting) if self._lending else 0) + arrivals

    @property
    def cache_hits(self) -> int:
        return self._scheduler.cache_hits

    @property
    def cache_asked(self) -> int:
        return self._scheduler.cache_asked

    def load(self, note: Note = lambda text: None) -> None:
        """Bring the models into memory; blocks for seconds. Raises EngineError. Loading twice does nothing."""
        if self._backend is not None:
            return
        backend = self._build(note)
        self.slots = min(self.slots, backend.runner.slots)
        self._scheduler = _scheduler(backend, self.slots, self._queue)
        if backend.adapters is not None:
            self._lending = Lending(backend.adapters, self._queue)
            backend.adapters.listen(lambda: self._wake())
        self._infos.loaded(backend)
        self._backend = backend
        self._speech = Speech(backend.dialect, self._clock, self._steady)

    def listen(self, wake: Callable[[], None], changed: Callable[[], None]) -> None:
        self._wake, self._changed = wake, changed
        if self._lookout is not None:
            self._lookout.start()

    def look(self) -> None:
        if self._lookout is not None:
            self._lookout.look()

    def close(self) -> None:
        if self._lookout is not None:
            self._lookout.close()

    def know(self, tuned: Sequence[ModelInfo]) -> None:
        """These are the fine-tuned models that there are now. Thread-safe. Who is gone stays while a row uses it."""
        self._infos.know(tuned)
        if self._backend is None:
            self._infos.withdraw(())
        self._inbox.append(_Known())
        self._changed()
        self._wake()

    def submit(self, *requests: Request) -> None:
        """Queue lanes; those given together start together. Thread-safe, never blocks, never raises."""
        now = self._steady()
        self._inbox.extend([_Arrival(request, now) for request in requests])

    def stop(self, run: str, lane: int) -> None:
        """End a lane at the next step and keep its text. Thread-safe; nothing happens if there is no such lane."""
        self._inbox.append(_Stop(run, lane))

    def step(self) -> list[Event]:
        """One forward pass of all rows; returns what happened, in order. Raises RuntimeError before `load`."""
        if self._backend is None:
            raise RuntimeError("load() the engine before the first step()")
        self._events = []
        self._take_in(self._backend)
        self._lend(self._backend)
        for row in self._scheduler.admit():
            if not row.begun:  # else it gave way to others for a while
                row.begun = True
                self._begin(row, self._backend)
        for row, place in self._scheduler.moved():
            self._publish(row.request.run, LaneQueued(row.request.lane, place, at=self._clock()))
        self._copy(self._backend)
        plan = self._scheduler.plan()
        self._compute([(row, 1) for row in plan.decode], self._backend)
        for work in bounded(plan.prefill, self._backend.runner):
            self._compute(work, self._backend)
        if not plan.decode:
            self._copy(self._backend)
            self._compute([(row, 1) for row in self._scheduler.followers()], self._backend)
        if self._infos.leaving:  # perhaps the last row that used one has just ended
            self._lend(self._backend)
        return self._events

    # Taking in ----------------------------------------------------------------------------------------------------

    def _take_in(self, backend: Backend) -> None:
        while self._inbox:
            note = self._inbox.popleft()
            if isinstance(note, _Stop):
                row = self._scheduler.find(note.run, note.lane)
                if row is not None:
                    self._stopped(row)
                elif self._lending is not None and self._lending.remove(note.run, note.lane):
                    self._publish(note.run, LaneStopped(note.lane, Figures(), at=self._clock()))
            elif isinstance(note, _Arrival):
                self._arrive(note, backend)

    def _arrive(self, note: _Arrival, backend: Backend) -> None:
        request = note.request
        earlier = self._scheduler.find(request.run, request.lane)
        if earlier is not None:  # a later attempt of the same lane; nobody reads the events of the earlier one
            self._forget(earlier)
        models = needed(request, self._infos)
        if self._lending is None or not models:
            self._sit(request, note.at, backend)
            return
        self._lending.remove(request.run, request.lane)
        try:
            self._lending.add(Borrower(request, note.at, models))
        except EngineError as error:
            self._refuse(request, error.as_error())

    def _lend(self, backend: Backend) -> None:
        """Move adapters in and out of memory as lanes need them, and models that are gone out of sight."""
        news = self._bring(backend) if self._lending is not None else False
        if (self._infos.leaving and self._infos.withdraw(self._used_models())) or news:
            self._changed()

    def _bring(self, backend: Backend) -> bool:
        """Give lanes their adapters; returns whether the standing of a model has changed."""
        assert self._lending is not None
        rows = [*self._scheduler.running, *self._scheduler.waiting]
        news = self._lending.tend({seat.adapter for row in rows for seat in row.seats if seat.adapter is not None})
        for model in news:
            self._infos.learn(model, self._lending.standing(model))
        for one, error in self._lending.lend():
            if error is None:
                self._sit(one.request, one.at, backend)
            else:
                self._refuse(one.request, error.as_error())
        for one in self._lending.untold():
            self._publish(one.request.run, LaneLoading(one.request.lane, one.request.model, self._clock()))
        return bool(news)

    def _used_models(self) -> set[str]:
        requests = [row.request for row in (*self._scheduler.running, *self._scheduler.waiting)]
        if self._lending is not None:
            requests += [one.request for one in self._lending.waiting]
        return {id for request in requests for id in (request.model, *(shadow.model for shadow in request.shadows))}

    def _sit(self, request: Request, at: float, backend: Backend) -> None:
        """Make a row of a request, or say why there is none."""
        try:
            self._scheduler.add(receive(request, at, self._infos, backend))
            return
        except EngineError as error:
            failure = error.as_error()
        except Exception as error:  # a tokenizer or template that breaks on this text breaks this lane alone
            log.exception("lane %s of run %s cannot be read", request.lane, request.run)
            failure = Error("prompt_failed", f"The model's tokenizer cannot read this prompt: {error}")
        self._refuse(request, failure)

    def _refuse(self, request: Request, failure: Error) -> None:
        """Of a lane that has not become a row."""
        self._publish(request.run, LaneFailed(request.lane, failure, Figures(), at=self._clock()))

    def _begin(self, row: Row, backend: Backend) -> None:
        request, info = row.request, self._infos[row.request.model]
        self._publish(
            request.run,
            LaneStarted(
                lane=request.lane,
                attempt=request.attempt,
                worker=self._worker,
                model=request.model,
                base=self.base,
                sha256=_sha256(row, info, backend),
                device=backend.runner.device,
                prompt_tokens=len(row.prompt),
                used=row.used,
                at=self._clock(),
                precision=backend.runner.precision,
                strength=None if info.base is None else row.own.strength,
            ),
        )
        if row.forced and not row.looks:
            self._tell(row, self._speech.given(row))
        if row.answer.finish is not None or (row.ends is not None and not row.looks):
            self._done(row)  # the worker before this one died between the last token and the end, or none is wanted

    # Computing ----------------------------------------------------------------------------------------------------

    def _copy(self, backend: Backend) -> None:
        """Bring beginnings of prompts that are known to where they are wanted; what cannot be brought is computed."""
        lost: set[int] = set()
        for copy in self._scheduler.copies():
            try:
                if copy.source in lost:
                    raise LookupError(f"slot {copy.source} does not hold them")
                backend.runner.copy(copy.source, copy.target, copy.length)
                lost.discard(copy.target)
            except Exception as error:
                log.warning("%d tokens are computed again, for they cannot be copied: %s", copy.length, error)
                lost.add(copy.target)
                self._scheduler.lost(copy.target)

    def _compute(self, work: list[tuple[Row, int]], backend: Backend) -> None:
        """Forward the next ids of each row; when the pass fails as a whole, find out for whom, row by row."""
        work = [(row, count) for row, count in work if row.slot >= 0]  # the others have just given way
        if not work:
            return
        feeds, firsts = [], []
        for row, count in work:
            firsts.append(len(feeds))
            feeds += row.feeds(count, len(feeds))
        try:
            outcomes = backend.runner.forward(feeds)
        except OutOfMemory:
            self._give_way(backend)
            self._compute(work, backend)
            return
        except Exception as error:
            if len(work) > 1:
                log.warning("a pass of %d rows failed (%s): trying them one by one", len(work), error)
                for one in work:
                    self._compute([one], backend)
                return
            row = work[0][0]
            log.exception("lane %s of run %s fails", row.request.lane, row.request.run)
            failure = error.as_error() if isinstance(error, EngineError) else None
            failure = failure or Error("engine_error", f"The model failed on this answer: {error}")
            outcomes = [Outcome(error=failure)] + [Outcome()] * (len(feeds) - 1)
        for (row, count), first in zip(work, firsts, strict=True):
            row.fed += count
            self._take(row, outcomes[first : first + len(row.seats)])

    def _give_way(self, backend: Backend) -> None:
        """The newest row lets the others run, which ran well before it came, and waits; one that is alone fails."""
        newest = self._scheduler.running[-1]
        if len(self._scheduler.running) == 1:
            message = "The device has no memory for this answer. Shorten the prompt, or lower max_tokens."
            self._failed(newest, Error("out_of_memory", message))
            return
        log.warning("lane %s of run %s gives way, for memory is short", newest.request.lane, newest.request.run)
        for slot in self._scheduler.preempt(newest, keep=newest.times.last is not None):
            backend.runner.release(slot)

    def _take(self, row: Row, outcomes: Sequence[Outcome]) -> None:
        """Say what came of a row's seats, its own first, and end it if that ends it."""
        own, *shadows = outcomes
        error = own.error
        for shadow, outcome in zip(row.request.shadows, shadows, strict=True):
            if error is None and outcome.error is not None:
                error = Error(
                    outcome.error.code, f"The shadow {shadow.model} failed: {outcome.error.message}", "shadows"
                )
        if error is not None:
            self._failed(row, error)
            return
        try:
            self._tell(row, self._speech.known(row, own.scored))
            if own.token is not None:
                self._tell(row, self._speech.drawn(row, own.token, own.seen))
        except EngineError as refusal:
            self._failed(row, refusal.as_error())
            return
        except Exception as error:  # a tokenizer that cannot write what its model says
            log.exception("lane %s of run %s cannot be written", row.request.lane, row.request.run)
            self._failed(row, Error("engine_error", f"The model's tokenizer cannot write this answer: {error}"))
            return
        if row.answer.finish is not None or (row.ends is not None and not row.owing):
            self._done(row)

    # Publishing ---------------------------------------------------------------------------------------------------

    def _done(self, row: Row) -> None:
        finish = row.answer.finish or row.ends or "stop"
        self._publish(row.request.run, LaneDone(row.request.lane, finish, row.figures(), at=self._clock()))
        self._forget(row)

    def _stopped(self, row: Row) -> None:
        self._let_go(row)
        self._publish(row.request.run, LaneStopped(row.request.lane, row.figures(), at=self._clock()))
        self._forget(row)

    def _failed(self, row: Row, error: Error) -> None:
        self._let_go(row)
        self._publish(row.request.run, LaneFailed(row.request.lane, error, row.figures(), at=self._clock()))
        self._forget(row, sound=False)

    def _let_go(self, row: Row) -> None:
        """Show the text that was held back for a stop string or half a character."""
        try:
            rest = row.answer.rest()
        except Exception:
            log.exception("lane %s of run %s loses its held-back text", row.request.lane, row.request.run)
            return
        if rest:
            event = LaneToken(row.request.lane, len(row.answer.ids), (), rest, at=self._clock())
            self._publish(row.request.run, event)

    def _forget(self, row: Row, sound: bool = True) -> None:
        """What a row has computed is kept for others if a token came of it: only then are its numbers known to be."""
        slots = self._scheduler.remove(row, keep=sound and row.times.last is not None)
        if self._backend is not None:
            for slot in slots:
                self._backend.runner.release(slot)

    def _tell(self, row: Row, events: Iterator[LaneEvent]) -> None:
        """Publish each event as it is made: what was said before a row fails stays said."""
        for event in events:
            self._publish(row.request.run, event)

    def _publish(self, run: str, event: LaneEvent) -> None:
        self._events.append((run, event))


def _scheduler(backend: Backend, slots: int, queue: int) -> Scheduler:
    runner = backend.runner
    spare = runner.slots - slots + runner.cache_slots
    return Scheduler(slots, runner.chunk, tokens=runner.tokens, spare=spare, copies=runner.copies, most=queue)


def _sha256(row: Row, info: ModelInfo, backend: Backend) -> str | None:
    """Of the weights that make this row's model what it is: those it runs with, whatever lies on the disk by now."""
    if backend.adapters is None or row.own.adapter is None:
        return info.sha256
    return backend.adapters.sha256(row.own.adapter)
