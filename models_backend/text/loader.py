"""From folders to a Backend: weights, tokenizer, adapters, and the evidence that they are what they say.

Safetensors only, from this disk only, without code from strangers. A base that fails raises; an adapter that fails is
refused alone, and the base and the others serve.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from models_backend.config import Settings
from models_backend.registry import Entry

from . import proof
from .adapter_file import AdapterFile
from .adapter_weights import read
from .contract import Backend, EngineError, Note
from .dialect import TokenizerDialect
from .lora import Riders
from .narrow import narrow
from .runner import SlotRunner, SoloRunner, TorchRunner

log = logging.getLogger(__name__)

CPU_CHUNK = 128  # ids of prompts in one pass beside running rows: about a fifth of a second on two cores
GPU_CHUNK = 512
MEMORY_SHARE = 0.5  # of what is free after the weights, for keys and values


def load(base: Entry, tuned: list[Entry], settings: Settings, note: Note) -> Backend:
    """Raises EngineError: `load_failed`, `unsupported_architecture`."""
    if base.folder is None:
        raise EngineError("not_installed", f"{base.id} is not on this machine: python -m models_backend pull {base.id}")
    device = pick_device(settings.device)
    note(f"Loading {base.id} on {device}")
    transformers_logging.disable_progress_bar()  # the worker has its own words for it
    try:
        model, dialect = _open(base.folder, device)
    except EngineError:
        raise
    except Exception as error:
        raise EngineError("load_failed", f"{base.id} cannot be loaded from {base.folder}: {error}") from error
    note(f"Testing {base.id}")
    riders = Riders()
    narrow(model)
    runner = pick_runner(model, riders, settings.slots, longest(model.config, settings.context))
    if isinstance(runner, SlotRunner):
        runner.fit(int(_free_memory(model.device) * MEMORY_SHARE))
    backend = Backend(dialect, runner)
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    plain = proof.mixed_pass(runner, None, vocabulary) if tuned else None
    for entry in tuned:
        note(f"Proving {entry.id}")
        _adapt(backend, entry, plain, vocabulary)
    return backend


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


def _open(folder: Path, device: torch.device) -> tuple[Any, TokenizerDialect]:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=pick_dtype(device),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    model = model.to(device).eval().requires_grad_(False)
    eos = model.generation_config.eos_token_id
    if eos is None:
        eos = tokenizer.eos_token_id
    ends = frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos])
    return model, TokenizerDialect(tokenizer, ends)


def _adapt(backend: Backend, entry: Entry, plain: torch.Tensor | None, vocabulary: int) -> None:
    assert entry.adapter is not None and plain is not None
    runner: Any = backend.runner
    try:
        weights = read(entry.id, AdapterFile.read(entry.adapter))
        if entry.sha256 is not None and weights.sha256 != entry.sha256:
            raise EngineError("adapter_refused", "The adapter's weights are not those that its card names (sha256).")
        runner.attach(runner.prepare(weights))
        found = proof.prove(runner, plain, entry.id, weights.sha256, vocabulary)
        backend.proofs[entry.id] = found
        if found.state != "proven":
            raise EngineError("proof_failed", f"{entry.id} could not be proven to differ from its base: {found.detail}")
    except EngineError as error:
        runner.detach(entry.id)
        backend.refused[entry.id] = error
        log.warning("%s is not served: %s", entry.id, error.message)


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
