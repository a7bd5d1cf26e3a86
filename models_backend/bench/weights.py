"""How many bytes of weights one step reads: the figure that memory's speed is divided by."""

import json
from math import prod
from pathlib import Path
from typing import Any

LONGEST_HEADER = 64 << 20
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def facts(engine: Any, folder: Path | None) -> dict[str, Any]:
    """`weight_bytes`: of all numbers in their type, or of the file of packed weights; None if neither."""
    if folder is None:
        return {"weight_bytes": None}
    precision = engine.models()[0].precision
    if precision in BYTES:
        return {"weight_bytes": parameters(folder) * BYTES[precision]}
    packed = list(folder.glob("*.packed"))
    return {"weight_bytes": packed[0].stat().st_size if len(packed) == 1 else None}


def parameters(folder: Path) -> int:
    """Numbers that each step reads. An input table of its own is not among them: a step reads one row of it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        shapes |= header(file)
    if any(name.startswith("lm_head.") for name in shapes):
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith("embed_tokens.weight")}
    return sum(prod(shape) for shape in shapes.values())


def header(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name. Raises ValueError for what is no safetensors file."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, file.stat().st_size - 8):
            raise ValueError(f"{file.name} is no safetensors file")
        found = json.loads(opened.read(length))
    return {name: tuple(tensor["shape"]) for name, tensor in found.items() if name != "__metadata__"}
