"""One forward pass for all rows of a base, over unmodified transformers modules.

`SlotRunner` serves standard decoder-only models in one batch. `SoloRunner` serves everything else that transformers can
generate with (state-space models, exotic caches): each row alone, with the cache that the model itself makes. The
loader chooses by a test, never by a list of names.
"""

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from models_backend.protocol.events import Error

from . import lora
from .adapter_weights import AdapterWeights
from .contract import EngineError, Feed, Outcome, OutOfMemory
from .draw import forward, memory, outcomes
from .kv_cache import ATTENTION, SlotCache
from .lora import Riders
from .threads import configured

log = logging.getLogger(__name__)

CACHE_SLOTS = 4  # prompts that are kept beyond those that slots at rest hold


class _Modules:
    """What both have in common: a model of transformers, and adapters over its modules."""

    model: Any
    _riders: Riders

    def prepare(self, weights: AdapterWeights) -> AdapterWeights:
        return lora.prepare(self.model, weights)

    def attach(self, weights: AdapterWeights) -> None:
        lora.attach(self.model, self._riders, weights)

    def detach(self, name: str) -> None:
        lora.detach(self.model, self._riders, name)


class SlotRunner(_Modules):
    """All rows in one pass, each in its slot of a shared cache. Prompts may come in chunks of `chunk` ids.

    A row's logits do not depend on what its neighbours say, but their last bits may depend on how many there are:
    matrix kernels sum in another order for another number of rows. Measured for the default model in float32 with MKL:
    decoding beside 0, 1 or 2 other lanes gives the same bits, beside 3 or more logits differ by up to 7e-5.
    """

    copies = True
    tokens: int | None = None

    def __init__(self, model: Any, riders: Riders, slots: int, context: int, chunk: int) -> None:
        """Switches the attention of `model` for good; raises EngineError if the model does not let itself."""
        self.model = model
        self.slots = slots
        self.cache_slots = CACHE_SLOTS
        self.context = context
        self.chunk: int | None = chunk
        self.device = describe_device(model.device)
        self.precision = describe_precision(model)
        self.number_bytes = model.dtype.itemsize
        self._riders = riders
        self._unproven: set[int] = set()  # slots of which no number has been seen to be one since they were fed
        config = model.config.get_text_config(decoder=True)
        self.vocabulary = int(config.vocab_size)
        self.cache = SlotCache(config.num_hidden_layers, slots + self.cache_slots, context)
        model.set_attn_implementation(ATTENTION)
        if config._attn_implementation != ATTENTION or not _takes(model, "position_ids", "logits_to_keep"):
            raise EngineError("unsupported_architecture", f"{type(model).__name__} cannot share a batch.")

    @torch.inference_mode()
    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[sum of feed.wanted, vocabulary]: what follows each feed's last `wanted` ids, in the order of the feeds."""
        device = self.model.device
        counts = [len(feed.tokens) for feed in feeds]
        width = max(counts)
        ids = [[*feed.tokens, *[0] * (width - len(feed.tokens))] for feed in feeds]
        # A pad repeats the last position: learned position tables have no row beyond the context.
        places = [[feed.start + min(q, len(feed.tokens) - 1) for q in range(width)] for feed in feeds]
        self._riders.set([feed.adapter for feed in feeds], device, [feed.strength for feed in feeds])
        self.cache.at([feed.slot for feed in feeds], [feed.start for feed in feeds], counts, device)
        wanted = [range(count - feed.wanted, count) for count, feed in zip(counts, feeds, strict=True)]
        # The output layer runs for these columns of the padded batch alone; a product of no columns is no product.
        columns = sorted({q for row in wanted for q in row}) or [0]
        out = self.model(
            input_ids=torch.tensor(ids, device=device),
            position_ids=torch.tensor(places, device=device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=torch.tensor(columns, device=device),
        ).logits
        if all(len(row) == len(columns) for row in wanted):
            return out.flatten(0, 1)
        where = {q: column for column, q in enumerate(columns)}
        rows = [i for i, row in enumerate(wanted) for _ in row]
        kept = [where[q] for row in wanted for q in row]
        picked = torch.tensor([rows, kept], dtype=torch.int64, device=device)
        return out[picked[0], picked[1]]

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        torch.set_num_threads(configured())  # a runner beside this one may have set another number
        outcomes = forward(self, feeds)
        leaders = [i if feed.shadows is None else feed.shadows for i, feed in enumerate(feeds)]
        # What breaks one may have broken its shadows, which read the same ids; the lane ends with all of them.
        broken = {leader for leader, outcome in zip(leaders, outcomes, strict=True) if outcome.error}
        for feed, leader in zip(feeds, leaders, strict=True):
            if feed.wanted and leader not in broken:
                self._unproven.discard(feed.slot)
            else:
                self._unproven.add(feed.slot)
        return outcomes

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        with memory():
            self.cache.copy(source, target, length)

    @torch.inference_mode()
    def release(self, slot: int) -> None:
        if slot in self._unproven:
            self._unproven.remove(slot)
            self.cache.clear(slot)

    def probe(self, feeds: Sequence[Feed]) -> Tensor:
        """`logits` with slots of their own, empty before and after: no row's state is read or changed."""
        cache = self.cache
        self.cache = SlotCache(len(cache), len(feeds), cache.context)
        try:
            return self.logits(feeds)
        finally:
            self.cache = cache

    def fit(self, memory: int) -> None:
        """Keep slots x context within so many bytes: fewer kept prompts first, then slots, then a shorter context."""
        per_token = self.cache.bytes_per_token
        fit = memory // (per_token * self.context)
        self.slots = max(1, min(self.slots, fit))
        self.cache_slots = max(0, min(self.cache_slots, fit - self.slots))
        self.context = max(64, min(self.context, memory // per_token))
        # The proofs compare two rows of one pass, even where only one may answer at a time.
        self.cache.slots, self.cache.context = max(2, self.slots) + self.cache_slots, self.context


class SoloRunner(_Modules):
    """Each row in a pass of its own, whole prompts at once, with the model's own kind of cache."""

    chunk: int | None = None
    copies = False
    cache_slots = 0
    tokens: int | None = None

    def __init__(self, model: Any, riders: Riders, slots: int, context: int) -> None:
        self.model = model
        self.slots = slots
        self.context = context
        self.device = describe_device(model.device)
        self.precision = describe_precision(model)
        self.number_bytes = model.dtype.itemsize
        self.vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
        self._riders = riders
        self._caches: dict[int, Any] = {}
        self._name = "cache_params" if _takes(model, "cache_params") else "past_key_values"
        self._keeps = _takes(model, "logits_to_keep")

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[sum of feed.wanted, vocabulary]: what follows each feed's last `wanted` ids, in the order of the feeds."""
        return torch.cat([self._one(feed) for feed in feeds])

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        """Never raises: the rows before one that fails have moved on in their caches and must not be fed again."""
        torch.set_num_threads(configured())
        made = [Outcome()] * len(feeds)
        for leader, feed in enumerate(feeds):
            if feed.shadows is None:
                group = [leader, *(i for i, one in enumerate(feeds) if one.shadows == leader)]
                for i, outcome in zip(group, self._together([feeds[i] for i in group]), strict=True):
                    made[i] = outcome
        return made

    def copy(self, source: int, target: int, length: int) -> None:
        raise NotImplementedError("these caches cannot be copied; `copies` says so")

    def release(self, slot: int) -> None:
        self._caches.pop(slot, None)

    def probe(self, feeds: Sequence[Feed]) -> Tensor:
        """`logits` with slots of their own, empty before and after: no row's state is read or changed."""
        caches = self._caches
        self._caches = {}
        try:
            return self.logits(feeds)
        finally:
            self._caches = caches

    def _together(self, feeds: Sequence[Feed]) -> list[Outcome]:
        """A row and its shadows; who fails is told apart, for an error names the model whose it is."""
        made = [Outcome()] * len(feeds)
        known: list[Tensor] = []
        for i, feed in enumerate(feeds):
            try:
                with memory():
                    known.append(self._one(feed))
            except Exception as error:
                made[i] = _failure(error, feed)
        if len(known) < len(feeds):
            return made
        try:
            with memory():
                alone = [replace(feed, shadows=0 if i else None) for i, feed in enumerate(feeds)]
                return outcomes(torch.cat(known), alone)
        except Exception as error:
            return [_failure(error, feeds[0])] * len(feeds)

    @torch.inference_mode()
    def _one(self, feed: Feed) -> Tensor:
        """[feed.wanted, vocabulary]"""
        if feed.start == 0:
            self._caches[feed.slot] = DynamicCache(config=self.model.config)
        self._riders.set([feed.adapter], self.model.device, [feed.strength])
        ids = torch.tensor([list(feed.tokens)], device=self.model.device)
        options = {"logits_to_keep": max(1, feed.wanted)} if self._keeps else {}
        out = self.model(input_ids=ids, use_cache=True, **options, **{self._name: self._caches[feed.slot]})
        self._caches[feed.slot] = getattr(out, self._name)
        return out.logits[0, out.logits.shape[1] - feed.wanted :]


def _failure(error: Exception, feed: Feed) -> Outcome:
    if isinstance(error, OutOfMemory):
        return Outcome(error=Error("out_of_memory", "The device has no memory left for this answer."))
    log.error("the row in slot %d fails", feed.slot, exc_info=error)
    return Outcome(error=Error("engine_error", f"The model failed on this answer: {error}"))


def describe_device(device: torch.device) -> str:
    """A name for people: `cpu`, `mps`, or the name of the card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe_precision(model: nn.Module) -> str:
    """Of the weights, as torch calls it: `float32`, `bfloat16`."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _takes(model: nn.Module, *names: str) -> bool:
    parameters = inspect.signature(model.forward).parameters
    return all(name in parameters for name in names)
