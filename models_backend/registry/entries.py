"""Which models there are: known by name, pulled from elsewhere, and fine-tuned ones, each as one plain Entry.

Reads small files only, so web and worker may ask as often as they like. Loads no weights and needs no torch.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models_backend.registry import manifest, names, sources, store
from models_backend.registry.errors import RegistryError, UnknownModel
from models_backend.registry.manifest import Manifest
from models_backend.registry.names import ModelId

CARD = "card.json"
# The fine-tuned models that come with Diptych. The files are data: the code beside them is never imported for this.
COMMITTED = Path(__file__).parents[1] / "training" / "adapters"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model that can be asked for by id.

    A base has `base` None; a fine-tuned model has its base's id there and an adapter folder. `folder` is the base's
    safetensors folder, None until it is pulled. `sha256` is of the weights that make this model what it is: of the
    base's weights as stored (None until pulled), or of adapter_model.safetensors.
    """

    id: str
    title: str
    description: str
    base: str | None
    folder: Path | None
    adapter: Path | None
    licence: str
    context: int | None
    sha256: str | None
    card: dict[str, Any] | None

    @property
    def installed(self) -> bool:
        """Whether it can answer as things lie on disk now."""
        return self.folder is not None


def models(home: Path, committed: Path = COMMITTED) -> list[Entry]:
    """All models: bases known by name first, then other pulled bases, each followed by its fine-tuned ones."""
    pulled = _pulled(home)
    bases = [_known(source, pulled.pop(id, None)) for id, source in sources.known().items()]
    bases += [_from_manifest(*found) for _, found in sorted(pulled.items())]
    tuned = list(_tuned(home, committed))
    orphans = sorted({str(card["base"]) for _, card in tuned} - {base.id for base in bases})
    entries: list[Entry] = []
    for base in [*bases, *(_missing(id) for id in orphans)]:
        if base.id not in orphans:
            entries.append(base)
        entries += [_fine_tuned(folder, card, base) for folder, card in tuned if card["base"] == base.id]
    return entries


def find(id: str, home: Path, committed: Path = COMMITTED) -> Entry:
    """The model of that id. Raises BadId for what is no id, UnknownModel (with the ids there are) for no such model."""
    wanted = str(names.parse(id))
    entries = models(home, committed)
    for entry in entries:
        if entry.id == wanted:
            return entry
    raise UnknownModel(f"No model is called {wanted}. There are: {', '.join(entry.id for entry in entries)}.")


def folder_of(id: ModelId, home: Path) -> Path:
    """The place of a base's folder, whether or not it is there."""
    return store.root(home) / id.folder


def _pulled(home: Path) -> dict[str, tuple[Path, Manifest]]:
    found = {}
    for folder in sorted(store.root(home).glob("*/")):
        if folder.name.startswith("."):
            continue
        try:
            note = manifest.read(folder)
            if folder.name != names.parse(note.id).folder:
                raise RegistryError(f"{folder} is not the folder of {note.id}, which its note names.")
        except RegistryError as error:
            log.warning("%s", error)
        else:
            found[note.id] = (folder, note)
    return found


def _tuned(home: Path, committed: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    seen: set[str] = set()
    for folder in [*sorted(committed.glob("*/")), *sorted(store.adapters(home).glob("*/"))]:
        if not (folder / CARD).is_file():
            continue
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            id = str(names.parse(f"{names.FINE_TUNED}{card['base']}:{folder.name}"))
        except (OSError, ValueError, TypeError, KeyError, RegistryError) as error:
            log.warning("%s is not a usable adapter and is left out: %s", folder, error)
            continue
        if id in seen:
            log.warning("%s is left out: %s comes with Diptych already.", folder, id)
            continue
        seen.add(id)
        yield folder, card


def _known(source: sources.WheelSource, found: tuple[Path, Manifest] | None) -> Entry:
    folder, digest = (found[0], found[1].sha256) if found else (None, None)
    return Entry(
        source.id, source.title, source.description, None, folder, None, source.licence, source.context, digest, None
    )


def _from_manifest(folder: Path, note: Manifest) -> Entry:
    return Entry(
        note.id, note.title, note.description, None, folder, None, note.licence, note.context, note.sha256, None
    )


def _missing(id: str) -> Entry:
    return Entry(id, id, "", None, None, None, "", None, None, None)


def _fine_tuned(folder: Path, card: dict[str, Any], base: Entry) -> Entry:
    return Entry(
        id=f"{names.FINE_TUNED}{base.id}:{folder.name}",
        title=str(card.get("title") or folder.name),
        description=str(card.get("description") or ""),
        base=base.id,
        folder=base.folder,
        adapter=folder,
        licence=str(card.get("licence") or base.licence),
        context=base.context,
        sha256=card.get("adapter_sha256"),
        card=card,
    )
