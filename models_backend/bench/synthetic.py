"""Llama shapes with random weights, for machines where no weights of that size are at hand: speed does not read them.

The folder is whole, so it is loaded as any other: weights, a tokenizer of the words of the prompts, and a note.
"""

import re
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from models_backend.bench.contestant import Jobs
from models_backend.bench.texts import story

# hidden, layers, heads, key-value heads, intermediate, vocabulary, whether the head is the input table
SHAPES = {
    "tiny": (64, 2, 4, 2, 96, 512, True),
    "1b": (2048, 16, 32, 8, 8192, 128_256, True),
    "8b": (4096, 32, 32, 8, 14_336, 128_256, False),
}
STORIES = 200  # their words are the tokenizer's


def name_of(shape: str) -> str:
    return f"random-llama-{shape}"


def jobs(options: dict[str, Any]) -> Jobs:
    from models_backend.config import Settings
    from models_backend.text.loader import pick_device, pick_dtype

    device = pick_device(Settings().device)
    if device.type != "cuda" and options["shape"] != "tiny":
        raise ValueError(f"the shape {options['shape']} is for GPUs")
    dtype = str(pick_dtype(device)).removeprefix("torch.")
    return {"write": lambda: str(write(options["shape"], Path(options["home"]), dtype, str(device)))}


def write(shape: str, home: Path, dtype: str, device: str = "cpu", seed: int = 1) -> Path:
    """Make the model and put it into the registry of `home`. Returns its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from models_backend.registry import manifest, store

    hidden, layers, heads, shared, intermediate, vocabulary, tied = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        intermediate_size=intermediate,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    folder = store.root(home) / name_of(shape)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(), unk_token="[UNK]").save_pretrained(folder)  # noqa: S106
    note = manifest.Manifest(
        id=name_of(shape), source="made by the bench", source_sha256=None, title=name_of(shape), description="",
        licence="", context=8192, created=datetime.now(UTC).isoformat(timespec="seconds"), files={},
    )  # fmt: skip
    manifest.write(folder, note)
    return folder


def tokenizer() -> Any:
    """Whole words and single digits, so that prompts of different numbers begin differently."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = chain.from_iterable(re.findall(r"[^\W\d]+|[^\w\s]", story(number, 400)) for number in range(STORIES))
    known = ["[UNK]", *"0123456789", *sorted(set(words))]
    made = Tokenizer(models.WordLevel({word: id for id, word in enumerate(known)}, unk_token="[UNK]"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.Whitespace()])
    return made
