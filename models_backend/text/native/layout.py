"""Which models the kernels can compute, and how their weights become the tables that a step reads."""

from typing import Any

import numpy as np

from . import fields as f
from .dot import BLOCK, LANES
from .pack import Packed, Unpackable, join, pack
from .packed_file import PackedFile, Unreadable
from .step import Model

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
ROPES = ("default", "linear", "llama3", "yarn")
# Site by site, the modules whose outputs are computed together.
PARTS = {
    f.QKV: ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    f.OUT: ("self_attn.o_proj",),
    f.UP: ("mlp.gate_proj", "mlp.up_proj"),
    f.DOWN: ("mlp.down_proj",),
}
_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")


def why_not(config: Any) -> str | None:
    """Why a model of this transformers config is not for the kernels, or None when it is."""
    if config.model_type not in FAMILIES:
        return f"{config.model_type} is not one of {', '.join(FAMILIES)}"
    if getattr(config, "quantization_config", None):
        return "its weights are quantised in another way"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}"
    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") not in ROPES or rope.get("partial_rotary_factor", 1) != 1:
        return "its positions are encoded in another way"
    if len(set(getattr(config, "layer_types", None) or ["one"])) > 1:
        return "its layers differ in kind"
    size = head_size(config)
    widths = (size * config.num_attention_heads, size * config.num_key_value_heads, config.intermediate_size)
    if any(width % BLOCK for width in (config.hidden_size, *widths)) or config.vocab_size % LANES or size % LANES:
        return f"its sizes are not multiples of {BLOCK} and {LANES}"
    return None


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def window(config: Any) -> int:
    """Positions that a row looks back; 0 for all."""
    kinds = getattr(config, "layer_types", None)
    if kinds and set(kinds) == {"full_attention"}:
        return 0
    return int(getattr(config, "sliding_window", None) or 0)


def gather(state: dict[str, Any], config: Any, frequencies: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors to write, from a state dict of numpy arrays and the rope's [head size / 2]. Raises Unpackable."""
    tensors: dict[str, np.ndarray] = {}

    def put(name: str, modules: list[str]) -> None:
        packed = _one([pack(state[f"{module}.weight"]) for module in modules], [state[f"{m}.weight"] for m in modules])
        tensors[f"{name}.{packed.bits}"], tensors[f"{name}.scales"] = packed.weights, packed.scales
        biases = [state.get(f"{module}.bias") for module in modules]
        if any(bias is not None for bias in biases):
            sizes = [state[f"{module}.weight"].shape[0] for module in modules]
            full = [np.zeros(size) if bias is None else bias for bias, size in zip(biases, sizes, strict=True)]
            tensors[f"{name}.bias"] = np.concatenate(full).astype(np.float32)

    for layer in range(config.num_hidden_layers):
        path = f"model.layers.{layer}"
        for site, modules in PARTS.items():
            put(f"{layer}.{site}", [f"{path}.{module}" for module in modules])
        for i, norm in enumerate(_NORMS):
            if f"{path}.{norm}.weight" in state:
                tensors[f"{layer}.norm.{i}"] = _lines(state[f"{path}.{norm}.weight"])
    tensors["norm"] = _lines(state["model.norm.weight"])
    tensors["frequencies"] = _lines(frequencies)
    put("head", ["model.embed_tokens" if config.tie_word_embeddings else "lm_head"])
    if not config.tie_word_embeddings:
        put("embedding", ["model.embed_tokens"])
    return tensors


def arrange(file: PackedFile, config: Any, context: int, scaling: float) -> Model:
    """The tables of a step over the tensors of `file`, for `context` positions; `scaling` is the rope's.

    Raises Unreadable for tensors of other sizes than the config tells: the kernels would read beyond them.
    """
    layers = config.num_hidden_layers
    matrices = np.zeros((layers + 1, f.SITES, f.MATRIX), np.int64)
    norms = np.full((layers + 1, len(_NORMS)), -1, np.int64)
    sizes = _sizes(config)
    for layer in range(layers):
        for site in PARTS:
            _describe(file, f"{layer}.{site}", matrices[layer, site], sizes[site])
        for i in range(len(_NORMS)):
            name = f"{layer}.norm.{i}"
            if name in file:
                if file.shapes[name][0] < (config.hidden_size if i < 2 else head_size(config)):
                    raise Unreadable(f"{name} is too short")
                norms[layer, i] = file.offsets[name] // 4
    if file.shapes.get("norm", (0,))[0] < config.hidden_size or "frequencies" not in file:
        raise Unreadable("the final norm is not of the size that the config tells")
    norms[layers, 0] = file.offsets["norm"] // 4
    frequencies = file.tensor("frequencies")[: head_size(config) // 2]
    angles = np.arange(context, dtype=np.float32)[:, None] * frequencies
    around = (config.vocab_size, config.hidden_size)
    _describe(file, "head", matrices[layers, f.HEAD], around)
    _describe(file, "head" if config.tie_word_embeddings else "embedding", matrices[layers, f.EMBEDDING], around)
    return Model(
        blob=file.blob,
        floats=file.blob.view(np.float32),
        matrices=matrices,
        norms=norms,
        cos=(np.cos(angles) * scaling).astype(np.float32),
        sin=(np.sin(angles) * scaling).astype(np.float32),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        window=window(config),
        epsilon=float(config.rms_norm_eps),
    )


def _sizes(config: Any) -> dict[int, tuple[int, int]]:
    """Outputs and inputs of each site's matrix."""
    size, hidden, inner = head_size(config), config.hidden_size, config.intermediate_size
    heads, both = size * config.num_attention_heads, 2 * size * config.num_key_value_heads
    return {f.QKV: (heads + both, hidden), f.OUT: (hidden, heads), f.UP: (2 * inner, hidden), f.DOWN: (hidden, inner)}


def _describe(file: PackedFile, name: str, row: np.ndarray, size: tuple[int, int]) -> None:
    bits = next((bits for bits in (4, 8) if f"{name}.{bits}" in file), 0)
    groups, blocks = size[0] // LANES, size[1] // BLOCK
    shapes = (file.shapes.get(f"{name}.{bits}"), file.shapes.get(f"{name}.scales"))
    if shapes != ((groups, blocks, 64 * bits), (groups, blocks, 2, LANES)):
        raise Unreadable(f"{name} is not of the size that the config tells")
    if file.shapes.get(f"{name}.bias", (size[0],)) != (size[0],):
        raise Unreadable(f"the bias of {name} is not of the size that the config tells")
    row[[f.W, f.S, f.GROUPS, f.BLOCKS, f.BITS, f.BIAS]] = (
        file.offsets[f"{name}.{bits}"],
        file.offsets[f"{name}.scales"],
        groups,
        blocks,
        bits,
        file.offsets[f"{name}.bias"] // 4 if f"{name}.bias" in file else -1,
    )


def _one(parts: list[Packed], originals: list[np.ndarray]) -> Packed:
    """Parts of different bits become one of 8, if that keeps what they were."""
    if len({part.bits for part in parts}) > 1:
        parts = [pack(original, least=8) for original in originals]
    return join(parts)


def _lines(values: np.ndarray) -> np.ndarray:
    """Padded to whole lines; the kernels know the true length."""
    flat = np.asarray(values, np.float32)
    return np.concatenate([flat, np.zeros(-len(flat) % LANES, np.float32)])


__all__ = ["Unpackable", "arrange", "gather", "head_size", "why_not", "window"]
