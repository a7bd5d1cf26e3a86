"""An adapter as the kernels read it: float16 in the order of the groups that it changes, and a table of addresses."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from models_backend.text.adapter_file import refuse
from models_backend.text.adapter_weights import AdapterWeights, Change, check_tie, fit

from . import fields as f
from .dot import BLOCK, LANES
from .layout import PARTS
from .pack import Packed, Unpackable, pack, unpack
from .records import Model

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_AROUND = {"lm_head": f.HEAD, "model.embed_tokens": f.EMBEDDING}
_SITE_OF = {module: (site, part) for site, modules in PARTS.items() for part, module in enumerate(modules)}


@dataclass(frozen=True, slots=True)
class PackedAdapter:
    """`table` [layers + 1, SITES, SITE] points into `memory`, which must live as long."""

    name: str
    sha256: str
    scalable: bool
    table: np.ndarray
    memory: list[np.ndarray]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.memory)


def pack_adapter(model: Model, weights: AdapterWeights, tied: bool) -> PackedAdapter:
    """`weights` held against the base and brought into the kernels' form. `tied`: the base's head is its embedding.

    Raises EngineError, code `adapter_refused`.
    """
    if weights.tied and tied:
        check_tie(weights.changes.get("model.embed_tokens"), weights.changes.get("lm_head"))
    table = np.zeros((len(model.matrices), f.SITES, f.SITE), np.int64)
    memory: list[np.ndarray] = []
    sites: dict[tuple[int, int], list[tuple[int, Change]]] = {}
    for path, change in weights.changes.items():
        layer, site, part = _place(model, path)
        if change.embedding != ((layer, site) == (len(table) - 1, f.EMBEDDING)):
            raise refuse(f"it changes {path} as {'an embedding table' if change.embedding else 'a linear layer'}.")
        first, last = _span(model, layer, site, part)
        sizes = (int(model.matrices[layer, site, f.BLOCKS]) * BLOCK, last - first)
        if change.embedding:
            sizes = (sizes[1], sizes[0])

        def stored(layer: int = layer, site: int = site, first: int = first, last: int = last) -> torch.Tensor:
            return torch.from_numpy(_matrix(model, layer, site)[first:last])

        if change.copy is not None:  # the base's matrix as the file has it is compared as it would be packed
            change = replace(change, copy=_as_packed(change.copy, int(model.matrices[layer, site, f.BITS])))
        sites.setdefault((layer, site), []).append((first, fit(path, change, sizes, stored, change.embedding)))
    try:
        for (layer, site), parts in sites.items():
            _fill(table[layer, site], memory, sorted(parts, key=lambda one: one[0]))
    except OverflowError as error:
        raise refuse(f"{error}.") from None
    return PackedAdapter(weights.name, weights.sha256, weights.scalable, table, memory)


def _place(model: Model, path: str) -> tuple[int, int, int]:
    """Layer, site and part of a site of a module of the base."""
    last = len(model.matrices) - 1
    if path in _AROUND:
        return last, _AROUND[path], 0
    match = _LAYER.fullmatch(path)
    if match is None or match[2] not in _SITE_OF or int(match[1]) >= last:
        raise refuse(f"it is for another base: this one has no {path}.")
    return int(match[1]), *_SITE_OF[match[2]]


def _span(model: Model, layer: int, site: int, part: int) -> tuple[int, int]:
    """First and last output of a part of a matrix, the last not included."""
    outputs = int(model.matrices[layer, site, f.GROUPS]) * LANES
    if layer == len(model.matrices) - 1 or len(PARTS[site]) == 1:
        return 0, outputs
    shares = [1, 1] if site == f.UP else [model.heads, model.kv_heads, model.kv_heads]
    size = outputs // sum(shares)
    return sum(shares[:part]) * size, sum(shares[: part + 1]) * size


def _matrix(model: Model, layer: int, site: int) -> np.ndarray:
    """float32 [outputs, inputs]"""
    row = model.matrices[layer, site]
    groups, blocks, bits = int(row[f.GROUPS]), int(row[f.BLOCKS]), int(row[f.BITS])
    weights = model.blob[row[f.W] :][: groups * blocks * 64 * bits].reshape(groups, blocks, -1)
    scales = model.blob[row[f.S] :][: groups * blocks * 4 * LANES].view(np.float16).reshape(groups, blocks, 2, LANES)
    return unpack(Packed(weights, scales, bits))


def _as_packed(matrix: torch.Tensor, bits: int) -> torch.Tensor:
    try:
        return torch.from_numpy(unpack(pack(matrix.float().numpy(), least=bits)))
    except Unpackable as error:
        raise refuse(f"the base's weights that it brings cannot be read: {error}") from None


def _fill(row: np.ndarray, memory: list[np.ndarray], parts: list[tuple[int, Change]]) -> None:
    """One site's row of the table. `parts` are (first output, change), in the order of the outputs."""

    def keep(array: Any) -> int:
        memory.append(np.ascontiguousarray(array))
        return int(memory[-1].ctypes.data)

    embedding = parts[0][1].embedding
    downs = [change.down.numpy() for _, change in parts]
    # An embedding looks up the row of its id; a product takes 16 ranks side by side, or 8.
    row[f.A] = keep(_halves(downs[0] if embedding else _by_lanes(np.concatenate(downs, 1))))
    row[f.RANK], row[f.COUNT] = sum(down.shape[1] for down in downs), len(parts)
    at = 0
    for number, (first, change) in enumerate(parts):
        up = change.up.numpy()
        rank, outputs = up.shape
        if not embedding:
            up = up.reshape(rank, -1, LANES).transpose(1, 0, 2)
        fields = row[f.PART + f.FIELDS * number : f.PART + f.FIELDS * (number + 1)]
        fields[[f.FROM, f.TO, f.AT, f.OF]] = first // LANES, (first + outputs) // LANES, at, rank
        fields[f.B] = keep(_halves(up))
        fields[f.GAIN] = 0 if change.gain is None else keep(change.gain.numpy().astype(np.float32))
        at += rank


def _by_lanes(down: np.ndarray) -> np.ndarray:
    """[in, rank] as blocks of [in, 16] one behind the other, the last of [in, 8] where no more ranks are left."""
    blocks = []
    for first in range(0, down.shape[1], LANES):
        ranks = down[:, first : first + LANES]
        lanes = LANES if ranks.shape[1] > LANES // 2 else LANES // 2
        block = np.zeros((len(down), lanes), np.float32)
        block[:, : ranks.shape[1]] = ranks
        blocks.append(block.ravel())
    return np.concatenate(blocks)


def _halves(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise OverflowError("a weight is too large for float16")
    return halves.view(np.uint16)
