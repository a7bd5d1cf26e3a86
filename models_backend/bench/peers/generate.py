"""transformers `generate()`, as a server would call it: in a thread, one row with a streamer, more rows as a batch."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TextIteratorStreamer

from models_backend.bench.contestant import Jobs

from . import reference


def jobs(options: dict[str, Any]) -> Jobs:
    model, tokenizer = reference.load(options["model"])

    def answer(rows: int, texts: Sequence[str], tokens: int) -> dict[str, Any]:
        batch = reference.ids(tokenizer, texts[0], rows, model.device)
        return timed(model, tokenizer, batch, tokens)

    return {"answer": answer}


def timed(model: Any, tokenizer: Any, batch: torch.Tensor, tokens: int, **options: Any) -> dict[str, Any]:
    """Answer `batch` [rows, prompt] greedily; the times of its steps count for each row."""
    clock: Any = _Streamer(tokenizer) if batch.shape[0] == 1 else _Steps()
    ear = {"streamer": clock} if batch.shape[0] == 1 else {"logits_processor": [clock]}
    began = time.monotonic()
    work = threading.Thread(
        target=model.generate,
        kwargs={
            "input_ids": batch,
            "attention_mask": torch.ones_like(batch),
            "do_sample": False,
            "max_new_tokens": tokens,
            **ear,
            **options,
        },
    )
    work.start()
    work.join()
    return {"began": began, "streams": [clock.times] * batch.shape[0]}


class _Streamer(TextIteratorStreamer):
    """Notes when each token has become text."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=True)
        self.times: list[float] = []
        self._prompt = True

    def put(self, value: Any) -> None:
        super().put(value)
        if not self._prompt:
            self.times.append(time.monotonic())
        self._prompt = False


class _Steps:
    """A logits processor that changes nothing: generate() calls it once a step, and streamers take one row only."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.times.append(time.monotonic())
        return scores
