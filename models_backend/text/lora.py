"""Adapters over the unmodified modules of a base: each row of a batch carries its own at its own strength, or none.

The base's matrix product runs once for all rows. Then a delta is added to those rows alone that carry an adapter, and
only for adapters that are in this batch. A row without one, or at strength 0, is not touched, so its bits are the plain
model's. Rows of one adapter share one pair of products, whatever their strengths are.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers.pytorch_utils import Conv1D

from .adapter_file import refuse
from .adapter_weights import AdapterWeights, Change, check_tie, fit
from .contract import EngineError
from .strength import DORA

Rows = slice | Tensor


class Riders:
    """Which rows of the running pass carry which adapter. One object, shared by all the layers of a model."""

    def __init__(self) -> None:
        self.names: set[str] = set()  # of the adapters that are attached
        self.rows = 0
        self.carried: list[tuple[str, Rows, Tensor | None]] = []

    def set(
        self, adapters: Sequence[str | None], device: torch.device, strengths: Sequence[float] | None = None
    ) -> None:
        """`adapters[i]` is the adapter of row i, which counts `strengths[i]` times; 1 if they are not given.

        Raises EngineError for a name that is not attached: its row would answer as the base, and nobody would see it.
        """
        unknown = {name for name in adapters if name is not None} - self.names
        if unknown:
            raise EngineError("model_not_found", f"The adapter {min(unknown)} is not in memory.")
        self.rows = len(adapters)
        self.carried = []
        powers = strengths if strengths is not None else [1.0] * len(adapters)
        riding = [name if power != 0 else None for name, power in zip(adapters, powers, strict=True)]
        for adapter in dict.fromkeys(name for name in riding if name is not None):
            rows = [i for i, name in enumerate(riding) if name == adapter]
            beside = rows == list(range(rows[0], rows[-1] + 1))
            where = slice(rows[0], rows[-1] + 1) if beside else torch.tensor(rows, device=device)
            theirs = [powers[i] for i in rows]
            plain = all(power == 1 for power in theirs)
            factor = None if plain else torch.tensor(theirs, dtype=torch.float32, device=device)[:, None, None]
            self.carried.append((adapter, where, factor))


class LoraLayer(nn.Module):
    """A linear layer or an embedding table of the base, and the low-rank deltas that rows may carry over it."""

    def __init__(self, base: nn.Module, riders: Riders) -> None:
        super().__init__()
        self.base = base
        self._riders = riders
        self._changes: dict[str, Change] = {}

    @property
    def weight(self) -> Tensor:
        """Model code looks at it, mostly for its dtype."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.base, "bias", None)

    @property
    def carries(self) -> tuple[str, ...]:
        return tuple(self._changes)

    def put(self, adapter: str, change: Change) -> None:
        """`change` as `prepare` gives it."""
        self._changes[adapter] = change

    def take(self, adapter: str) -> None:
        self._changes.pop(adapter, None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        for adapter, rows, factor in self._riders.carried:
            change = self._changes.get(adapter)
            if change is not None:
                self._add(x, y, rows, factor, change)
        return y

    def _add(self, x: Tensor, y: Tensor, rows: Rows, factor: Tensor | None, change: Change) -> None:
        count = self._riders.rows
        if x.shape[0] % count:
            raise EngineError("adapter_refused", "The adapter changes a layer that does not see the batch row by row.")
        if change.embedding:
            low = embedding(x.reshape(count, -1)[rows].reshape(-1), change.down)
        else:
            low = x.reshape(count, -1, x.shape[-1])[rows].reshape(-1, x.shape[-1]) @ change.down
        if factor is not None:
            low.view(len(factor), -1, low.shape[-1]).mul_(factor)
        outputs = y.view(count, -1, y.shape[-1])
        theirs = outputs[rows]  # of a slice the rows themselves, else a copy
        flat = theirs.view(-1, y.shape[-1])
        if change.gain is not None:
            self._regain(flat, change.gain, factor)
        flat.addmm_(low, change.up)
        if not isinstance(rows, slice):
            outputs[rows] = theirs

    def _regain(self, y: Tensor, gain: Tensor, factor: Tensor | None) -> None:
        if factor is not None:
            raise EngineError("strength_refused", DORA)
        if self.bias is None:
            y *= gain
        else:
            y.sub_(self.bias).mul_(gain).add_(self.bias)


@torch.inference_mode()
def prepare(model: nn.Module, weights: AdapterWeights) -> AdapterWeights:
    """`weights` as `attach` takes them: held against `model`, on its device, in its precision, DoRA's gains worked out.

    Changes nothing and may run beside a forward pass. Raises EngineError, code `adapter_refused`.
    """
    if weights.tied:
        _check_ties(model, weights)
    changes = {path: _fit(path, _module(model, path), change) for path, change in weights.changes.items()}
    return replace(weights, changes=changes)


def attach(model: nn.Module, riders: Riders, weights: AdapterWeights) -> None:
    """Bring prepared `weights` over `model`. Quick: no tensor is copied."""
    for path, change in weights.changes.items():
        _wrap(model, path, riders).put(weights.name, change)
    riders.names.add(weights.name)


def detach(model: nn.Module, riders: Riders, name: str) -> None:
    """Forget an adapter; nothing happens if there is none of that name."""
    riders.names.discard(name)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.take(name)


def _module(model: nn.Module, path: str) -> Any:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        raise refuse(f"it is for another base: this one has no {path}.") from None
    return module.base if isinstance(module, LoraLayer) else module


def _fit(path: str, module: Any, change: Change) -> Change:
    """`change` in the precision of `module`, after looking whether it fits."""
    if change.embedding and isinstance(module, nn.Embedding):
        turned = True
    elif not change.embedding and isinstance(module, nn.Linear):
        turned = False
    elif not change.embedding and isinstance(module, Conv1D):
        turned = True
    else:
        kind = "an embedding table" if change.embedding else "a linear layer"
        raise refuse(f"it changes {path} as {kind}, but in this base that is a {type(module).__name__}.")
    sizes = module.weight.shape if turned else (module.weight.shape[1], module.weight.shape[0])
    fitted = fit(path, change, tuple(sizes), lambda: module.weight, turned)
    up, like = fitted.up, module.weight
    scale = getattr(module, "embed_scale", None)  # Gemma's tables multiply what they give by it
    if scale is not None:
        up = up * torch.as_tensor(scale).to(up)
    gain = None if fitted.gain is None else fitted.gain.to(like)
    return Change(fitted.down.to(like), up.to(like), change.embedding, gain=gain)


def _check_ties(model: nn.Module, weights: AdapterWeights) -> None:
    """An adapter that was trained with one change for both of two tied matrices must hold both, and as one."""
    whole: Any = model
    table, head = whole.get_input_embeddings(), whole.get_output_embeddings()
    if table is None or head is None or table.weight is not head.weight:
        return
    paths = {id(module): path for path, module in model.named_modules()}
    first, second = (weights.changes.get(paths[id(module)]) for module in (table, head))
    if second is None and not paths[id(table)].endswith("embed_tokens"):
        return  # PEFT knows tables by that name alone, and trains others by themselves whatever it was told
    check_tie(first, second)


def _wrap(model: nn.Module, path: str, riders: Riders) -> LoraLayer:
    module = model.get_submodule(path)
    if not isinstance(module, LoraLayer):
        module = LoraLayer(module, riders)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, module)
    return module
