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
from .contract import Backend, Note
from .defaults import model_defaults
from .engine import Engine

log = logging.getLogger(__name__)


def open_engines(settings: Settings, worker_name: str) -> dict[str, Engine]:
    """Return the engines by the id of their base. None of them has its model in memory yet."""
    if settings.engine == "fake":
        build = partial(fake.build, settings.slots, settings.fake_delay)
        return {fake.BASE: Engine(fake.INFOS, build, worker_name, settings.slots)}
    installed = [entry for entry in registry.models(settings.home) if entry.installed]
    engines = {}
    for base in (entry for entry in installed if entry.base is None):
        tuned = [entry for entry in installed if entry.base == base.id]
        try:
            infos = [describe(entry, settings.context) for entry in (base, *tuned)]
        except (OSError, ValueError) as error:
            log.warning("%s is left out, its folder cannot be read: %s", base.id, error)
            continue
        engines[base.id] = Engine(infos, partial(_load, base, tuned, settings), worker_name, settings.slots)
    return engines


def _load(base: Entry, tuned: list[Entry], settings: Settings, note: Note) -> Backend:
    from .loader import load  # torch and transformers take seconds to import: only when a model is wanted

    return load(base, tuned, settings, note)


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
        chat=bool(tokenizer.get("chat_template")) or (entry.folder / "chat_template.jinja").is_file(),
        defaults=model_defaults(_read(entry.folder / "generation_config.json", missing={})),
        licence=entry.licence,
        sha256=entry.sha256,
    )


_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


def _read(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.is_file():
        return missing
    facts = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is no JSON object")
    return facts
