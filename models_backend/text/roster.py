"""The models that an engine serves: its base, and the fine-tuned ones on it, which come and go while it runs."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from models_backend.protocol.workers import ModelInfo

from .contract import Backend, Standing


class Roster(Mapping[str, ModelInfo]):
    """By id, the base first. Any thread may read it or call its methods: each change replaces the table as a whole."""

    def __init__(self, infos: Sequence[ModelInfo]) -> None:
        self._infos = {info.id: info for info in infos}
        self._base = infos[0].id
        self._leaving: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def __getitem__(self, id: str) -> ModelInfo:
        return self._infos[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def list(self) -> list[ModelInfo]:
        return [*self._infos.values()]

    @property
    def leaving(self) -> bool:
        """Some models are no longer there, but may still be in use."""
        return bool(self._leaving)

    def know(self, tuned: Sequence[ModelInfo]) -> None:
        """These are the fine-tuned models that there are now. Others stay until `withdraw`."""
        with self._lock:
            base = self._infos[self._base]
            known = {base.id: base}
            for info in tuned:
                old = self._infos.get(info.id)
                if old is not None and info.sha256 in (None, old.sha256):  # else what was found of it is of old weights
                    info = msgspec.structs.replace(info, proof=old.proof, loaded=old.loaded, sha256=old.sha256)
                known[info.id] = msgspec.structs.replace(info, context=base.context, precision=base.precision)
            gone = {id: info for id, info in self._infos.items() if id not in known}
            self._leaving = frozenset(gone)
            self._infos = known | gone

    def withdraw(self, used: Collection[str]) -> bool:
        """Forget those that have left, unless they are among the models in use; returns whether any was forgotten."""
        with self._lock:
            gone = self._leaving - set(used)
            self._leaving -= gone
            self._infos = {id: info for id, info in self._infos.items() if id not in gone}
            return bool(gone)

    def loaded(self, backend: Backend) -> None:
        """The base is in memory: what is known of it and of the others now."""
        with self._lock:
            self._infos = {
                id: msgspec.structs.replace(
                    _with(info, _standing(id, info, backend)),
                    context=backend.runner.context,
                    precision=backend.runner.precision,
                )
                for id, info in self._infos.items()
            }

    def learn(self, id: str, standing: Standing) -> None:
        """What has become of an adapter."""
        with self._lock:
            if id in self._infos:
                self._infos = self._infos | {id: _with(self._infos[id], standing)}


def _with(info: ModelInfo, standing: Standing) -> ModelInfo:
    digest = standing.sha256 or info.sha256
    return msgspec.structs.replace(info, loaded=standing.loaded, proof=standing.proof, sha256=digest)


def _standing(id: str, info: ModelInfo, backend: Backend) -> Standing:
    if info.base is None:
        return Standing(loaded=True)
    if backend.adapters is not None:
        return backend.adapters.standing(id)
    proof = backend.proofs.get(id)
    return Standing(id not in backend.refused, proof, info.sha256 or (proof.adapter_sha256 if proof else None))
