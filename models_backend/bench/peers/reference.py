"""The plain transformers model of a base, which several peers stand on."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from models_backend import registry
from models_backend.config import Settings
from models_backend.text.loader import pick_device, pick_dtype


def load(model: str) -> tuple[Any, Any]:
    """(model, tokenizer): float32 on a CPU, bfloat16 on a GPU, never ending by itself."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    settings = Settings()
    folder = registry.find(model, settings.home).folder
    device = pick_device(settings.device)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=pick_dtype(device), local_files_only=True, trust_remote_code=False
    )
    loaded = loaded.to(device).eval().requires_grad_(False)
    # A case has as many tokens as it is told; a pad id keeps generate() from warning in each round.
    loaded.generation_config.eos_token_id = None
    loaded.generation_config.pad_token_id = 0
    return loaded, AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def ids(tokenizer: Any, text: str, rows: int, device: torch.device) -> torch.Tensor:
    """[rows, tokens], the same text in each row: no padding, which is the best case for a plain batch."""
    return torch.tensor([tokenizer(text).input_ids], device=device).expand(rows, -1)
