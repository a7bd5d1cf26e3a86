"""diptych.json: the note that lies in each pulled model's folder and says what it is and where it came from.

A folder without a readable note is not a model, so the note is written last.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models_backend.registry.errors import RegistryError

FILE = "diptych.json"
WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts of one pulled model. `files` maps each file's name to its sha256; `created` is in ISO 8601, UTC."""

    id: str
    source: str
    source_sha256: str | None
    title: str
    description: str
    licence: str
    context: int | None
    created: str
    files: dict[str, str]

    @property
    def sha256(self) -> str:
        """One hash for the weights: the file's own, or for several files the hash of their names and hashes."""
        weights = {name: digest for name, digest in sorted(self.files.items()) if name.endswith(WEIGHTS)}
        if len(weights) == 1:
            return next(iter(weights.values()))
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in weights.items()).encode()).hexdigest()


def write(folder: Path, manifest: Manifest) -> None:
    (folder / FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """Raises RegistryError when there is no note or it cannot be understood."""
    try:
        facts: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Manifest(**facts)
    except (OSError, ValueError, TypeError) as error:
        raise RegistryError(f"{folder} holds no usable model: remove the folder and pull it again ({error}).") from None


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file directly in the folder, but not of the note itself."""
    return {path.name: digest(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != FILE}


def context_of(folder: Path) -> int | None:
    """Most tokens that the model's config.json says it can read, or None if it does not say."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for facts in (config, config.get("text_config") or {}):
        for name in ("max_position_embeddings", "n_positions", "seq_length"):
            if isinstance(facts.get(name), int):
                return int(facts[name])
    return None
