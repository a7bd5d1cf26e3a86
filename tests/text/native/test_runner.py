"""The compiled step: it says what transformers says, and a row has the same bits whatever lies beside it."""

import itertools
import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from models_backend.text.contract import EngineError, Feed, Score

from . import models

IDS = [(i * 37 + 11) % models.VOCABULARY for i in range(70)]
OTHER = [(i * 53 + 5) % models.VOCABULARY for i in range(40)]


def row(slot: int, ids: list[int], start: int = 0, wanted: int | None = None, adapter: str | None = None) -> Feed:
    """Asks for the logits behind the last `wanted` ids, all of them if it is not given."""
    return Feed(slot, adapter, start, ids, None, score=Score([0] * (len(ids) if wanted is None else wanted), 0))


@pytest.fixture(scope="module")
def llama() -> Any:
    return models.model("llama")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"num_key_value_heads": 6}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("mistral", {"sliding_window": 20}),
    ],
    ids=["llama", "tied", "biases", "no groups", "yarn", "qwen2", "qwen3", "window"],
)
def test_it_says_what_transformers_says(kind: str, options: dict[str, Any]) -> None:
    made = models.model(kind, **options)
    models.near(models.runner(made).logits([row(0, IDS)]), models.said(made, IDS))


def test_a_row_has_the_same_bits_alone_in_a_batch_in_a_prompt_and_one_by_one(llama: Any) -> None:
    runner = models.runner(llama)
    whole = runner.logits([row(0, IDS)])
    steps = [runner.logits([row(1, [id_], place)]) for place, id_ in enumerate(IDS)]
    assert torch.equal(torch.cat(steps), whole)
    runner.logits([row(2, IDS[:30], wanted=0), row(3, OTHER[:9], wanted=0)])
    mixed = runner.logits([row(3, OTHER[9:20], 9), row(2, IDS[30:50], 30), row(4, OTHER)])
    assert torch.equal(mixed[11:31], whole[30:50])
    assert torch.equal(mixed[31:], runner.logits([row(5, OTHER)]))


def test_passes_longer_than_the_room_are_run_in_parts(llama: Any) -> None:
    runner = models.runner(llama)
    feeds = [row(slot, IDS) for slot in range(5)]  # 350 rows
    assert torch.equal(runner.logits(feeds)[280:], runner.logits([row(0, IDS)]))


def test_several_threads_give_the_bits_of_one(llama: Any) -> None:
    one, three = models.runner(llama), models.runner(llama, threads=3)
    for feeds in ([row(0, IDS)], [row(0, OTHER, 0), row(1, IDS)], [row(1, [7], 70)]):
        assert torch.equal(one.logits(feeds), three.logits(feeds))
    three.use_threads(2)
    assert torch.equal(one.logits([row(2, IDS)]), three.logits([row(2, IDS)]))


def test_a_slot_that_had_another_row_keeps_nothing_of_it(llama: Any) -> None:
    runner = models.runner(llama)
    fresh = runner.logits([row(0, OTHER)])
    runner.logits([row(1, IDS)])
    runner.release(1)
    assert torch.equal(runner.logits([row(1, OTHER)]), fresh)


def test_a_copied_slot_goes_on_as_its_source_would(llama: Any) -> None:
    runner = models.runner(llama)
    whole = runner.logits([row(0, IDS)])
    runner.copy(0, 4, 33)
    assert torch.equal(runner.logits([row(4, IDS[33:], 33)]), whole[33:])


def test_a_probe_leaves_all_rows_alone(llama: Any) -> None:
    runner = models.runner(llama)
    whole = runner.logits([row(0, IDS)])
    runner.logits([row(1, IDS[:40])])
    assert torch.equal(runner.probe([row(1, OTHER), row(9, IDS)])[40:], whole)
    assert torch.equal(runner.logits([row(1, IDS[40:], 40)]), whole[40:])


def test_nothing_wanted_is_nothing_given(llama: Any) -> None:
    assert models.runner(llama).logits([row(0, IDS, wanted=0)]).shape == (0, models.VOCABULARY)


@pytest.mark.parametrize("ids", [[models.VOCABULARY], [-1], [0] * (models.CONTEXT + 1)], ids=["high", "low", "long"])
def test_ids_and_positions_outside_are_refused(llama: Any, ids: list[int]) -> None:
    with pytest.raises(IndexError):
        models.runner(llama).logits([row(0, ids)])


def test_an_unknown_adapter_is_refused_and_never_answers_as_the_base(llama: Any) -> None:
    with pytest.raises(EngineError, match="ft:tiny:nobody"):
        models.runner(llama).logits([row(0, IDS, adapter="ft:tiny:nobody")])


def test_memory_bounds_slots_first_and_then_the_context(llama: Any) -> None:
    per_token = 2 * 2 * 2 * 2 * 16  # keys and values, two bytes, two layers, two heads of 16
    some = models.runner(llama, slots=64, memory=per_token * models.CONTEXT * 10)
    assert (some.slots, some.cache_slots, some.context) == (6, 0, models.CONTEXT)
    few = models.runner(llama, slots=4, memory=per_token * 5 * 80)
    assert (few.slots, few.context) == (1, 80)


def test_numbers_that_are_none_stay_in_their_row(llama: Any) -> None:
    made = models.model("llama")
    with torch.no_grad():
        made.model.layers[0].input_layernorm.weight[3] = torch.inf
    runner = models.runner(made)
    assert not torch.isfinite(runner.logits([row(0, IDS[:5])])).any()
    sound = models.runner(llama)
    expected = sound.logits([row(0, OTHER)])
    sound._room.keys[1], sound._room.values[1] = 0x7E00, 0x7E00  # float16 NaN, as such a row leaves it
    assert torch.equal(sound.logits([row(1, OTHER)]), expected)


def test_precision_is_told(llama: Any) -> None:
    assert models.runner(llama).precision == "8-bit"


def test_every_order_of_feeds_gives_each_row_the_same(llama: Any) -> None:
    runner = models.runner(llama)
    parts = {0: IDS[:20], 1: OTHER[:7], 2: IDS[30:61]}
    expected = {slot: runner.logits([row(slot, ids)]) for slot, ids in parts.items()}
    for order in itertools.permutations(parts):
        found = runner.logits([row(slot, parts[slot]) for slot in order])
        for slot, logits in zip(order, found.split([len(parts[slot]) for slot in order]), strict=True):
            assert torch.equal(logits, expected[slot])


def test_memory_for_keys_and_values_is_taken_as_rows_grow() -> None:
    """A slot's whole context is promised, and only what a row has written is taken."""
    made = models.model("llama")
    made.config.max_position_embeddings = 1 << 16
    runner = models.runner(made, slots=16, context=1 << 16)
    before = resident()
    runner.logits([row(0, IDS), row(15, IDS)])
    assert runner.slots == 16
    assert resident() - before < 8 << 20  # a slot of that context is 16 MiB


def resident() -> int:
    """Bytes of this process that lie in memory."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not tell")
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
