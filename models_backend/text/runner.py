"""One forward pass for all rows of a base, over unmodified transformers modules, and the tokens drawn from it.

`SlotRunner` serves standard decoder-only models in one batch. `SoloRunner` serves everything else that transformers can
generate with (state-space models, exotic caches): each row alone, with the cache that the model itself makes. The
loader chooses by a test, never by a list of names.
"""

import inspect
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from models_backend.protocol.events import Error

from .contract import EngineError, Feed, Outcome, OutOfMemory
from .kv_cache import ATTENTION, SlotCache
from .lora import Riders
from .sampler import choose

log = logging.getLogger(__name__)


class TorchRunner(Protocol):
    """A contract.Runner whose logits can be looked at, as the tests at load do."""

    device: str
    slots: int
    context: int
    chunk: int | None
    copies: bool
    precision: str

    def logits(self, feeds: Sequence[Feed]) -> Tensor: ...
    def copy(self, source: int, target: int, length: int) -> None: ...
    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]: ...
    def release(self, slot: int) -> None: ...


class SlotRunner:
    """All rows in one pass, each in its slot of a shared cache. Prompts may come in chunks of `chunk` ids.

    A row's logits do not depend on what its neighbours say, but their last bits may depend on how many there are:
    matrix kernels sum in another order for another number of rows. Measured for the default model in float32 with MKL:
    decoding beside 0, 1 or 2 other lanes gives the same bits, beside 3 or more logits differ by up to 7e-5.
    """

    def __init__(self, model: Any, riders: Riders, slots: int, context: int, chunk: int) -> None:
        """Switches the attention of `model` for good; raises EngineError if the model does not let itself."""
        self.model = model
        self.slots = slots
        self.context = context
        self.chunk: int | None = chunk
        self.device = describe_device(model.device)
        self._riders = riders
        self._spoilt: set[int] = set()
        config = model.config.get_text_config(decoder=True)
        self.cache = SlotCache(config.num_hidden_layers, slots, context)
        model.set_attn_implementation(ATTENTION)
        if config._attn_implementation != ATTENTION or not _takes(model, "position_ids", "logits_to_keep"):
            raise EngineError("unsupported_architecture", f"{type(model).__name__} cannot share a batch.")

    @torch.inference_mode()
    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[rows, vocabulary]: what follows each row's last id."""
        device = self.model.device
        counts = [len(feed.tokens) for feed in feeds]
        width = max(counts)
        ids = [[*feed.tokens, *[0] * (width - len(feed.tokens))] for feed in feeds]
        # A pad repeats the last position: learned position tables have no row beyond the context.
        places = [[feed.start + min(q, len(feed.tokens) - 1) for q in range(width)] for feed in feeds]
        self._riders.set([feed.adapter for feed in feeds], device)
        self.cache.at([feed.slot for feed in feeds], [feed.start for feed in feeds], counts, device)
        lasts = sorted({count - 1 for count in counts})
        out = self.model(
            input_ids=torch.tensor(ids, device=device),
            position_ids=torch.tensor(places, device=device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=torch.tensor(lasts, device=device),
        ).logits
        column = torch.tensor([lasts.index(count - 1) for count in counts], device=device)
        return out[torch.arange(len(feeds), device=device), column]

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        outcomes = _drawn(self, feeds)
        self._spoilt |= {feed.slot for feed, outcome in zip(feeds, outcomes, strict=True) if outcome.error}
        return outcomes

    @torch.inference_mode()
    def release(self, slot: int) -> None:
        if slot in self._spoilt:
            self._spoilt.remove(slot)
            self.cache.clear(slot)

    def fit(self, memory: int) -> None:
        """Keep slots x context within so many bytes: fewer slots first, then a shorter context."""
        per_token = self.cache.bytes_per_token
        self.slots = max(1, min(self.slots, memory // (per_token * self.context)))
        self.context = max(64, min(self.context, memory // per_token))
        # The proofs compare two rows of one pass, even where only one may answer at a time.
        self.cache.slots, self.cache.context = max(2, self.slots), self.context


class SoloRunner:
    """Each row in a pass of its own, whole prompts at once, with the model's own kind of cache."""

    chunk: int | None = None

    def __init__(self, model: Any, riders: Riders, slots: int, context: int) -> None:
        self.model = model
        self.slots = slots
        self.context = context
        self.device = describe_device(model.device)
        self._riders = riders
        self._caches: dict[int, Any] = {}
        self._name = "cache_params" if _takes(model, "cache_params") else "past_key_values"

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[rows, vocabulary]: what follows each row's last id."""
        return torch.stack([self._one(feed) for feed in feeds])

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        return [self._alone(feed) for feed in feeds]

    def release(self, slot: int) -> None:
        self._caches.pop(slot, None)

    def _alone(self, feed: Feed) -> Outcome:
        """Never raises: the rows before this one have moved on in their caches and must not be fed again."""
        try:
            return _drawn(self, [feed])[0]
        except OutOfMemory:
            return Outcome(error=Error("out_of_memory", "The device has no memory left for this answer."))
        except Exception as error:
            log.exception("the row in slot %d fails", feed.slot)
            return Outcome(error=Error("engine_error", f"The model failed on this answer: {error}"))

    @torch.inference_mode()
    def _one(self, feed: Feed) -> Tensor:
        if feed.start == 0:
            self._caches[feed.slot] = DynamicCache(config=self.model.config)
        self._riders.set([feed.adapter], self.model.device)
        ids = torch.tensor([list(feed.tokens)], device=self.model.device)
        out = self.model(input_ids=ids, use_cache=True, **{self._name: self._caches[feed.slot]})
        self._caches[feed.slot] = getattr(out, self._name)
        return out.logits[0, -1]


def describe_device(device: torch.device) -> str:
    """A name for people: `cpu`, `mps`, or the name of the card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@torch.inference_mode()
def _drawn(runner: TorchRunner, feeds: Sequence[Feed]) -> list[Outcome]:
    """Forward `feeds` and draw a token for each that wants one. Raises OutOfMemory."""
    try:
        logits = runner.logits(feeds)
        wanted = [i for i, feed in enumerate(feeds) if feed.draw is not None]
        outcomes = [Outcome()] * len(feeds)
        if wanted:
            draws = [feed.draw for feed in feeds if feed.draw is not None]
            chosen = choose(logits if len(wanted) == len(feeds) else logits[wanted], draws)
            for i, outcome in zip(wanted, chosen, strict=True):
                outcomes[i] = outcome
        return outcomes
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        # The allocator for the CPU has no exception type of its own.
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise OutOfMemory(str(error)) from error
        raise


def _takes(model: nn.Module, *names: str) -> bool:
    parameters = inspect.signature(model.forward).parameters
    return all(name in parameters for name in names)
