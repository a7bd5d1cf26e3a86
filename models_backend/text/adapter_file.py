"""An adapter on disk, looked at with suspicion: what it says it is, and what its weights' header says.

Reads JSON and a safetensors header only; no weights, no torch. What Diptych cannot compute is refused by name, because
an adapter that is half applied would be shown as a model that nobody trained.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contract import EngineError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_CONFIG = 1 << 20  # bytes
MAX_HEADER = 16 << 20
MAX_COPIES = 4 << 30  # bytes of the base's own matrices that a file may repeat
MAX_RANK = 1024
MAX_PATTERNS = 4096
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_KEY = re.compile(
    r"base_model\.model\.(?P<path>[A-Za-z0-9_.]{1,300})\.(?:"
    r"lora_(?P<side>[AB])\.weight|lora_embedding_(?P<table>[AB])|"
    r"(?P<magnitude>lora_magnitude_vector)(?:\.weight)?|(?P<copy>base_layer)\.weight)"
)
# A pattern that names a module or the end of its path. Other regular expressions, which may take for ever, are refused.
_PATTERN = re.compile(r"\^?[A-Za-z0-9_]+(?:\\?\.[A-Za-z0-9_]+)*")
# Fields that change nothing about how the weights are applied, or that the checks below read themselves.
_HARMLESS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version",
    "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_dora",
    "use_rslora",
}  # fmt: skip
# Starts that leave the base as it is. PiSSA, OLoRA and their like change the base's own weights while training.
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


def refuse(why: str) -> EngineError:
    return EngineError("adapter_refused", f"The adapter is refused: {why}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor's place: bytes `begin` to `end` of the data, which follow the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Module:
    """What the file holds for one module of the base: A and B as PEFT stores them, [rank, in] and [out, rank]."""

    a: Piece
    b: Piece
    scale: float
    embedding: bool
    magnitude: Piece | None = None
    copy: Piece | None = None

    @property
    def numbers(self) -> int:
        """How many numbers the change of this module has."""
        return sum(math.prod(piece.shape) for piece in (self.a, self.b, self.magnitude) if piece is not None)


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A LoRA, rsLoRA or DoRA adapter, sound in itself; whether it fits a base is for a runner to say.

    `modules` are by their path in the base, `start` is where the data begin and `size` what the file has in all, in
    bytes; `tied` is PEFT's ensure_weight_tying.
    """

    path: Path
    modules: dict[str, Module]
    dora: bool
    tied: bool
    start: int
    size: int

    @classmethod
    def read(cls, folder: Path) -> "AdapterFile":
        """Raises EngineError, code `adapter_refused`, with the reason."""
        config = _config(folder / CONFIG)
        path = folder / WEIGHTS
        pieces, start, size = _header(path)
        if sum(piece.end - piece.begin for key, piece in pieces.items() if key.endswith("base_layer.weight")) > (
            MAX_COPIES
        ):
            raise refuse(f"it repeats more than {MAX_COPIES >> 30} GiB of its base's weights.")
        modules = _modules(config, pieces)
        return cls(
            path, modules, config.get("use_dora") is True, config.get("ensure_weight_tying") is True, start, size
        )

    @property
    def numbers(self) -> int:
        """How many numbers a runner will keep of it."""
        return sum(module.numbers for module in self.modules.values())


def is_dora(folder: Path) -> bool:
    """Whether the adapter in `folder` says that it is a DoRA; False if it cannot be read, which its load will tell."""
    try:
        return _config(folder / CONFIG).get("use_dora") is True
    except EngineError:
        return False


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise refuse(f"{CONFIG} is too big.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise refuse(f"{CONFIG} cannot be read ({error}).") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = str(config.get("peft_type"))[:40] if isinstance(config, dict) else "none"
        raise refuse(f"only LoRA adapters are supported (peft_type LORA, DoRA among them), not {kind}.")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise refuse("it trains biases, which is not supported.")
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        raise refuse(f"its start {config['init_lora_weights']!r} changes the base's own weights.")
    for name, value in config.items():
        if name not in _HARMLESS and value not in (None, False, 0, "", [], {}):
            raise refuse(f"it uses {name[:100]}, which is not supported.")
    return config


def _modules(config: dict[str, Any], pieces: dict[str, Piece]) -> dict[str, Module]:
    found: dict[str, dict[str, Piece]] = {}
    for key, piece in pieces.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise refuse(f"it holds {key[:200]!r}, which is no LoRA weight of a linear layer or an embedding.")
        part = match["side"] or (match["table"] and f"table {match['table']}") or match["magnitude"] or match["copy"]
        parts = found.setdefault(match["path"], {})
        if part in parts:
            raise refuse(f"it holds the {part} of {match['path']} twice.")
        parts[part] = piece
    if not found:
        raise refuse("it holds no weights.")
    ranks, alphas = _patterns(config, "rank_pattern"), _patterns(config, "alpha_pattern")
    dora = config.get("use_dora") is True
    return {
        path: _module(path, parts, _rank(ranks(path)), _scale(config, _rank(ranks(path)), alphas(path)), dora)
        for path, parts in found.items()
    }


def _module(path: str, parts: dict[str, Piece], rank: int, scale: float, dora: bool) -> Module:
    embedding = "table A" in parts or "table B" in parts
    a, b = (parts.get(f"table {side}" if embedding else side) for side in "AB")
    if a is None or b is None or (embedding and ("A" in parts or "B" in parts)):
        raise refuse(f"half of the pair for {path} is missing.")
    size_in, size_out = a.shape[-1], b.shape[0]
    _check(f"lora_A of {path}", a, (rank, size_in))
    _check(f"lora_B of {path}", b, (size_out, rank))
    magnitude, copy = parts.get("lora_magnitude_vector"), parts.get("base_layer")
    if (magnitude is not None) != dora:
        raise refuse(f"it {'has no' if dora else 'has a'} DoRA magnitude for {path}, and use_dora is {dora}.")
    if magnitude is not None:
        _check(f"the magnitude of {path}", magnitude, (size_out,))
    if copy is not None:
        _check(f"the base's weight of {path}", copy, (size_in, size_out) if embedding else (size_out, size_in))
    return Module(a, b, scale, embedding, magnitude, copy)


def _check(what: str, piece: Piece, wanted: tuple[int, ...]) -> None:
    if piece.shape != wanted:
        raise refuse(f"{what} has the shape {list(piece.shape)}, but its rank and its other half need {list(wanted)}.")


def _rank(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_RANK:
        raise refuse(f"its rank r is {repr(value)[:40]}, not a number from 1 to {MAX_RANK}.")
    return value


def _scale(config: dict[str, Any], rank: int, alpha: Any) -> float:
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not abs(alpha) < 1e6:
        raise refuse(f"its lora_alpha is {repr(alpha)[:40]}, not a number.")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank)


def _patterns(config: dict[str, Any], name: str) -> Any:
    """A function from a module's path to the value that `config[name]`, or else the plain field, has for it."""
    plain = config.get({"rank_pattern": "r", "alpha_pattern": "lora_alpha"}[name])
    patterns = config.get(name) or {}
    if not isinstance(patterns, dict) or len(patterns) > MAX_PATTERNS:
        raise refuse(f"its {name} is no table of at most {MAX_PATTERNS} modules.")
    for pattern in patterns:
        if _PATTERN.fullmatch(pattern) is None:
            raise refuse(f"its {name} has {pattern[:100]!r}: only names of modules are read, no regular expressions.")
    whole = {pattern.replace("\\", ""): value for pattern, value in patterns.items()}

    def value_of(path: str) -> Any:
        for pattern, value in whole.items():  # the first that matches holds, as in PEFT
            if path == pattern.removeprefix("^") or path.endswith(f".{pattern}"):
                return value
        return plain

    return value_of


def _header(path: Path) -> tuple[dict[str, Piece], int, int]:
    """The tensors, after checking that they lie inside the file; where their data begin; the file's size."""
    if not path.is_file():
        raise refuse(f"it has no {WEIGHTS}. Other formats, pickle among them, are not read.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise ValueError("the header is longer than the file or than is allowed")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        pieces = {name: _checked(name, tensor, size - 8 - length) for name, tensor in header.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise refuse(f"{WEIGHTS} is not a sound safetensors file ({error}).") from None
    end = 0
    for piece in sorted(pieces.values(), key=lambda piece: piece.begin):
        end = piece.end if piece.begin == end else -1
    if end != size - 8 - length:
        raise refuse(f"{WEIGHTS} is not a sound safetensors file (its tensors do not fill it, one behind the other).")
    return pieces, 8 + length, size


def _checked(name: str, tensor: dict[str, Any], room: int) -> Piece:
    shape = tuple(tensor["shape"])
    if tensor["dtype"] not in DTYPES:
        raise ValueError(f"{name[:200]} has the type {tensor['dtype']}")
    if len(shape) not in (1, 2) or not all(isinstance(n, int) and 0 < n < 1 << 32 for n in shape):
        raise ValueError(f"{name[:200]} has the shape {list(shape)[:8]}")
    begin, end = tensor["data_offsets"]
    if not isinstance(begin, int) or not isinstance(end, int):
        raise ValueError(f"{name[:200]} has no offsets")
    if not 0 <= begin <= end <= room or end - begin != math.prod(shape) * DTYPES[tensor["dtype"]]:
        raise ValueError(f"{name[:200]} does not lie inside the file")
    return Piece(tensor["dtype"], shape, begin, end)
