import random

import pytest

from models_backend.training.batches import IGNORE, Example, collate, encode, epoch
from models_backend.training.rows import BadRow, chat
from tests.training.tiny import tokenizer


def test_only_the_last_answer_and_its_end_token_carry_labels() -> None:
    tok = tokenizer()
    row = chat("hello", "yes", "be brief")
    row["messages"][1:1] = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "earlier answer"}]
    batch = collate(encode([row], tok, 500), tok.pad_token_id)
    labelled = batch.labels[0][batch.labels[0] != IGNORE]
    assert tok.decode(labelled) == "yes</s>"
    assert (batch.labels[0] == IGNORE).sum() == len(batch.ids[0]) - 4


def test_prompt_ids_are_the_ones_the_model_sees_when_it_answers() -> None:
    tok = tokenizer()
    row = chat("hello", "yes")
    [example] = encode([row], tok, 500)
    prompt = tok.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, return_dict=False)
    assert example.ids[: -example.answer] == prompt


def test_rows_of_a_batch_end_together_and_padding_is_neither_seen_nor_labelled() -> None:
    batch = collate([Example([1, 2, 3, 4, 5], 2), Example([6, 7, 8], 1)], pad=0)
    assert batch.ids.tolist() == [[1, 2, 3, 4, 5], [0, 0, 6, 7, 8]]
    assert batch.mask.tolist() == [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]]
    assert batch.labels.tolist() == [[IGNORE] * 3 + [4, 5], [IGNORE] * 4 + [8]]
    assert batch.keep == 3  # the position before the longest answer predicts its first token


def test_an_epoch_holds_every_row_once_in_batches_of_like_length() -> None:
    examples = [Example([number] * (1 + number % 50), 1) for number in range(203)]
    batches = list(epoch(examples, 8, 0, random.Random(1)))
    seen = sorted(int(row[-1]) for batch in batches for row in batch.ids)
    assert seen == list(range(203))
    padding = sum(int((batch.mask == 0).sum()) for batch in batches)
    assert padding < 0.1 * sum(len(example.ids) for example in examples)


def test_the_order_of_an_epoch_depends_on_the_dice_alone() -> None:
    examples = [Example([number], 1) for number in range(64)]

    def order(seed: int) -> list[list[list[int]]]:
        return [batch.ids.tolist() for batch in epoch(examples, 4, 0, random.Random(seed))]

    assert order(1) == order(1) != order(2)


def test_a_row_longer_than_allowed_is_refused_not_cut() -> None:
    with pytest.raises(BadRow, match=r"row 2: .* the recipe allows 40"):
        encode([chat("a", "b"), chat("a" * 100, "b")], tokenizer(), 40)


def test_a_template_that_does_not_end_answers_is_refused() -> None:
    tok = tokenizer()
    tok.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(BadRow, match="does not end an answer"):
        encode([chat("a", "b")], tok, 40)
