"""The adapters of one base that are in memory: brought when they are asked for, dropped when room is needed.

Their files are read and checked in a thread of their own while rows go on; only the last move, which takes about as
long as a step, is made between two steps of the engine. Knows runners by their interface alone, and no torch module.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from models_backend import registry
from models_backend.registry import Entry

from . import proof
from .adapter_file import AdapterFile
from .adapter_weights import Prepared, read
from .catalogue import Catalogue
from .contract import EngineError, Note, OutOfMemory, Standing
from .draw import memory
from .runner import TorchRunner

log = logging.getLogger(__name__)

FILLED = 8  # adapters that are brought before anybody asks
MIB = 1 << 20
_DONE = object()


@dataclass(slots=True)
class _Book:
    """An adapter in memory; `entry` is what the registry said of it when it was brought."""

    entry: Entry
    sha256: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Parcel:
    """An adapter as its runner takes it in, and the ids that it can be proven with."""

    weights: Prepared
    ids: tuple[int, ...]


@dataclass(slots=True)
class _Job:
    """An adapter on its way, for a lane that needs `lane`: its file is looked at, room made, the file read; then it is
    put into the model and proven, one pass of the model at a time."""

    entry: Entry
    lane: Sequence[str]
    future: "Future[Any]"
    reading: bool = False
    putting: Generator[None, None, None] | None = None


class Shelf:
    """A contract.Adapters. `budget` is in bytes.

    While an adapter is read its numbers lie in memory once more. Names are of the content: rows that began with an
    adapter end with it, even if its folder has changed and later rows have the new one beside them.
    """

    def __init__(self, runner: TorchRunner, catalogue: Catalogue, budget: int) -> None:
        self._runner = runner
        self._catalogue = catalogue
        self._budget = budget
        self._books: OrderedDict[str, _Book] = OrderedDict()  # by name; the least recently used first
        self._current: dict[str, str] = {}  # name by model
        self._refused: dict[str, tuple[Entry, EngineError]] = {}  # holds until the files change
        self._failed: dict[str, EngineError] = {}  # told once to those who wait, then tried again
        self._crowded: dict[frozenset[str], EngineError] = {}  # the same, for the models of a lane together
        self._standings: dict[str, tuple[Entry, Standing]] = {}
        self._news: set[str] = set()
        self._job: _Job | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self._wake: Callable[[], None] = lambda: None
        self._plain: dict[tuple[int, ...], Tensor] = {}

    def fill(self, note: Note = lambda text: None) -> None:
        """Bring the first few adapters while nobody waits, as far as there is room; checkpoints only when asked for."""
        for entry in [entry for entry in self._catalogue.entries.values() if not entry.checkpoint][:FILLED]:
            note(f"Proving {entry.id}")
            try:
                file = AdapterFile.read(_folder(entry))
                need = file.numbers * self._runner.number_bytes
                if need > self._budget:
                    raise self._too_big(entry, need)
                if self._taken + need <= self._budget:
                    for _ in self._put(entry, self._read(entry, file)):
                        pass
            except Exception as error:
                self._refuse(entry, error)
        self._news.clear()

    # What the engine asks -----------------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        return self._job is not None and not self._job.future.done()

    def listen(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def carry(self, models: Sequence[str]) -> list[str] | None:
        here = [self._name(model) for model in models]
        if None in here:
            crowded = self._crowded.pop(frozenset(models), None)
            if crowded is not None:
                raise crowded
            return None
        names = [name for name in here if name is not None]
        for name in names:
            self._books.move_to_end(name)
        return names

    def tend(self, wanted: Sequence[Sequence[str]], used: Collection[str]) -> set[str]:
        self._sweep(used)
        job = self._job
        if job is not None and job.future.done():
            self._go_on(job, wanted, used)
        asked = {model for lane in wanted for model in lane}
        self._failed = {model: error for model, error in self._failed.items() if model in asked}
        self._crowded = {models: error for models, error in self._crowded.items() if models <= asked}
        if self._job is None:
            self._begin(wanted)
        news, self._news = self._news, set()
        return news

    def standing(self, model: str) -> Standing:
        entry, standing = self._standings.get(model, (None, Standing()))
        now = self._catalogue.entries.get(model)
        return standing if entry is None or now is None or _same(entry, now) else Standing()

    def sha256(self, adapter: str) -> str:
        return self._books[adapter].sha256

    # Bringing -----------------------------------------------------------------------------------------------------

    def _name(self, model: str) -> str | None:
        """The name of what is here of the model as it is now; None if it has to be brought. Raises EngineError."""
        entry, name = self._catalogue.entries.get(model), self._current.get(model)
        if entry is None:
            if name is None:
                raise EngineError("model_not_found", f"{model} is no longer on this machine.")
            return name
        if name is not None and _same(self._books[name].entry, entry):
            return name
        failure = self._failed.pop(model, None)
        if failure is not None:
            raise failure
        refused = self._refused.get(model)
        if refused is not None and _same(refused[0], entry):
            raise refused[1]
        return None

    def _begin(self, wanted: Sequence[Sequence[str]]) -> None:
        """Look at the first file that is wanted and not here."""
        for lane in wanted:
            if frozenset(lane) in self._crowded:
                continue
            for model in lane:
                entry = self._catalogue.entries.get(model)
                if entry is None or model in self._failed:
                    continue
                name, refused = self._current.get(model), self._refused.get(model)
                if name is not None and _same(self._books[name].entry, entry):
                    continue
                if refused is None or not _same(refused[0], entry):
                    self._job = _Job(entry, lane, self._submit(AdapterFile.read, _folder(entry)))
                    return

    def _go_on(self, job: _Job, wanted: Sequence[Sequence[str]], used: Collection[str]) -> None:
        """One stage of a job is done: the file is known, or its weights are read. May leave it waiting for room."""
        try:
            if job.putting is not None:
                if next(job.putting, _DONE) is _DONE:
                    self._job = None
            elif job.reading:
                parcel: _Parcel = job.future.result()
                if self._catalogue.entries.get(job.entry.id) == job.entry:
                    job.putting = self._put(job.entry, parcel)
                else:  # it is read anew, or gone
                    self._job = None
            else:
                self._look_at(job, job.future.result(), wanted, used)
        except Exception as error:
            self._job = None
            self._refuse(job.entry, error)

    def _look_at(self, job: _Job, file: AdapterFile, wanted: Sequence[Sequence[str]], used: Collection[str]) -> None:
        """Read the file if there is room for it."""
        need = file.numbers * self._runner.number_bytes
        if need > self._budget:
            raise self._too_big(job.entry, need)
        if job.lane not in wanted:  # whoever wanted it has been stopped
            self._job = None
        elif self._make_room(need, job.lane, wanted, used):
            job.reading = True
            job.future = self._submit(self._read, job.entry, file)

    def _make_room(
        self, need: int, lane: Sequence[str], wanted: Sequence[Sequence[str]], used: Collection[str]
    ) -> bool:
        """Drop what was not used for longest, but nothing that a row, this lane, or one before it needs."""
        before = wanted[: wanted.index(lane) + 1]
        own = {self._current.get(model) for model in lane}
        keep = {*used, *(self._current.get(model) for models in before for model in models)}
        free = [name for name in self._books if name not in keep]
        least = need + sum(book.nbytes for name, book in self._books.items() if name in keep)
        if least <= self._budget:
            while self._taken + need > self._budget:
                self._drop(free.pop(0))
            return True
        if keep <= own:  # nothing that ends would make room
            self._job = None
            self._crowded[frozenset(lane)] = EngineError(
                "adapter_memory",
                f"The adapters of {' and '.join(lane)} do not fit into memory at the same time: "
                f"{_mib(least)} MiB, but DIPTYCH_ADAPTER_MEMORY allows {_mib(self._budget)}.",
            )
        return False

    def _read(self, entry: Entry, file: AdapterFile) -> _Parcel:
        """In the other thread."""
        weights = read(entry.id, file)
        if entry.sha256 is not None and weights.sha256 != entry.sha256:
            raise EngineError("adapter_refused", "The adapter's weights are not those that its card names (sha256).")
        ids = tuple(proof.probe_for(weights, self._runner.vocabulary))
        with memory():
            return _Parcel(self._runner.prepare(replace(weights, name=f"{entry.id}@{weights.sha256[:16]}")), ids)

    def _submit(self, work: Callable[..., Any], *given: object) -> "Future[Any]":
        future = self._thread.submit(work, *given)
        future.add_done_callback(lambda _: self._wake())
        return future

    def _put(self, entry: Entry, parcel: _Parcel) -> Generator[None, None, None]:
        """Attach and prove. Raises EngineError `proof_failed`, and whatever a strange adapter does to a model."""
        weights, name = parcel.weights, parcel.weights.name
        if name not in self._books:  # else its files were written anew, but with the same bytes
            try:
                with memory():
                    plain = self._plain.get(parcel.ids)
                    if plain is None:
                        plain = self._plain_pass(parcel.ids)
                        yield
                    self._runner.attach(weights)
                    found = yield from proof.proving(self._runner, plain, name, weights.sha256, parcel.ids)
                self._standings[entry.id] = (entry, Standing(False, found, weights.sha256))
                if found.state != "proven":
                    raise EngineError(
                        "proof_failed", f"{entry.id} could not be proven to differ from its base: {found.detail}"
                    )
            except BaseException:
                self._runner.detach(name)
                raise
            yield  # the lane that waits reads its prompt in the next step
        self._books[name] = _Book(entry, weights.sha256, weights.nbytes)
        self._books.move_to_end(name)
        self._current[entry.id] = name
        self._stand(entry, True)
        self._refused.pop(entry.id, None)
        self._news.add(entry.id)

    def _plain_pass(self, ids: tuple[int, ...]) -> Tensor:
        """What the base says, kept for the usual probe."""
        fresh = proof.mixed_pass(self._runner, None, ids)
        if ids == tuple(proof.probe(self._runner.vocabulary, length=proof.PROVEN)):
            self._plain[ids] = fresh
        return fresh

    def _refuse(self, entry: Entry, error: Exception) -> None:
        """Keep why a model cannot be had: for good if it is its files' fault and they still are what they were."""
        if isinstance(error, OutOfMemory):
            error = EngineError("out_of_memory", f"The device has no memory for the adapter of {entry.id}.")
        elif not isinstance(error, EngineError):
            log.exception("the adapter of %s cannot be loaded", entry.id, exc_info=error)
            error = EngineError("adapter_refused", f"The adapter of {entry.id} cannot be loaded: {error}")
        log.warning("%s is not served: %s", entry.id, error.message)
        if error.code != "out_of_memory" and registry.stamp(_folder(entry)) == entry.stamp:
            self._refused[entry.id] = (entry, error)
        else:
            self._failed[entry.id] = error
        self._news.add(entry.id)

    # Dropping -----------------------------------------------------------------------------------------------------

    @property
    def _taken(self) -> int:
        return sum(book.nbytes for book in self._books.values())

    def _sweep(self, used: Collection[str]) -> None:
        """Drop what has left the registry's folders, or was replaced there, as soon as no row carries it."""
        entries = self._catalogue.entries
        for name, book in list(self._books.items()):
            model = book.entry.id
            if name not in used and (model not in entries or self._current.get(model) != name):
                self._drop(name)
        for facts in (self._refused, self._failed, self._standings):
            for model in [model for model in facts if model not in entries and model not in self._current]:
                del facts[model]

    def _drop(self, name: str) -> None:
        model = self._books.pop(name).entry.id
        self._runner.detach(name)
        if self._current.get(model) == name:
            del self._current[model]
            self._stand(self._standings[model][0], False)
            self._news.add(model)

    def _stand(self, entry: Entry, loaded: bool) -> None:
        self._standings[entry.id] = (entry, replace(self._standings[entry.id][1], loaded=loaded))

    def _too_big(self, entry: Entry, need: int) -> EngineError:
        return EngineError(
            "adapter_memory",
            f"The adapter of {entry.id} needs {_mib(need)} MiB, but DIPTYCH_ADAPTER_MEMORY allows "
            f"{_mib(self._budget)}.",
        )


def _folder(entry: Entry) -> Any:
    assert entry.adapter is not None
    return entry.adapter


def _same(one: Entry, other: Entry) -> bool:
    """Whether two looks at the registry saw the same weights."""
    return (one.adapter, one.stamp, one.sha256) == (other.adapter, other.stamp, other.sha256)


def _mib(nbytes: int) -> str:
    return f"{nbytes / MIB:.1f}"
