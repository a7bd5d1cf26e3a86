"""Adapters over the unmodified modules of a base: each row of a batch carries its own, or none.

The base's matrix product runs once for all rows. Then a delta is added to those rows alone that carry an adapter, and
only for adapters that are in this batch. A row without one is not touched, so its bits are the plain model's.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .adapter_file import WEIGHTS, AdapterFile
from .contract import EngineError


class Riders:
    """Which rows of the running pass carry which adapter. One object, shared by all the layers of a model."""

    def __init__(self) -> None:
        self.rows = 0
        self.carried: list[tuple[str, slice | Tensor]] = []

    def set(self, adapters: Sequence[str | None], device: torch.device) -> None:
        """`adapters[i]` is the adapter of row i."""
        self.rows = len(adapters)
        self.carried = []
        for adapter in dict.fromkeys(name for name in adapters if name is not None):
            rows = [i for i, name in enumerate(adapters) if name == adapter]
            beside = rows == list(range(rows[0], rows[-1] + 1))
            where = slice(rows[0], rows[-1] + 1) if beside else torch.tensor(rows, device=device)
            self.carried.append((adapter, where))


class LoraLayer(nn.Module):
    """A linear layer of the base, and the low-rank deltas that rows may carry over it."""

    def __init__(self, base: nn.Module, riders: Riders) -> None:
        super().__init__()
        self.base = base
        self._riders = riders
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def weight(self) -> Tensor:
        """Model code looks at it, mostly for its dtype."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias  # type: ignore[return-value]

    def put(self, adapter: str, down: Tensor, up: Tensor) -> None:
        """`down` [in, rank] and `up` [rank, out], which the adapter's scale is part of."""
        self._pairs[adapter] = (down, up)

    def take(self, adapter: str) -> None:
        self._pairs.pop(adapter, None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        for adapter, rows in self._riders.carried:
            pair = self._pairs.get(adapter)
            if pair is not None:
                self._add(x, y, rows, *pair)
        return y

    def _add(self, x: Tensor, y: Tensor, rows: slice | Tensor, down: Tensor, up: Tensor) -> None:
        count = self._riders.rows
        if x.shape[0] % count:
            raise EngineError("adapter_refused", "The adapter changes a layer that does not see the batch row by row.")
        inputs = x.reshape(count, -1, x.shape[-1])[rows].reshape(-1, x.shape[-1])
        outputs = y.view(count, -1, y.shape[-1])
        if isinstance(rows, slice):
            outputs[rows].view(-1, y.shape[-1]).addmm_(inputs @ down, up)
        else:
            outputs[rows] += (inputs @ down @ up).view(len(rows), -1, y.shape[-1])


def attach(model: nn.Module, riders: Riders, name: str, folder: Path) -> str:
    """Bring the adapter in `folder` over `model` under `name`; returns the sha256 of its weights.

    Checks everything before it changes anything. Raises EngineError, code `adapter_refused`.
    """
    file = AdapterFile.read(folder)
    layers = {path: _linear(model, path) for path in file.modules}
    for path, layer in layers.items():
        file.check_shape(path, *_sizes(layer))
    weights = load_file(folder / WEIGHTS)
    for key, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise EngineError("adapter_refused", f"The adapter's weights are damaged: {key} is not finite.")
    if not any(tensor.any() for key, tensor in weights.items() if ".lora_B." in key):
        raise EngineError(
            "adapter_refused", "The adapter changes nothing: its weights are all zero, as before training."
        )
    scale = file.alpha / (math.sqrt(file.rank) if file.rslora else file.rank)
    for path, layer in layers.items():
        wrapped = _wrap(model, path, riders)
        like = layer.weight
        down = weights[file.key(path, "A")].float().T.contiguous().to(like)
        up = (weights[file.key(path, "B")].float().T * scale).contiguous().to(like)
        wrapped.put(name, down, up)
    return file.sha256


def detach(model: nn.Module, name: str) -> None:
    """Forget an adapter that must not be used."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.take(name)


def _linear(model: nn.Module, path: str) -> nn.Linear | Conv1D:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        raise EngineError("adapter_refused", f"The adapter is for another base: this one has no {path}.") from None
    module = module.base if isinstance(module, LoraLayer) else module
    if not isinstance(module, nn.Linear | Conv1D):
        kind = type(module).__name__
        raise EngineError("adapter_refused", f"The adapter changes {path}, a {kind}; only linear layers are supported.")
    return module


def _sizes(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.nx, layer.nf


def _wrap(model: nn.Module, path: str, riders: Riders) -> LoraLayer:
    module = model.get_submodule(path)
    if not isinstance(module, LoraLayer):
        module = LoraLayer(module, riders)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, module)
    return module
