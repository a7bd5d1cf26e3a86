"""A model as transformers has it, and the runner that suits it: found by a test, never by a list of names."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from . import proof
from .contract import EngineError, Note
from .lora import Riders
from .module_runner import SlotRunner, SoloRunner
from .narrow import narrow
from .runner import TorchRunner

log = logging.getLogger(__name__)

CPU_CHUNK = 128  # ids of prompts in one pass beside running rows: about a fifth of a second on two cores
GPU_CHUNK = 512


def open_runner(
    folder: Path, device: torch.device, dtype: torch.dtype, slots: int, cap: int, memory: int, note: Note
) -> TorchRunner:
    """A runner over the modules of the model in `folder`.

    `cap` bounds the context (tokens), `memory` (bytes) is for keys and values. Raises EngineError.
    """
    model = _open_model(folder, device, dtype)
    note("Testing the model")
    narrow(model)
    runner = pick_runner(model, Riders(), slots, longest(model.config, cap))
    if isinstance(runner, SlotRunner):
        runner.fit(memory)
    return runner


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


def _open_model(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    return model.to(device).eval().requires_grad_(False)
