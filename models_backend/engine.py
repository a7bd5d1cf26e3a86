"""What the worker asks of an engine, whatever answers behind it: models in this process, or a server elsewhere.

An engine turns requests into the events of their lanes. The worker knows nothing else of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from models_backend.protocol import abilities
from models_backend.protocol.events import Error, LaneEvent
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Prompt, Variant
from models_backend.protocol.workers import ModelInfo

Event = tuple[str, LaneEvent]  # with the id of its run
Note = Callable[[str], None]


class EngineError(Exception):
    """A request, an adapter or a model that cannot be served. `code` is for programs, `message` for people.

    `field` names what of a request is refused, where it is one thing.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field

    def as_error(self) -> Error:
        return Error(code=self.code, message=self.message, field=self.field)


@dataclass(frozen=True, slots=True)
class Request:
    """One lane to answer. `seed` holds when `params` names none; `resume` are the answer's ids that are known.

    `prefix` are ids that the answer begins with; those that `resume` has already are not said again. `resume_text` and
    `resume_tokens` are what the log has of the answer: its text, and how many tokens it counts. An engine that knows
    ids goes by `resume`, one that does not by these. `owner` is whose request it is, an opaque word: turns are shared
    out between owners, and nobody is given another's cached prompt.
    """

    run: str
    lane: int
    model: str
    prompt: Prompt
    params: Params
    seed: int
    attempt: int = 1
    resume: tuple[int, ...] = ()
    strength: float | None = None
    prefix: tuple[int, ...] = ()
    shadows: tuple[Variant, ...] = ()
    owner: str = ""
    resume_text: str = ""
    resume_tokens: int = 0


def refuse_what_it_cannot(model: ModelInfo, request: Request) -> None:
    """Raise EngineError `unsupported`, which names the field, if `request` asks `model` for what it cannot do."""
    names = abilities.asked(request.prompt, request.params, request.strength, request.prefix, request.shadows)
    refused = abilities.refusal(model, names)
    if refused is not None:
        name, why = refused
        raise EngineError("unsupported", why, name)


class Engine(Protocol):
    """One engine of a worker. One thread calls `load` and `step`; any thread may call `submit` and `stop`.

    What has a body here holds for an engine in which nothing happens between two calls.
    """

    slots: int  # lanes that it answers at the same time
    cache_hits: int = 0  # tokens of prompts that were not computed again, and
    cache_asked: int = 0  # all tokens of prompts, since it was loaded
    trouble: str = ""  # why none of its models can answer at the moment, in words; empty while they can

    def models(self) -> list[ModelInfo]:
        """What it serves; may change from call to call, which is told through `listen`."""
        ...

    @property
    def loaded(self) -> bool:
        """`submit` and `step` may be called."""
        ...

    @property
    def device(self) -> str: ...

    @property
    def busy(self) -> bool:
        """There is something for `step` to do, or to give out, now."""
        ...

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    def load(self, note: Note = lambda text: None) -> None:
        """Bring the models into memory; may block for seconds. Raises EngineError. Loading twice does nothing."""
        ...

    def submit(self, *requests: Request) -> None:
        """Queue lanes; those given together start together. Never blocks, never raises."""
        ...

    def stop(self, run: str, lane: int) -> None:
        """End a lane soon and keep its text. Nothing happens if there is no such lane."""
        ...

    def step(self) -> list[Event]:
        """Do what is due and return what happened, in order. Must not wait for anything outside this process."""
        ...

    def listen(self, wake: Callable[[], None], changed: Callable[[], None]) -> None:
        """Call `wake` whenever `busy` becomes true by itself, and `changed` when models or `trouble` have changed.

        Both may be called from any thread.
        """
        return None

    def look(self) -> None:
        """Find out now whether there are other models than it knows; reads small files, in any thread."""
        return None

    def close(self) -> None:
        """End what still runs; nothing is said of it any more."""
        return None
