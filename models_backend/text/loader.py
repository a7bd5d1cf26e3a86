"""From folders to a Backend: weights, tokenizer, adapters, and the evidence that they are what they say.

Safetensors only, from this disk only, without code from strangers. A base that fails raises; an adapter that fails is
refused alone, and the base and the others serve.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from models_backend.config import Settings
from models_backend.protocol.runs import Completion
from models_backend.registry import Entry

from . import proof
from .catalogue import Catalogue
from .contract import Backend, EngineError, Note
from .dialect import TokenizerDialect
from .lora import Riders
from .narrow import narrow
from .runner import SlotRunner, SoloRunner, TorchRunner
from .shelf import MIB, Shelf

log = logging.getLogger(__name__)

CPU_CHUNK = 128  # ids of prompts in one pass beside running rows: about a fifth of a second on two cores
GPU_CHUNK = 512
MEMORY_SHARE = 0.5  # of what is free after the weights, for keys and values


def load(base: Entry, tuned: Sequence[Entry] | Catalogue, settings: Settings, note: Note) -> Backend:
    """`tuned` are the models on this base; a Catalogue may come to have others.

    Raises EngineError: `load_failed`, `unsupported_architecture`.
    """
    catalogue = tuned if isinstance(tuned, Catalogue) else Catalogue(base, tuned)
    if base.folder is None:
        raise EngineError("not_installed", f"{base.id} is not on this machine: python -m models_backend pull {base.id}")
    device = pick_device(settings.device)
    note(f"Loading {base.id} on {device}")
    transformers_logging.disable_progress_bar()  # the worker has its own words for it
    try:
        dialect = _open_dialect(base.folder)
        runner = _open_runner(base.folder, dialect, device, settings, note)
    except EngineError:
        raise
    except Exception as error:
        raise EngineError("load_failed", f"{base.id} cannot be loaded from {base.folder}: {error}") from error
    shelf = Shelf(runner, catalogue, settings.adapter_memory * MIB)
    shelf.fill(note)
    return Backend(dialect, runner, adapters=shelf)


def _open_runner(
    folder: Path, dialect: TokenizerDialect, device: torch.device, settings: Settings, note: Note
) -> TorchRunner:
    """The compiled step over packed weights where it serves this model on this CPU, else transformers' modules."""
    if device.type == "cpu" and settings.precision == "auto":
        from . import native  # brings a compiler with it, which nobody else needs

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        context, memory = longest(config, settings.context), int(_free_memory(device) * MEMORY_SHARE)
        text = lambda words: dialect.encode(Completion(words))  # noqa: E731
        runner = native.open_runner(folder, config, text, settings.slots, context, memory, settings.threads, note)
        if runner is not None:
            return runner
    model = _open_model(folder, device)
    note("Testing the model")
    narrow(model)
    plain = pick_runner(model, Riders(), settings.slots, longest(model.config, settings.context))
    if isinstance(plain, SlotRunner):
        plain.fit(int(_free_memory(device) * MEMORY_SHARE))
    return plain


def pick_device(wanted: str) -> torch.device:
    """`auto` is CUDA, else Apple's GPU, else the CPU. Raises EngineError for one that is not there."""
    if wanted == "auto":
        mps = torch.backends.mps.is_available()
        wanted = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        message = f"There is no device {wanted}. Set DIPTYCH_DEVICE to auto or cpu. ({error})"
        raise EngineError("no_device", message) from None
    return device


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA. Else float32, exact enough that a batch gives the tokens that each row gives alone.

    bfloat16 gains nothing for a pair even on a CPU made for it (Zen 4: 36 ms against `narrow`'s 30 ms for all products
    of a step of the default model).
    """
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def pick_runner(model: Any, riders: Riders, slots: int, context: int) -> TorchRunner:
    """One batch for all rows if that gives the plain model's logits, else each row alone. Raises EngineError."""
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    expected = proof.reference(model, vocabulary)
    usual = model.config._attn_implementation
    chunk = CPU_CHUNK if model.device.type == "cpu" else GPU_CHUNK
    try:
        # Two slots at least while testing: the proof compares two rows of one pass.
        runner: TorchRunner = SlotRunner(model, riders, max(2, slots), context, chunk)
        why = proof.self_test(runner, expected, vocabulary)
    except Exception as error:
        why = str(error)
    if why is not None:
        log.warning("%s answers row by row, for it cannot share a batch: %s", type(model).__name__, why)
        model.set_attn_implementation(usual)
        runner = SoloRunner(model, riders, max(2, slots), context)
        why = proof.self_test(runner, expected, vocabulary)
    if why is not None:
        raise EngineError("unsupported_architecture", f"{type(model).__name__} does not generate as it should: {why}")
    runner.slots = slots
    return runner


def longest(config: Any, cap: int) -> int:
    """Tokens a row may reach: what the model was made for, at most `cap`."""
    text = config.get_text_config(decoder=True)
    own = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or cap
    return min(int(own), cap)


def _open_model(folder: Path, device: torch.device) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=pick_dtype(device),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    return model.to(device).eval().requires_grad_(False)


def _open_dialect(folder: Path) -> TokenizerDialect:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    ends = _ends(folder)
    return TokenizerDialect(tokenizer, ends if ends else frozenset({tokenizer.eos_token_id} - {None}))


def _ends(folder: Path) -> frozenset[int]:
    """The ids that end an answer: those of the generation config, else of the model's config, as in generate()."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            found = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            if found is not None:
                return frozenset(found if isinstance(found, list) else [found])
    return frozenset()


def _free_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 8 << 30  # macOS does not tell; memory is taken only as answers grow
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    with suppress(OSError, ValueError):  # a container's limit; "max" where there is none
        group = Path("/sys/fs/cgroup")
        limit, taken = ((group / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        free = min(free, int(limit) - int(taken))
    return max(0, free)
