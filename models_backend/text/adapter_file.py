"""An adapter on disk, looked at with suspicion: what it says it is, what its weights' header says, and its checksum.

Reads JSON and a safetensors header only; no weights, no torch. What Diptych cannot compute is refused by name, because
an adapter that is half applied would be shown as a model that nobody trained.
"""

import json
import re
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from .contract import EngineError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_CONFIG = 1 << 20  # bytes
MAX_HEADER = 16 << 20
MAX_RANK = 1024
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_KEY = re.compile(r"base_model\.model\.(?P<path>[A-Za-z0-9_.]{1,300})\.lora_(?P<side>[AB])\.weight")
# Fields that change nothing about how the weights are applied, or that the checks below read themselves.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version",
    "qalora_group_size", "r",
    "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
}  # fmt: skip
# Starts that leave the base as it is. PiSSA, OLoRA and their like change the base's own weights while training.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


def _refuse(why: str) -> EngineError:
    return EngineError("adapter_refused", f"The adapter is refused: {why}")


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A plain LoRA or rsLoRA adapter, checked in itself; `check_shape` holds it against a base."""

    rank: int
    alpha: float
    rslora: bool
    modules: tuple[str, ...]  # paths inside the base
    shapes: dict[str, tuple[int, ...]]
    sha256: str

    @classmethod
    def read(cls, folder: Path) -> "AdapterFile":
        """Raises EngineError, code `adapter_refused`, with the reason."""
        config = _config(folder / CONFIG)
        rank, alpha = config.get("r"), config.get("lora_alpha")
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
            raise _refuse(f"its rank r is {rank!r}, not a number from 1 to {MAX_RANK}.")
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not abs(alpha) < 1e6:
            raise _refuse(f"its lora_alpha is {alpha!r}, not a number.")
        shapes = _header(folder / WEIGHTS)
        sides: dict[str, set[str]] = {}
        for key in shapes:
            match = _KEY.fullmatch(key)
            if match is None:
                raise _refuse(f"it holds {key[:200]!r}, which is no LoRA weight of a linear layer.")
            sides.setdefault(match["path"], set()).add(match["side"])
        halves = [path for path, found in sides.items() if len(found) < 2]
        if halves or not sides:
            raise _refuse(f"half of the pair for {halves[0]} is missing." if halves else "it holds no weights.")
        with (folder / WEIGHTS).open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        return cls(rank, float(alpha), config.get("use_rslora") is True, tuple(sides), shapes, digest)

    @staticmethod
    def key(path: str, side: str) -> str:
        return f"base_model.model.{path}.lora_{side}.weight"

    def check_shape(self, path: str, size_in: int, size_out: int) -> None:
        """Raise EngineError unless the pair for `path` fits a layer of these sizes."""
        for side, wanted in (("A", (self.rank, size_in)), ("B", (size_out, self.rank))):
            found = self.shapes[self.key(path, side)]
            if found != wanted:
                raise _refuse(f"lora_{side} of {path} has the shape {list(found)}, but this base needs {list(wanted)}.")


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise _refuse(f"{CONFIG} is too big.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refuse(f"{CONFIG} cannot be read ({error}).") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _refuse("only LoRA adapters are supported (peft_type LORA).")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise _refuse("it trains biases, which is not supported.")
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        raise _refuse(f"its start {config['init_lora_weights']!r} changes the base's own weights.")
    for name, value in config.items():
        if name not in _HARMLESS and value not in (None, False, 0, "", [], {}):
            raise _refuse(f"it uses {name[:100]}, which is not supported.")
    return config


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, after checking that they lie inside the file."""
    if not path.is_file():
        raise _refuse(f"it has no {WEIGHTS}. Other formats, pickle among them, are not read.")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise ValueError("the header is longer than the file or than is allowed")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {name: _checked(name, tensor, size - 8 - length) for name, tensor in header.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refuse(f"{WEIGHTS} is not a sound safetensors file ({error}).") from None


def _checked(name: str, tensor: dict[str, Any], room: int) -> tuple[int, ...]:
    shape = tuple(tensor["shape"])
    if tensor["dtype"] not in DTYPES:
        raise ValueError(f"{name[:200]} has the type {tensor['dtype']}")
    if len(shape) != 2 or not all(isinstance(n, int) and 0 < n < 1 << 32 for n in shape):
        raise ValueError(f"{name[:200]} has the shape {list(shape)[:8]}")
    begin, end = tensor["data_offsets"]
    if not 0 <= begin <= end <= room or end - begin != shape[0] * shape[1] * DTYPES[tensor["dtype"]]:
        raise ValueError(f"{name[:200]} does not lie inside the file")
    return shape
