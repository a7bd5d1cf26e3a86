"""Which models there are: known by name, pulled from elsewhere, and fine-tuned ones, each as one plain Entry.

Reads small files only, so web and worker may ask as often as they like. Loads no weights and needs no torch.

A fine-tuned model is a folder `adapters/NAME/` with card.json, adapter_config.json and adapter_model.safetensors. The
states that its training passed through lie in `adapters/NAME/checkpoints/step-N/`, each an adapter of its own with the
same two files, and a card.json if it has more to tell than its model's. While the model itself has no weights yet, but
checkpoints, these alone are listed. Whoever writes a folder here gives it a name that begins with a dot, and renames it
when it is whole: what is listed is complete.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from models_backend.registry import manifest, names, sources, store
from models_backend.registry.errors import RegistryError, UnknownModel
from models_backend.registry.manifest import Manifest
from models_backend.registry.names import ModelId

CARD, WEIGHTS, CONFIG = "card.json", "adapter_model.safetensors", "adapter_config.json"
CHECKPOINTS = "checkpoints"
MOST_CHECKPOINTS = 200  # of one model, the newest
# The fine-tuned models that come with Diptych. The files are data: the code beside them is never imported for this.
COMMITTED = Path(__file__).parents[1] / "training" / "adapters"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model that can be asked for by id.

    A base has `base` None; a fine-tuned model has its base's id there and an adapter folder. `folder` is the base's
    safetensors folder, None until it is pulled. `sha256` is of the weights that make this model what it is: of the
    base's weights as stored (None until pulled), or of adapter_model.safetensors as its card names it. `stamp` is other
    when the files of an adapter are others.
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
    stamp: tuple[int, ...] = ()

    @property
    def checkpoint(self) -> bool:
        """Whether this is a state that a training passed through."""
        return self.adapter is not None and self.adapter.parent.name == CHECKPOINTS

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


def stamp(adapter: Path) -> tuple[int, ...]:
    """Numbers that change when an adapter's files are replaced or written to; () while some are not there."""
    try:
        files = [(adapter / name).stat() for name in (WEIGHTS, CONFIG)]
    except OSError:
        return ()
    return tuple(number for file in files for number in (file.st_mtime_ns, file.st_size, file.st_ino))


def folder_of(id: ModelId, home: Path) -> Path:
    """The place of a base's folder, whether or not it is there."""
    return store.root(home) / id.folder


@lru_cache(maxsize=1000)
def _warn(message: str) -> None:
    """Once: a worker looks into these folders every few seconds."""
    log.warning("%s", message)


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
            _warn(str(error))
        else:
            found[note.id] = (folder, note)
    return found


def _tuned(home: Path, committed: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folders of adapters, checkpoints behind their model, and the card of each."""
    seen: set[str] = set()
    for folder in [*sorted(committed.glob("*/")), *sorted(store.adapters(home).glob("*/"))]:
        card = _card(folder)
        if card is None:
            continue
        id = str(names.parse(f"{names.FINE_TUNED}{card['base']}:{folder.name}"))
        if id in seen:
            _warn(f"{folder} is left out: {id} comes with Diptych already.")
            continue
        seen.add(id)
        steps = _checkpoints(folder)
        if not steps or (folder / WEIGHTS).exists():
            yield folder, card
        above = card | {"adapter_sha256": None}
        for step in steps:
            own = _card(step, above) if (step / CARD).is_file() else above
            if own is not None:
                yield step, own


def _checkpoints(folder: Path) -> list[Path]:
    """The newest of them, in the order of their steps."""
    found = [step for step in folder.glob(f"{CHECKPOINTS}/step-*/") if names.CHECKPOINT.fullmatch(step.name)]
    return sorted(found, key=lambda step: int(step.name.removeprefix("step-")))[-MOST_CHECKPOINTS:]


def _card(folder: Path, above: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The card in `folder`, with what it does not say taken from the one `above`; None if there is none to use."""
    if folder.name.startswith(".") or not (folder / CARD).is_file():
        return None
    try:
        card: dict[str, Any] = (above or {}) | json.loads((folder / CARD).read_text(encoding="utf-8"))
        names.parse(f"{names.FINE_TUNED}{card['base']}:{(folder if above is None else folder.parents[1]).name}")
        if above is not None and card["base"] != above["base"]:
            raise RegistryError(f"its card names the base {card['base']}, and its model's card another.")
    except (OSError, ValueError, TypeError, KeyError, RecursionError, RegistryError) as error:
        _warn(f"{folder} is not a usable adapter and is left out: {error}")
        return None
    return card


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
    step = folder.name if folder.parent.name == CHECKPOINTS else None
    name = folder.name if step is None else folder.parents[1].name
    title = str(card.get("title") or name)
    return Entry(
        id=str(ModelId(base.id, name, step)),
        title=title if step is None else f"{title}, {step.replace('-', ' ')}",
        description=str(card.get("description") or ""),
        base=base.id,
        folder=base.folder,
        adapter=folder,
        licence=str(card.get("licence") or base.licence),
        context=base.context,
        sha256=None if card.get("adapter_sha256") is None else str(card["adapter_sha256"]),
        card=card,
        stamp=stamp(folder),
    )
