"""Makes small models on disk for the tests: right in shape, with a few bytes of weights."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from models_backend.registry import manifest, names
from models_backend.registry.manifest import Manifest


def write_model(folder: Path) -> Path:
    """config.json, tokenizer.json and eight bytes of safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 77}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(2, np.float32)}, folder / "model.safetensors")
    return folder


def install(home: Path, id: str) -> Path:
    """A pulled model, note and all."""
    folder = write_model(home / "models" / names.parse(id).folder)
    note = Manifest(id, "test", None, id.title(), "", "MIT", 77, "2026-01-01T00:00:00+00:00", manifest.digests(folder))
    manifest.write(folder, note)
    return folder


def write_adapter(folder: Path, base: str, **facts: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"base": base, "adapter_sha256": "ab" * 32} | facts))
    return folder
