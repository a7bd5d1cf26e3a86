"""A text/runner.TorchRunner over the compiled step: feeds in, logits out, adapters by name."""

import math
import mmap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models_backend.text import draw
from models_backend.text.adapter_weights import AdapterWeights
from models_backend.text.contract import EngineError, Feed, Outcome
from models_backend.text.strength import DORA

from . import fields as f
from .adapters import PackedAdapter, pack_adapter
from .dot import BLOCK, LANES
from .records import LINE, REGIONS, Model, Room, Rows
from .team import Team

CHUNK = 64  # ids of prompts in one pass beside running rows: some 50 ms
ROWS = 256  # of one compiled pass; more are run one pass after the other
PROBES = 4  # slots behind the others for `probe`


class NativeRunner:
    """Rows never mix: a row's logits have the same bits alone, in any batch, in a prompt and decoded one by one."""

    device = "cpu"
    copies = True
    tokens: int | None = None
    number_bytes = 2
    chunk: int | None = CHUNK

    def __init__(self, model: Model, tied: bool, slots: int, context: int, memory: int, threads: int) -> None:
        """Keys and values take at most `memory` bytes: fewer `slots` first, then a shorter `context` (tokens)."""
        self.model = model
        self.layers = len(model.matrices) - 1
        self.vocabulary = int(model.matrices[self.layers, f.HEAD, f.GROUPS]) * LANES
        self.hidden = int(model.matrices[self.layers, f.HEAD, f.BLOCKS]) * BLOCK
        self.precision = _describe(model)
        self._tied = tied
        self._size = 2 * model.cos.shape[1]
        self.slots, self.cache_slots, self.context = self._fit(slots, context, memory)
        self._adapters: dict[str, PackedAdapter] = {}
        self._places: dict[str, int] = {}  # rows of the table of adapters
        self._room = self._furnish()
        self._team = Team(1, REGIONS * self.layers + 3)
        self.use_threads(threads)

    @property
    def threads(self) -> int:
        return self._team.size

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from the next pass on."""
        self._team.close()
        self._team = Team(count, REGIONS * self.layers + 3)
        each = self.model.heads // self.model.kv_heads
        length = -(-self.context // LANES) * LANES
        self._room = self._room._replace(scores=np.zeros((count, each, length), np.float32))

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[sum of feed.wanted, vocabulary]: what follows each feed's last `wanted` ids, in the order of the feeds."""
        rows = self._decoding(feeds) if all(len(feed.tokens) == 1 for feed in feeds) else self._reading(feeds)
        if rows.tokens.min() < 0 or rows.tokens.max() >= self.vocabulary:
            raise IndexError(f"the vocabulary has {self.vocabulary} tokens")
        if rows.places.max() >= self.context:
            raise IndexError(f"a row has at most {self.context} positions")
        logits = np.empty((len(rows.wanted), self.vocabulary), np.float32)
        for first in range(0, len(rows.tokens), ROWS):
            self._run(rows, logits, first, min(len(rows.tokens), first + ROWS))
        return torch.from_numpy(logits)

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        torch.set_num_threads(1)  # what is left to torch is short: threads would wait for each other
        return draw.forward(self, feeds)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make `target` hold what `source` holds at its first `length` positions."""
        blocks = -(-length // LANES)
        self._room.keys[target, :, :, :blocks] = self._room.keys[source, :, :, :blocks]
        self._room.values[target, :, :, :length] = self._room.values[source, :, :, :length]

    def release(self, slot: int) -> None:
        """Nothing to do: what lies behind a row's own positions is never read, not even where it is no number."""

    def probe(self, feeds: Sequence[Feed]) -> Tensor:
        """`logits` with slots of their own, empty before and after: no row's state is read or changed."""
        if len({feed.slot for feed in feeds}) > PROBES:
            raise IndexError(f"a probe has at most {PROBES} slots")
        order = {
            slot: self.slots + self.cache_slots + i for i, slot in enumerate(dict.fromkeys(feed.slot for feed in feeds))
        }
        return self.logits([replace(feed, slot=order[feed.slot]) for feed in feeds])

    # Adapters ------------------------------------------------------------------------------------------------------

    def prepare(self, weights: AdapterWeights) -> PackedAdapter:
        """All that is slow about an adapter; may run beside a pass. Raises EngineError, code `adapter_refused`."""
        return pack_adapter(self.model, weights, self._tied)

    def attach(self, adapter: PackedAdapter) -> None:
        """Take in what `prepare` returned, between two passes."""
        self._adapters[adapter.name] = adapter
        taken = {place for name, place in self._places.items() if name != adapter.name}
        place = self._places.setdefault(adapter.name, next(i for i in range(len(taken) + 1) if i not in taken))
        tables = self._room.adapters
        if place >= len(tables):
            more = np.zeros((2 * place + 1, *tables.shape[1:]), np.int64)
            more[: len(tables)] = tables
            self._room = self._room._replace(adapters=more)
        self._room.adapters[place] = adapter.table
        rank = -(-int(adapter.table[..., f.RANK].max()) // LANES) * LANES
        if rank > self._room.ranks.shape[1]:
            self._room = self._room._replace(ranks=np.zeros((ROWS, rank), np.float32))

    def detach(self, name: str) -> None:
        """Forget an adapter, between two passes; no row carries it."""
        self._adapters.pop(name, None)
        self._places.pop(name, None)

    # -----------------------------------------------------------------------------------------------------------------

    def _decoding(self, feeds: Sequence[Feed]) -> Rows:
        """One id of each feed: what nearly all passes are, so it is made without a detour."""
        return Rows(
            tokens=np.array([feed.tokens[0] for feed in feeds], np.int64),
            slots=np.array([feed.slot for feed in feeds], np.int64),
            places=np.array([feed.start for feed in feeds], np.int64),
            wanted=np.array([i for i, feed in enumerate(feeds) if feed.wanted], np.int64),
            adapters=np.array([self._find(feed) for feed in feeds], np.int64),
            strengths=np.array([feed.strength for feed in feeds], np.float32),
        )

    def _reading(self, feeds: Sequence[Feed]) -> Rows:
        """Feeds of several ids, one behind the other."""
        counts = [len(feed.tokens) for feed in feeds]
        ends = np.cumsum(counts)
        places = np.arange(ends[-1]) + np.repeat([feed.start for feed in feeds] - (ends - counts), counts)
        wanted = [np.arange(end - feed.wanted, end) for end, feed in zip(ends, feeds, strict=True)]

        def each(values: list[Any], kind: Any) -> np.ndarray:
            return np.repeat(np.asarray(values, kind), counts)

        return Rows(
            tokens=np.concatenate([np.asarray(feed.tokens, np.int64) for feed in feeds]),
            slots=each([feed.slot for feed in feeds], np.int64),
            places=places.astype(np.int64),
            wanted=np.concatenate(wanted).astype(np.int64),
            adapters=each([self._find(feed) for feed in feeds], np.int64),
            strengths=each([feed.strength for feed in feeds], np.float32),
        )

    def _find(self, feed: Feed) -> int:
        """The adapter's row in the table; -1 for the base, and at strength 0, which is the base bit by bit."""
        if feed.adapter is None:
            return -1
        if feed.adapter not in self._places:
            raise EngineError("adapter_missing", f"{feed.adapter} is not in memory.")
        if feed.strength != 1 and not self._adapters[feed.adapter].scalable:
            raise EngineError("strength_refused", DORA)
        return -1 if feed.strength == 0 else self._places[feed.adapter]

    def _run(self, rows: Rows, logits: np.ndarray, first: int, last: int) -> None:
        """Rows `first` to `last` in one compiled pass."""
        if last - first == len(rows.tokens):
            self._team.run(self.model, rows, self._room, logits)
            return
        begin, end = np.searchsorted(rows.wanted, [first, last])
        part = Rows(
            rows.tokens[first:last],
            rows.slots[first:last],
            rows.places[first:last],
            rows.wanted[begin:end] - first,
            rows.adapters[first:last],
            rows.strengths[first:last],
        )
        self._team.run(self.model, part, self._room, logits[begin:end])

    def _fit(self, slots: int, context: int, memory: int) -> tuple[int, int, int]:
        """Slots for rows, as many again for prompts that are kept, and the context, for `memory` bytes at the most."""
        per_token = 2 * 2 * self.layers * self.model.kv_heads * self._size
        whole = memory // (per_token * context) - PROBES
        rows = max(1, min(slots, whole))
        return rows, max(0, min(slots, whole - rows)), max(64, min(context, memory // (per_token * (1 + PROBES))))

    def _furnish(self) -> Room:
        """Keys and values are only promised here: the system gives a page when it is first written to."""
        matrices, model = self.model.matrices, self.model
        inputs = int(matrices[:, :, f.BLOCKS].max()) * BLOCK
        wide = int(matrices[: self.layers, :, f.GROUPS].max()) * LANES
        blocks = -(-self.context // LANES)
        heads = (self.slots + self.cache_slots + PROBES, self.layers, model.kv_heads)
        return Room(
            keys=_promise((*heads, blocks, self._size, LANES)),
            values=_promise((*heads, blocks * LANES, self._size)),
            state=np.zeros((ROWS, self.hidden), np.float32),
            normed=np.zeros((ROWS, inputs), np.float32),
            small=np.zeros((ROWS, inputs), np.int8),
            scales=np.zeros((ROWS, inputs // BLOCK, 2), np.float32),
            wide=np.zeros((ROWS, wide), np.float32),
            ranks=np.zeros((ROWS, 1), np.float32),
            scores=np.zeros((1, model.heads // model.kv_heads, blocks * LANES), np.float32),
            adapters=np.zeros((4, self.layers + 1, f.SITES, f.SITE), np.int64),
            counters=np.zeros((1, 2, LINE), np.int64),
        )


def _promise(shape: tuple[int, ...]) -> np.ndarray:
    """float16 memory, as uint16, that is taken page by page as it is written to.

    In small pages: each head's positions lie apart, and a large page for the first of them would take a slot's whole
    context at once.
    """
    memory = mmap.mmap(-1, 2 * math.prod(shape))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.uint16).reshape(shape)


def _describe(model: Model) -> str:
    """Of the weights of the layers: `4-bit`, `8-bit`, or both."""
    bits = sorted({int(one) for one in model.matrices[:-1, :, f.BITS].ravel()})
    return " and ".join(f"{one}-bit" for one in bits)
