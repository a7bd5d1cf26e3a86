"""Lanes that wait for adapters which are not in memory yet, while other lanes go on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from models_backend.protocol.workers import ModelInfo

from .contract import Adapters, EngineError, Request, Standing


@dataclass(frozen=True, slots=True)
class Borrower:
    """A lane, claimed at that second of the steady clock, and the fine-tuned models whose adapters it needs."""

    request: Request
    at: float
    models: tuple[str, ...]


def needed(request: Request, infos: Mapping[str, ModelInfo]) -> tuple[str, ...]:
    """The fine-tuned models of a request, each once: its own and its shadows'. Unknown ones are refused elsewhere."""
    ids = [request.model, *(shadow.model for shadow in request.shadows)]
    return tuple(dict.fromkeys(id for id in ids if id in infos and infos[id].base is not None))


class Lending:
    """First come, first served; who finds its adapters in memory overtakes those who wait for theirs.

    At most `most` lanes wait.
    """

    def __init__(self, adapters: Adapters, most: int) -> None:
        self._adapters = adapters
        self._most = most
        self.waiting: list[Borrower] = []
        self._told: set[tuple[str, int]] = set()

    @property
    def busy(self) -> bool:
        """Somebody waits, and not just for a file to be read."""
        return bool(self.waiting) and not self._adapters.reading

    def add(self, borrower: Borrower) -> None:
        """Raises EngineError when too many wait."""
        if len(self.waiting) >= self._most:
            message = f"{len(self.waiting)} answers are waiting already. Try again when some of them have ended."
            raise EngineError("queue_full", message)
        self.waiting.append(borrower)

    def remove(self, run: str, lane: int) -> bool:
        """Forget a lane; returns whether it was waiting."""
        kept = [one for one in self.waiting if (one.request.run, one.request.lane) != (run, lane)]
        found = len(kept) < len(self.waiting)
        self.waiting = kept
        self._told.discard((run, lane))
        return found

    def tend(self, used: Collection[str]) -> set[str]:
        """Bring what is waited for, next to the adapters in use; returns the models whose standing has changed."""
        return self._adapters.tend([one.models for one in self.waiting], used)

    def standing(self, model: str) -> Standing:
        return self._adapters.standing(model)

    def lend(self) -> list[tuple[Borrower, EngineError | None]]:
        """Those whose adapters are all in memory now, and those who cannot have them. They no longer wait."""
        served: list[tuple[Borrower, EngineError | None]] = []
        for one in list(self.waiting):
            error: EngineError | None = None
            try:
                if self._adapters.carry(one.models) is None:
                    continue
            except EngineError as refusal:
                error = refusal
            served.append((one, error))
            self.remove(one.request.run, one.request.lane)
        return served

    def untold(self) -> list[Borrower]:
        """Those who wait and have not been told so."""
        new = [one for one in self.waiting if (one.request.run, one.request.lane) not in self._told]
        self._told |= {(one.request.run, one.request.lane) for one in new}
        return new
