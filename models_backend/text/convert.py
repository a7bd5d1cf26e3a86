"""Turns one GGUF file into a folder that transformers loads in a second: safetensors, tokenizer, template, defaults.

Done once per pull, because reading a GGUF costs about twenty seconds each time. Knows nothing about where the file
came from or where the folder will live.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models_backend.registry.errors import RefusedFormat
from models_backend.registry.progress import PHASES, Progress, Watcher
from models_backend.text.gguf_header import BadGguf, check

STEPS = ("reading the tokenizer", "unpacking the weights", "writing safetensors")  # about 5, 15 and 2 seconds


def convert(gguf: Path, folder: Path, generation: Mapping[str, Any], watch: Watcher) -> None:
    """Write the model of `gguf` into the empty `folder`. `generation` are sampling defaults a GGUF cannot carry.

    Weights are stored as float32, which holds every product of a 4-bit block (scale * number + offset) exactly. On
    SmolLM2 135M float16 holds 52 % of them and bfloat16 18 %; read back, they shift the next-token distribution by a
    mean KL of 3e-6 and 1e-4. The folder is twice as large for it, and a CPU, which computes in float32 anyway, maps
    the file as it lies.

    Raises RefusedFormat for a file that is not a sound GGUF of a language model.
    """
    try:
        header = check(gguf)
    except BadGguf as error:
        raise RefusedFormat(f"{gguf.name} is not a sound GGUF file: {error}") from None

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the watcher is told instead
    _report(watch, 0)
    place: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
        _report(watch, 1)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **place
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise RefusedFormat(
            f"{gguf.name} holds a {header.architecture} model that transformers cannot read: {error}"
        ) from error
    _report(watch, 2)
    # transformers still takes an unpacked model for a quantised one, and would refuse to save it.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer.model_max_length = model.config.max_position_embeddings
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _forget_origin(folder)


def _report(watch: Watcher, phase: int) -> None:
    watch(Progress(STEPS[phase], phase, len(STEPS), PHASES))


def _forget_origin(folder: Path) -> None:
    """The author's folder name in the GGUF says nothing to us, and Python tracebacks would show it."""
    config = folder / "config.json"
    facts = json.loads(config.read_text(encoding="utf-8"))
    facts.pop("_name_or_path", None)
    facts.pop("_model_name_or_path", None)
    config.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
