"""Answers held-out rows greedily with the base and with base + adapter, and counts the right ones.

Knows how to ask a model in batches and which measure a recipe names; knows nothing about training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from models_backend.training import pirate, tickets
from models_backend.training.lora import load
from models_backend.training.recipe import Recipe
from models_backend.training.rows import Row, answer, prompt

Measure = Callable[[str, str], bool]
MEASURES: Mapping[str, Measure] = {"exact_match": tickets.matches, "pirate_speech": pirate.matches}
BATCH = 40


@dataclass(frozen=True, slots=True)
class Report:
    """Shares of right answers, from 0 to 1, and the answers themselves in the order of the rows."""

    measure: str
    tuned: float
    base: float
    tuned_answers: list[str]
    base_answers: list[str]


def evaluate(recipe: Recipe, rows: Sequence[Row], base: Path, adapter: Path, on_rows: Callable[[int], None]) -> Report:
    """Measure the stored adapter and its base on rows. `on_rows` hears after each batch how many rows were answered."""
    measure = MEASURES[recipe.measure]
    plain, tokenizer = load(base)
    model = PeftModel.from_pretrained(plain, adapter, autocast_adapter_dtype=True).eval()
    tuned = answers(model, tokenizer, rows, recipe.answer_tokens, on_rows)
    with model.disable_adapter():
        untuned = answers(model, tokenizer, rows, recipe.answer_tokens, on_rows)

    def share(said: Sequence[str]) -> float:
        return sum(measure(text, answer(row)) for text, row in zip(said, rows, strict=True)) / len(rows)

    return Report(recipe.measure, share(tuned), share(untuned), tuned, untuned)


@torch.inference_mode()
def answers(
    model: Any, tokenizer: Any, rows: Sequence[Row], limit: int, on_rows: Callable[[int], None] = lambda count: None
) -> list[str]:
    """The greedy answer of each row's prompt, at most `limit` tokens, in the order of the rows."""
    prompts = [tokenizer.apply_chat_template(prompt(row), tokenize=False, add_generation_prompt=True) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: len(prompts[index]))
    said: dict[int, str] = {}
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        ids = tokenizer(
            [prompts[index] for index in batch],
            return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False,
        ).to(model.device)  # fmt: skip
        out = model.generate(
            **ids, max_new_tokens=limit, do_sample=False, temperature=None, top_p=None, top_k=None,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        texts = tokenizer.batch_decode(out[:, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        said |= dict(zip(batch, texts, strict=True))
        on_rows(len(batch))
    return [said[index] for index in range(len(rows))]
