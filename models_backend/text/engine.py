"""The decode loop of one base model: step() = take in, admit, forward, publish.

One thread calls `load` and `step`; any thread may call `submit` and `stop`, which only leave a note that the next step
reads. A row that cannot go on ends with lane.failed, and the rows beside it never notice. Knows no torch and no bus.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from models_backend import engine as interface
from models_backend.protocol.events import (
    Error,
    Figures,
    LaneDone,
    LaneEvent,
    LaneFailed,
    LaneStarted,
    LaneStopped,
    LaneToken,
)
from models_backend.protocol.workers import ModelInfo

from .contract import Backend, Build, EngineError, Feed, Note, Outcome, OutOfMemory, Request
from .defaults import resolve
from .scheduler import Scheduler
from .sequence import Answer, Row, Times

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


class Engine(interface.Engine):
    """Serves one base and the fine-tuned models on it.

    `infos` describe the models, the base first; `build` loads them; `worker` is the name written into lane.started.
    `clock` gives milliseconds since 1970 for events, `steady` gives seconds for durations.
    """

    def __init__(
        self,
        infos: Sequence[ModelInfo],
        build: Build,
        worker: str,
        slots: int,
        clock: Callable[[], float] = lambda: time.time() * 1000,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base = infos[0].id
        self.slots = slots
        self._infos = {info.id: info for info in infos}
        self._build = build
        self._worker = worker
        self._clock = clock
        self._steady = steady
        self._inbox: deque[_Arrival | _Stop] = deque()
        self._backend: Backend | None = None
        self._scheduler = Scheduler(slots, None)
        self._events: list[Event] = []

    # What the worker asks -----------------------------------------------------------------------------------------

    def models(self) -> list[ModelInfo]:
        """What this engine serves; complete before `load`, with proofs after it."""
        return list(self._infos.values())

    @property
    def loaded(self) -> bool:
        return self._backend is not None

    @property
    def device(self) -> str:
        return self._backend.runner.device if self._backend else ""

    @property
    def busy(self) -> bool:
        """There is something for `step` to do."""
        return bool(self._inbox or self._scheduler.running or self._scheduler.waiting)

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting) + sum(isinstance(note, _Arrival) for note in tuple(self._inbox))

    def load(self, note: Note = lambda text: None) -> None:
        """Bring the models into memory; blocks for seconds. Raises EngineError. Loading twice does nothing."""
        if self._backend is not None:
            return
        backend = self._build(note)
        self.slots = min(self.slots, backend.runner.slots)
        self._scheduler = Scheduler(self.slots, backend.runner.chunk)
        for name, info in self._infos.items():
            proof = backend.proofs.get(name)
            self._infos[name] = msgspec.structs.replace(
                info,
                loaded=name not in backend.refused,
                context=backend.runner.context,
                proof=proof,
                sha256=info.sha256 or (proof.adapter_sha256 if proof else None),
            )
        self._backend = backend

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
        for row in self._scheduler.admit():
            self._begin(row, self._backend)
        plan = self._scheduler.plan()
        self._compute(plan.decode, [row.feed(1) for row in plan.decode], self._backend)
        self._compute([row for row, _ in plan.prefill], [row.feed(count) for row, count in plan.prefill], self._backend)
        return self._events

    # Taking in ----------------------------------------------------------------------------------------------------

    def _take_in(self, backend: Backend) -> None:
        while self._inbox:
            note = self._inbox.popleft()
            if isinstance(note, _Stop):
                row = self._scheduler.find(note.run, note.lane)
                if row is not None:
                    self._stopped(row)
            else:
                self._arrive(note, backend)

    def _arrive(self, note: _Arrival, backend: Backend) -> None:
        request = note.request
        earlier = self._scheduler.find(request.run, request.lane)
        if earlier is not None:  # a later attempt of the same lane; nobody reads the events of the earlier one
            self._forget(earlier)
        try:
            self._scheduler.add(self._row(request, note.at, backend))
            return
        except EngineError as error:
            failure = error.as_error()
        except Exception as error:  # a tokenizer or template that breaks on this text breaks this lane alone
            log.exception("lane %s of run %s cannot be read", request.lane, request.run)
            failure = Error("prompt_failed", f"The model's tokenizer cannot read this prompt: {error}")
        self._publish(request.run, LaneFailed(request.lane, failure, Figures(), at=self._clock()))

    def _row(self, request: Request, claimed: float, backend: Backend) -> Row:
        info = self._infos.get(request.model)
        if info is None:
            raise EngineError("model_not_found", f"This worker has no model {request.model}.")
        if request.model in backend.refused:
            raise backend.refused[request.model]
        interface.refuse_what_it_cannot(info, request)
        prompt = backend.dialect.encode(request.prompt)
        context = backend.runner.context
        if not prompt:
            raise EngineError("empty_prompt", "The prompt is empty: write something for the model to go on with.")
        if len(prompt) >= context:
            raise EngineError(
                "context_length_exceeded",
                f"The prompt has {len(prompt)} tokens, but {request.model} reads at most {context}, prompt and "
                f"answer together. Shorten the prompt to {context - 1} tokens or less.",
            )
        used = resolve(request.params, info.defaults, request.seed, room=context - len(prompt))
        adapter = None if info.base is None else info.id
        answer = Answer(backend.dialect, used)
        for token in request.resume:
            if answer.finish is None:
                answer.push(token)
        return Row(request, adapter, prompt, used, answer, Times(claimed))

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
                sha256=info.sha256,
                device=backend.runner.device,
                prompt_tokens=len(row.prompt),
                used=row.used,
                at=self._clock(),
            ),
        )
        if row.answer.finish is not None:  # the worker before this one died between the last token and the end
            self._done(row)

    # Computing ----------------------------------------------------------------------------------------------------

    def _compute(self, rows: list[Row], feeds: list[Feed], backend: Backend) -> None:
        """Forward `rows`; when the pass fails as a whole, find out for whom by halves that end at one row."""
        if not rows:
            return
        try:
            outcomes = backend.runner.forward(feeds)
        except OutOfMemory:
            # The newest row gives way: those that were there first ran well before it came.
            newest = max(range(len(rows)), key=lambda i: self._scheduler.running.index(rows[i]))
            message = "The device has no memory left for this answer. Stop other answers, or shorten the prompt."
            self._failed(rows.pop(newest), Error("out_of_memory", message))
            feeds.pop(newest)
            self._compute(rows, feeds, backend)
            return
        except Exception as error:
            if len(rows) > 1:
                log.warning("a pass of %d rows failed (%s): trying them one by one", len(rows), error)
                for row, feed in zip(rows, feeds, strict=True):
                    self._compute([row], [feed], backend)
                return
            log.exception("lane %s of run %s fails", rows[0].request.lane, rows[0].request.run)
            outcomes = [Outcome(error=Error("engine_error", f"The model failed on this answer: {error}"))]
        for row, feed, outcome in zip(rows, feeds, outcomes, strict=True):
            row.fed += len(feed.tokens)
            if outcome.error is not None:
                self._failed(row, outcome.error)
            elif outcome.token is not None:
                try:
                    self._token(row, outcome.token)
                except Exception as error:  # a tokenizer that cannot write what its model says
                    log.exception("lane %s of run %s cannot be written", row.request.lane, row.request.run)
                    self._failed(row, Error("engine_error", f"The model's tokenizer cannot write this answer: {error}"))

    # Publishing ---------------------------------------------------------------------------------------------------

    def _token(self, row: Row, token: int) -> None:
        now = self._steady()
        row.times.first = row.times.first or now
        row.times.last = now
        index = len(row.answer.ids)
        text = row.answer.push(token)
        self._publish(row.request.run, LaneToken(row.request.lane, index, (token,), text, at=self._clock()))
        if row.answer.finish is not None:
            self._done(row)

    def _done(self, row: Row) -> None:
        finish = row.answer.finish or "stop"
        self._publish(row.request.run, LaneDone(row.request.lane, finish, row.figures(), at=self._clock()))
        self._forget(row)

    def _stopped(self, row: Row) -> None:
        self._let_go(row)
        self._publish(row.request.run, LaneStopped(row.request.lane, row.figures(), at=self._clock()))
        self._forget(row)

    def _failed(self, row: Row, error: Error) -> None:
        self._let_go(row)
        self._publish(row.request.run, LaneFailed(row.request.lane, error, row.figures(), at=self._clock()))
        self._forget(row)

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

    def _forget(self, row: Row) -> None:
        self._scheduler.remove(row)
        if row.slot >= 0 and self._backend is not None:
            self._backend.runner.release(row.slot)

    def _publish(self, run: str, event: LaneEvent) -> None:
        self._events.append((run, event))
