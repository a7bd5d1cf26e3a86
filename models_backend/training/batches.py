"""From rows to batches: ids by the model's own chat template, labels on the answer only, like lengths together.

Knows tokenizers and lengths; knows nothing about weights or learning.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models_backend.training.rows import BadRow, Row, prompt

IGNORE = -100  # the label that torch's cross entropy skips
BUCKET = 16  # batches' worth of rows that are sorted by length together: little padding, still shuffled


@dataclass(frozen=True, slots=True)
class Example:
    """One row as token ids: all of them, and how many at the end are the answer (with its end token)."""

    ids: list[int]
    answer: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Left-padded tensors of shape [rows, tokens], and `keep`: the last positions that hold every label.

    Padding goes left so that all answers end at the right edge, and the large output layer is computed for
    `keep` positions instead of all.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    keep: int


def encode(rows: Sequence[Row], tokenizer: Any, max_tokens: int) -> list[Example]:
    """Token ids of each row. Raises BadRow for a row longer than max_tokens, or one that the template cannot end."""
    examples = []
    for number, row in enumerate(rows, 1):
        # Prompt and answer are tokenised apart, as they are when the model answers: the prompt's ids never
        # depend on the answer's first letters.
        start = tokenizer.apply_chat_template(prompt(row), tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        end = whole.rfind(tokenizer.eos_token)
        if not whole.startswith(start) or end < len(start):
            raise BadRow(f"row {number}: the chat template of this model does not end an answer with its end token.")
        answer = tokenizer.encode(whole[len(start) : end + len(tokenizer.eos_token)], add_special_tokens=False)
        ids = tokenizer.encode(start, add_special_tokens=False) + answer
        if len(ids) > max_tokens:
            raise BadRow(f"row {number}: {len(ids)} tokens, but the recipe allows {max_tokens}.")
        examples.append(Example(ids, len(answer)))
    return examples


def collate(examples: Sequence[Example], pad: int) -> Batch:
    width = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), width), pad)
    mask = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORE)
    for row, example in enumerate(examples):
        ids[row, width - len(example.ids) :] = torch.tensor(example.ids)
        mask[row, width - len(example.ids) :] = 1
        labels[row, width - example.answer :] = torch.tensor(example.ids[-example.answer :])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return Batch(ids, mask, positions, labels, keep=max(example.answer for example in examples) + 1)


def epoch(examples: Sequence[Example], rows: int, pad: int, dice: random.Random) -> Iterator[Batch]:
    """All examples once, in batches of like length, in an order that `dice` decides."""
    order = dice.sample(range(len(examples)), len(examples))
    batches: list[list[int]] = []
    for start in range(0, len(order), rows * BUCKET):
        bucket = sorted(order[start : start + rows * BUCKET], key=lambda index: len(examples[index].ids))
        batches += [bucket[first : first + rows] for first in range(0, len(bucket), rows)]
    dice.shuffle(batches)
    for batch in batches:
        yield collate([examples[index] for index in batch], pad)
