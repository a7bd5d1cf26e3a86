"""Reads sources.toml: the models that are known by name, as plain facts."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "sources.toml"


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A model whose GGUF file travels in a Python wheel. Sizes are in bytes and exact."""

    id: str
    title: str
    description: str
    licence: str
    context: int
    wheel: str
    wheel_bytes: int
    member: str
    member_bytes: int
    sha256: str
    """Of the member, as it lies in the wheel."""
    generation: dict[str, Any] = field(default_factory=dict)


@cache
def known(file: Path = FILE) -> dict[str, WheelSource]:
    """All sources by id, in the order of the file."""
    return {id: WheelSource(id=id, **facts) for id, facts in tomllib.loads(file.read_text())["models"].items()}
