"""Adapters for the bench: those that there are for a base, then copies of them, or random ones if there are none.

A copy is the same file under another name; to the engine it is another adapter, with weights of its own.
"""

import json
from pathlib import Path

from models_backend import registry
from models_backend.bench.weights import header

RANK = 16


def of(model: str, home: Path, wanted: int, scratch: Path) -> list[tuple[str, str]]:
    """`wanted` adapters of the base `model` as (id, folder). Random ones are written into `scratch`."""
    entries = [entry for entry in registry.models(home) if entry.base == model and entry.adapter is not None]
    found = [(entry.id, str(entry.adapter)) for entry in entries][:wanted]
    if not found:
        base = registry.find(model, home)
        assert base.folder is not None
        found = [(f"ft:{model}:random", str(write_random(base.folder, scratch / "random")))]
    copies = [
        (f"{found[number % len(found)][0]}-{number}", found[number % len(found)][1])
        for number in range(len(found), wanted)
    ]
    return found + copies


def write_random(base: Path, folder: Path, rank: int = RANK, seed: int = 1) -> Path:
    """A LoRA adapter of small random weights on all matrices of the base's layers, as PEFT would save it."""
    import numpy as np
    from safetensors.numpy import save_file

    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(base.glob("*.safetensors")):
        shapes |= header(file)
    draw = np.random.default_rng(seed)
    tensors = {}
    for name, shape in sorted(shapes.items()):
        if len(shape) == 2 and ".layers." in name and name.endswith("_proj.weight"):
            path = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{path}.lora_A.weight"] = draw.normal(0, 0.02, (rank, shape[1])).astype(np.float32)
            tensors[f"{path}.lora_B.weight"] = draw.normal(0, 0.02, (shape[0], rank)).astype(np.float32)
    if not tensors:
        raise ValueError(f"{base.name} has no layers whose matrices are called ..._proj, so no adapter can be made up")
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    targets = sorted({name.split(".")[-2] for name in shapes if name.endswith("_proj.weight")})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": targets, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
