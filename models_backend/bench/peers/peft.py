"""PEFT's own way to answer with several adapters in one batch: `adapter_names`, a name for each row."""

from collections.abc import Sequence
from typing import Any

import peft

from models_backend.bench.contestant import Jobs

from . import reference
from .generate import timed


def jobs(options: dict[str, Any]) -> Jobs:
    """`adapter` is the folder of the one that is loaded."""
    model, tokenizer = reference.load(options["model"])
    mixed = peft.PeftModel.from_pretrained(model, options["adapter"]).eval()
    names = ["__base__", "default"]

    def answer(rows: Sequence[int], texts: Sequence[str], tokens: int) -> dict[str, Any]:
        batch = reference.ids(tokenizer, texts[0], len(rows), model.device)
        return timed(mixed, tokenizer, batch, tokens, adapter_names=[names[row] for row in rows])

    return {"answer": answer}
