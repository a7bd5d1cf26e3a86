"""How the weights of a model become the tables that a step reads."""

from typing import Any

import numpy as np

from . import fields as f
from .dot import BLOCK, LANES
from .pack import Packed, join, pack
from .packed_file import PackedFile, Unreadable
from .records import Model
from .shape import Shape

# Site by site, the modules whose outputs are computed together.
PARTS = {
    f.QKV: ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    f.OUT: ("self_attn.o_proj",),
    f.UP: ("mlp.gate_proj", "mlp.up_proj"),
    f.DOWN: ("mlp.down_proj",),
}
_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")


def gather(state: dict[str, Any], shape: Shape, frequencies: np.ndarray) -> dict[str, np.ndarray]:
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

    for layer in range(shape.layers):
        path = f"model.layers.{layer}"
        for site, modules in PARTS.items():
            put(f"{layer}.{site}", [f"{path}.{module}" for module in modules])
        for i, norm in enumerate(_NORMS):
            if f"{path}.{norm}.weight" in state:
                tensors[f"{layer}.norm.{i}"] = _lines(state[f"{path}.{norm}.weight"])
    tensors["norm"] = _lines(state["model.norm.weight"])
    tensors["frequencies"] = _lines(frequencies)
    put("head", ["model.embed_tokens" if shape.tied else "lm_head"])
    if not shape.tied:
        put("embedding", ["model.embed_tokens"])
    return tensors


def arrange(file: PackedFile, shape: Shape, context: int) -> Model:
    """The tables of a step over the tensors of `file`, for `context` positions.

    Raises Unreadable for tensors of other sizes than the shape tells: the kernels would read beyond them.
    """
    layers = shape.layers
    matrices = np.zeros((layers + 1, f.SITES, f.MATRIX), np.int64)
    norms = np.full((layers + 1, len(_NORMS)), -1, np.int64)
    sizes = _sizes(shape)
    for layer in range(layers):
        for site in PARTS:
            _describe(file, f"{layer}.{site}", matrices[layer, site], sizes[site])
        for i in range(len(_NORMS)):
            name = f"{layer}.norm.{i}"
            if name in file:
                if file.shapes[name][0] < (shape.hidden if i < 2 else shape.size):
                    raise Unreadable(f"{name} is too short")
                norms[layer, i] = file.offsets[name] // 4
    if file.shapes.get("norm", (0,))[0] < shape.hidden or "frequencies" not in file:
        raise Unreadable("the final norm is not of the size that the shape tells")
    norms[layers, 0] = file.offsets["norm"] // 4
    frequencies = file.tensor("frequencies")[: shape.size // 2]
    angles = np.arange(context, dtype=np.float32)[:, None] * frequencies
    around = (shape.vocabulary, shape.hidden)
    _describe(file, "head", matrices[layers, f.HEAD], around)
    _describe(file, "head" if shape.tied else "embedding", matrices[layers, f.EMBEDDING], around)
    return Model(
        blob=file.blob,
        floats=file.blob.view(np.float32),
        matrices=matrices,
        norms=norms,
        cos=(np.cos(angles) * shape.scaling).astype(np.float32),
        sin=(np.sin(angles) * shape.scaling).astype(np.float32),
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        window=shape.window,
        epsilon=shape.epsilon,
    )


def _sizes(shape: Shape) -> dict[int, tuple[int, int]]:
    """Outputs and inputs of each site's matrix."""
    heads, both = shape.size * shape.heads, 2 * shape.size * shape.kv_heads
    return {
        f.QKV: (heads + both, shape.hidden),
        f.OUT: (shape.hidden, heads),
        f.UP: (2 * shape.inner, shape.hidden),
        f.DOWN: (shape.hidden, shape.inner),
    }


def _describe(file: PackedFile, name: str, row: np.ndarray, size: tuple[int, int]) -> None:
    bits = next((bits for bits in (4, 8) if f"{name}.{bits}" in file), 0)
    groups, blocks = size[0] // LANES, size[1] // BLOCK
    shapes = (file.shapes.get(f"{name}.{bits}"), file.shapes.get(f"{name}.scales"))
    if shapes != ((groups, blocks, 64 * bits), (groups, blocks, 2, LANES)):
        raise Unreadable(f"{name} is not of the size that the shape tells")
    if file.shapes.get(f"{name}.bias", (size[0],)) != (size[0],):
        raise Unreadable(f"the bias of {name} is not of the size that the shape tells")
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
