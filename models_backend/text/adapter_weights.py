"""What an adapter does to its base, as plain tensors: no module, no runner.

Every runner takes adapters in this form, whatever it is made of. LoRA: arXiv 2106.09685; DoRA: arXiv 2402.09353.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import torch
from torch import Tensor

from .adapter_file import WEIGHTS, AdapterFile, Module, Piece, refuse


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one module's output: `y + strength * ((x @ down) @ up)`, where W is the base's matrix.

    `down` [in, rank] and `up` [rank, out], the adapter's scale folded into `up`. For an embedding table `in` is the
    number of rows, and x @ down is the row of `down` that the id names.

    DoRA also has a `magnitude` [out], by which each output is set anew: W + down @ up, each output's weights brought to
    the length `magnitude`. A bias of the base stays outside of all this. A runner's `prepare` replaces it by `gain`
    [out], magnitude / length of those weights, and folds the gain into `up`: y - bias becomes
    gain * (y - bias) + (x @ down) @ up.

    `copy` is the base's own matrix where the file repeats it, as PEFT does beside an embedding or lm_head. `prepare`
    refuses one that is not the base's, and drops it.
    """

    down: Tensor
    up: Tensor
    embedding: bool = False
    magnitude: Tensor | None = None
    gain: Tensor | None = None
    copy: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory that it takes once it is attached."""
        tensors = (self.down, self.up, self.magnitude, self.gain)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """One adapter. `name` is what a Feed calls it, `changes` are by the path of the base's module.

    As read from a file all tensors are float32, contiguous, finite and on the CPU. A path is that of the base as
    transformers lays it out, such as `model.layers.0.self_attn.q_proj`, `model.embed_tokens` or `lm_head`; a change of
    one of two modules that share their matrix is a change of that module alone. `tied` says that it was trained with
    one change for both (PEFT's ensure_weight_tying): then `changes` must hold both, each the other turned round.
    """

    name: str
    changes: dict[str, Change]
    sha256: str
    tied: bool = False

    @property
    def nbytes(self) -> int:
        """Memory that it takes once it is attached."""
        return sum(change.nbytes for change in self.changes.values())

    @property
    def scalable(self) -> bool:
        """Whether a strength other than 1 means something: not where magnitudes were trained."""
        return all(change.magnitude is None and change.gain is None for change in self.changes.values())


class Prepared(Protocol):
    """What a runner has made of an adapter to take it in quickly: its own form, or AdapterWeights again."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def nbytes(self) -> int:
        """Memory that it takes once it is attached."""
        ...


def read(name: str, file: AdapterFile) -> AdapterWeights:
    """The weights of a checked file, to be called `name`. Raises EngineError, code `adapter_refused`.

    One pass over one open file, so that the sha256 is of the very bytes that became tensors, whatever happens to the
    folder meanwhile. Not mapped into memory: a mapped file that is cut short kills the process that looks at it.
    """
    try:
        with file.path.open("rb") as opened:
            data = bytearray(file.size + 1)  # one more, to see that the file has not grown
            if opened.readinto(data) != file.size:
                raise refuse("its file changed while it was read.")
    except OSError as error:
        raise refuse(f"{WEIGHTS} cannot be read ({error}).") from None
    view = memoryview(data)[: file.size]
    changes = {path: _change(path, module, view[file.start :]) for path, module in file.modules.items()}
    if not any(bool(change.up.any()) for change in changes.values()):
        raise refuse("it changes nothing: its weights are all zero, as before training.")
    return AdapterWeights(name, changes, sha256(view).hexdigest(), file.tied)


def fit(path: str, change: Change, sizes: tuple[int, int], stored: Callable[[], Tensor], turned: bool) -> Change:
    """`change` held against the base's matrix of `sizes` (in, out); DoRA's gains worked out.

    `stored` gives the matrix, [out, in] or, if `turned`, [in, out]; it is asked only where it is needed. Raises
    EngineError, code `adapter_refused`.
    """
    found = (change.down.shape[0], change.up.shape[1])
    if found != sizes:
        raise refuse(f"its weights for {path} are for {list(found)} inputs and outputs; this base has {list(sizes)}.")
    if change.copy is not None and not _same(change.copy, stored()):
        raise refuse(
            f"it brings its own {path}, other than the base's: only the low-rank part of an adapter is applied."
        )
    if change.magnitude is None:
        return Change(change.down, change.up, change.embedding)
    matrix = stored().T if turned else stored()
    gain = change.magnitude.to(matrix.device) / _lengths(matrix, change)
    return Change(change.down, change.up.to(matrix.device) * gain, change.embedding, gain=gain)


def _lengths(matrix: Tensor, change: Change) -> Tensor:
    """[out]: how long each output's weights are once the deltas are in. `matrix` is [out, in]."""
    down, up = change.down.to(matrix.device), change.up.to(matrix.device)
    blocks = [  # in blocks, for the sum of a vocabulary's matrix and its delta would take as much memory again
        torch.linalg.vector_norm(matrix[i : i + _BLOCK].float() + (down @ up[:, i : i + _BLOCK]).T, dim=1)
        for i in range(0, matrix.shape[0], _BLOCK)
    ]
    return torch.cat(blocks)


def _same(copy: Tensor, stored: Tensor) -> bool:
    """Whether `copy` is the base's matrix, as exactly as the coarser of the two types tells."""
    if copy.shape != stored.shape:
        return False
    there = copy.to(stored.device)
    return torch.equal(there.to(stored.dtype), stored) or torch.equal(stored.to(there.dtype), there)


def check_tie(first: Change | None, second: Change | None) -> None:
    """Raise EngineError unless the changes of two tied matrices, the embedding's and the head's, are one change.

    `first` is the embedding's [vocabulary, rank] [rank, hidden], `second` the head's, the other way round.
    """
    if first is None and second is None:
        return
    if first is None or second is None:
        raise refuse("its embedding and its lm_head are tied (ensure_weight_tying), but it holds only one of them.")
    for i in range(0, first.down.shape[0], _BLOCK):  # halves may differ by the scale, so their products are compared
        one, other = first.down[i : i + _BLOCK] @ first.up, (second.down @ second.up[:, i : i + _BLOCK]).T
        if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-4, atol=1e-6):
            raise refuse("its embedding and its lm_head are tied (ensure_weight_tying), but it changes them apart.")


def _change(path: str, module: Module, data: memoryview) -> Change:
    def tensor(piece: Piece) -> Tensor:
        # A copy, for in the file a tensor may begin at any byte.
        raw = torch.frombuffer(bytearray(data[piece.begin : piece.end]), dtype=_TYPES[piece.dtype])
        return raw.view(piece.shape)

    def sound(found: Tensor) -> Tensor:
        if not bool(torch.isfinite(found).all()):
            raise refuse(f"its weights are damaged: {path} is not finite.")
        return found.contiguous()

    return Change(
        sound(tensor(module.a).float().T),
        sound(tensor(module.b).float().T * module.scale),
        module.embedding,
        sound(tensor(module.magnitude).float()) if module.magnitude is not None else None,
        copy=tensor(module.copy) if module.copy is not None else None,
    )


_BLOCK = 1024  # rows of a matrix taken together
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
