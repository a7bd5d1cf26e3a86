"""Keys and values of all rows, a slot each, behind the cache interface that transformers' attention layers call.

Rows stand at different positions, join and leave at any step; nothing moves when they do. What a row leaves stays until
its slot is written again, and can be copied. Memory grows with use, up to slots x context. The masks come from the
model's own mask functions (causal, sliding window, chunked), asked with each row's own positions, so any standard
decoder-only model works unmodified.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

ATTENTION = "diptych_slots"
BLOCK = 64  # attended lengths are multiples, so that shapes repeat from step to step


class SlotCache:
    """Duck type of transformers' Cache. `at` says which rows the next forward pass is about."""

    is_compileable = False

    def __init__(self, layers: int, slots: int, context: int) -> None:
        self.slots = slots
        self.context = context
        self.is_sliding = [False] * layers  # every layer keeps everything; a sliding window is in the mask alone
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._room = (1, BLOCK)  # slots and positions that have memory

    def at(self, slots: Sequence[int], starts: Sequence[int], counts: Sequence[int], device: torch.device) -> None:
        """The next pass has these rows in this order; row i brings `counts[i]` ids for `starts[i]` and after."""
        longest = max(start + count for start, count in zip(starts, counts, strict=True))
        self._length = -(-longest // BLOCK) * BLOCK
        self._grow(max(slots) + 1, self._length)
        self._offset = torch.tensor(starts, device=device)[:, None]
        first = slots[0]
        self._side_by_side = list(slots) == list(range(first, first + len(slots)))
        self._span = slice(first, first + len(slots))
        self._rows = torch.tensor(slots, device=device)
        # Only real ids are written: what pads a shorter row on the right must not reach its slot.
        spots = [(i, q) for i, count in enumerate(counts) for q in range(count)]
        source_row, source_q = torch.tensor(spots, device=device).T
        self._source = (source_row, source_q)
        self._target = (self._rows[source_row], self._offset[source_row, 0] + source_q)

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write [rows, heads, ids, size] of this pass and return all that the rows may attend to."""
        return self._store(self._keys, keys, layer), self._store(self._values, values, layer)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make `target` hold what `source` holds at its first `length` positions.

        Raises ValueError for what the slots cannot hold, and what the device raises when its memory is out.
        """
        if not (0 <= source < self.slots and 0 <= target < self.slots and 0 <= length <= self._room[1]):
            raise ValueError(f"{length} positions cannot be copied from slot {source} to slot {target}")
        self._grow(max(source, target) + 1, length)
        for tensor in (*self._keys, *self._values):
            if tensor is not None:
                tensor[target, :, :length] = tensor[source, :, :length]

    def clear(self, slot: int) -> None:
        """Forget what is not finite: zero times NaN is NaN, even behind a mask."""
        for tensor in (*self._keys, *self._values):
            if tensor is not None and slot < tensor.shape[0]:
                tensor[slot] = 0

    @property
    def bytes_per_token(self) -> int:
        """Memory of one position of one slot, known after the first pass."""
        known = [t for t in (*self._keys, *self._values) if t is not None]
        return sum(t.shape[1] * t.shape[3] * t.element_size() for t in known)

    # What transformers asks of a Cache ----------------------------------------------------------------------------

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(self._offset.max())

    def get_query_offset(self, layer_idx: int = 0) -> Tensor:
        """[rows, 1]: each row's own position. `slot_mask` below knows what to do with it."""
        return self._offset

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self._length, 0

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        return self.context

    def __len__(self) -> int:
        return len(self._keys)

    # ----------------------------------------------------------------------------------------------------------------

    def _store(self, tensors: list[Tensor | None], fresh: Tensor, layer: int) -> Tensor:
        kept = tensors[layer]
        if kept is None:
            slots, length = self._room
            # One tensor a layer: a stacked one would be copied whole in every layer by a compiler.
            kept = fresh.new_zeros(slots, fresh.shape[1], length, fresh.shape[3])
            tensors[layer] = kept
        row, q = self._source
        slot, position = self._target
        kept[slot, :, position] = fresh[row, :, q]
        if self._side_by_side:
            return kept[self._span, :, : self._length]
        return kept[:, :, : self._length].index_select(0, self._rows)

    def _grow(self, slots: int, length: int) -> None:
        """Make room and copy the old contents, lengths by doubling; without memory for both, nothing is lost."""
        have_slots, have_length = self._room
        if slots <= have_slots and length <= have_length:
            return
        full = -(-self.context // BLOCK) * BLOCK
        room = (
            max(have_slots, slots),  # there are few, and each may be hundreds of megabytes
            have_length if length <= have_length else max(length, min(full, 2 * have_length)),
        )
        for tensors in (self._keys, self._values):
            for layer, old in enumerate(tensors):
                if old is not None and (old.shape[0] < room[0] or old.shape[2] < room[1]):
                    grown = old.new_zeros(room[0], old.shape[1], room[1], old.shape[3])
                    grown[: old.shape[0], :, : old.shape[2]] = old
                    tensors[layer] = grown
        self._room = room


def slot_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Tensor | int = 0,
    mask_function: Callable[..., Tensor] | None = None,
    device: torch.device | str = "cpu",
    **_: Any,
) -> Tensor:
    """Boolean mask [rows, 1, queries, keys]; `q_offset` [rows, 1] puts each row at its own position."""
    assert mask_function is not None
    rows = torch.arange(batch_size, device=device)[:, None, None, None]
    queries = torch.arange(q_length, device=device) + q_offset
    keys = torch.arange(kv_length, device=device)
    mask = mask_function(rows, 0, queries.view(-1, 1, q_length, 1), keys[None, None, None])
    return mask.expand(batch_size, 1, q_length, kv_length)


def slot_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """torch's fused attention; by hand for models (Gemma 2) that squash the scores before the softmax."""
    if softcap is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, slot_attention)
AttentionMaskInterface.register(ATTENTION, slot_mask)
