"""Which engines a worker has: one for each installed base, or the fake one. Reads small files only, loads nothing."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from models_backend import registry
from models_backend.config import Settings
from models_backend.protocol.workers import ModelInfo
from models_backend.registry import Entry

from . import fake
from .adapter_file import is_dora
from .catalogue import Catalogue, Lookout
from .contract import Backend, Note
from .defaults import model_defaults
from .engine import Engine
from .strength import DORA, NO_ADAPTER
from .template import NO_TOOLS, takes_tools

log = logging.getLogger(__name__)


def open_engines(settings: Settings, worker_name: str) -> dict[str, Engine]:
    """Return the engines by the id of their base. None of them has its model in memory yet."""
    if settings.engine == "fake":
        build = partial(fake.build, settings.slots, settings.fake_delay)
        return {fake.BASE: Engine(fake.INFOS, build, worker_name, settings.slots, queue=settings.queue)}
    installed = [entry for entry in registry.models(settings.home) if entry.installed]
    lookout = Lookout(settings.home)
    engines = {}
    for base in (entry for entry in installed if entry.base is None):
        catalogue = Catalogue(base, [entry for entry in installed if entry.base == base.id])
        try:
            infos = [describe(entry, settings.context) for entry in (base, *catalogue.entries.values())]
        except (OSError, ValueError) as error:
            log.warning("%s is left out, its folder cannot be read: %s", base.id, error)
            continue
        build = partial(_load, base, catalogue, settings)
        engine = Engine(infos, build, worker_name, settings.slots, lookout=lookout, queue=settings.queue)
        engines[base.id] = engine
        lookout.watch(catalogue, partial(_tell, engine, settings.context))
    return engines


def _load(base: Entry, catalogue: Catalogue, settings: Settings, note: Note) -> Backend:
    from .loader import load  # torch and transformers take seconds to import: only when a model is wanted

    return load(base, catalogue, settings, note)


def _tell(engine: Engine, cap: int, tuned: list[Entry]) -> None:
    """Other fine-tuned models are there than before."""
    try:
        engine.know([describe(entry, cap) for entry in tuned])
    except (OSError, ValueError) as error:  # the base itself is being removed; the worker keeps what it has in memory
        log.warning("the models on %s cannot be read: %s", engine.base, error)


def describe(entry: Entry, cap: int) -> ModelInfo:
    """A model as its folder tells it. Raises OSError or ValueError when the folder is not a model's."""
    if entry.folder is None:
        raise ValueError(f"{entry.id} is not pulled")
    config = _read(entry.folder / "config.json")
    text = config.get("text_config") or config
    longest = next((text[name] for name in _LENGTHS if isinstance(text.get(name), int) and text[name] > 0), cap)
    tokenizer = _read(entry.folder / "tokenizer_config.json", missing={})
    return ModelInfo(
        id=entry.id,
        title=entry.title,
        description=entry.description,
        base=entry.base,
        context=min(longest, cap),
        chat=bool(templates := _templates(entry.folder, tokenizer)),
        defaults=model_defaults(_read(entry.folder / "generation_config.json", missing={})),
        licence=entry.licence,
        sha256=entry.sha256,
        cannot=_cannot(entry) | ({} if any(map(takes_tools, templates)) else {"tools": NO_TOOLS}),
    )


def _templates(folder: Path, tokenizer: dict[str, Any]) -> list[str]:
    """All chat templates of a model: one, or several by name, in the tokenizer's file or in their own."""
    named = tokenizer.get("chat_template") or []
    several = [one.get("template") for one in named if isinstance(one, dict)] if isinstance(named, list) else [named]
    files = [folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))]
    several += [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    return [one for one in several if isinstance(one, str) and one]


def _cannot(entry: Entry) -> dict[str, str]:
    if entry.adapter is None:
        return {"strength": NO_ADAPTER}
    return {"strength": DORA} if is_dora(entry.adapter) else {}


_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


def _read(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.is_file():
        return missing
    facts = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is no JSON object")
    return facts
