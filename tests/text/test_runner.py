"""The runners hold against transformers' generate(), alone and in company, for the usual architectures."""

import copy

import pytest
import torch

from models_backend.protocol.params import Params, Used
from models_backend.text import proof
from models_backend.text.contract import Draw, Feed, Request
from models_backend.text.defaults import NEUTRAL
from models_backend.text.kv_cache import SlotCache
from models_backend.text.lora import Riders
from models_backend.text.module_runner import SlotRunner, SoloRunner
from models_backend.text.modules import pick_runner

from . import tiny

LONG = [(i * 31) % tiny.VOCABULARY for i in range(40)]
SHORT = [7, 3, 100]
ONE_BATCH = [kind for kind in tiny.KINDS if kind not in ("bloom", "mamba")]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_greedy_equals_generate_alone_and_in_company(kind: str) -> None:
    plain = tiny.model(kind)
    expected = [tiny.generated(plain, ids) for ids in (LONG, SHORT, LONG)]
    assert len(set(expected[0])) > 3  # not one token repeated, which any cache would get right
    ready = tiny.engine(copy.deepcopy(plain))
    assert [tiny.answer(ready, tiny.ask(tiny.prompt(*ids)))[0].ids for ids in (LONG, SHORT)] == expected[:2]
    together = tiny.answer(ready, *(tiny.ask(tiny.prompt(*ids), lane) for lane, ids in enumerate((LONG, SHORT, LONG))))
    assert [heard.ids for heard in together] == expected


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_runner_is_chosen_by_what_the_model_can_do(kind: str) -> None:
    runner = pick_runner(tiny.model(kind), Riders(), 4, tiny.CONTEXT)
    assert type(runner) is (SlotRunner if kind in ONE_BATCH else SoloRunner)


def test_a_model_whose_cache_is_misread_is_not_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(self: SlotCache, *rest: object) -> torch.Tensor:
        return self._offset + 1

    monkeypatch.setattr(SlotCache, "get_query_offset", shifted)  # each row may look one position into the future
    assert type(pick_runner(tiny.model("llama"), Riders(), 4, tiny.CONTEXT)) is SoloRunner


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "mamba"])
def test_a_row_answers_the_same_whoever_joins_and_leaves_beside_it(kind: str) -> None:
    made = tiny.model(kind)
    alone = tiny.answer(
        tiny.engine(copy.deepcopy(made)),
        tiny.ask(tiny.prompt(*LONG), params=Params(temperature=1, seed=3, max_tokens=30)),
    )
    ready = tiny.engine(made)
    heard: dict[tuple[str, int], tiny.Heard] = {}
    ready.submit(tiny.ask(tiny.prompt(*LONG), params=Params(temperature=1, seed=3, max_tokens=30)))
    for lane in range(1, 6):
        ready.submit(tiny.ask(tiny.prompt(*range(lane, 12 * lane)), lane, params=Params(max_tokens=4 + lane)))
        for _ in range(3):
            tiny.listen(heard, ready.step())
        ready.stop("r", lane - 1 if lane > 1 else 99)
    while ready.busy:
        tiny.listen(heard, ready.step())
    assert heard["r", 0].ids == alone[0].ids


def test_chunks_of_a_prompt_give_the_logits_of_the_whole() -> None:
    ids = [(i * 17) % tiny.VOCABULARY for i in range(60)]
    runner = pick_runner(tiny.model("mistral"), Riders(), 4, tiny.CONTEXT)
    whole = runner.logits([proof.ask(0, None, 0, ids)])[0]
    for start in range(0, 60, 7):
        pieces = runner.logits([proof.ask(1, None, start, ids[start : start + 7])])[0]
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)


def test_slots_that_lie_apart_are_read_like_slots_side_by_side() -> None:
    runner = pick_runner(tiny.model(), Riders(), 8, tiny.CONTEXT)
    beside = runner.logits([proof.ask(slot, None, 0, LONG) for slot in (0, 1, 2)])
    apart = runner.logits([proof.ask(slot, None, 0, LONG) for slot in (1, 4, 6)])
    assert torch.equal(beside, apart)


def test_memory_grows_with_use_and_stays_within_slots_and_context() -> None:
    runner = pick_runner(tiny.model(), Riders(), 8, tiny.CONTEXT)
    assert isinstance(runner, SlotRunner)
    before = runner.cache._room
    runner.logits([Feed(7, None, 0, list(range(190)), None)])
    assert before == (2, 64)
    assert runner.cache._room == (8, 192)


def test_little_memory_means_fewer_slots_then_a_shorter_context() -> None:
    runner = pick_runner(tiny.model(), Riders(), 8, tiny.CONTEXT)
    assert isinstance(runner, SlotRunner)
    token = runner.cache.bytes_per_token
    assert token == 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, size, bytes
    runner.fit(token * tiny.CONTEXT * 3)
    assert (runner.slots, runner.context) == (3, tiny.CONTEXT)
    runner.fit(token * 100)
    assert (runner.slots, runner.context) == (1, 100)


def test_a_row_that_spoilt_its_slot_leaves_nothing_to_the_next_one() -> None:
    made = tiny.model()
    expected = tiny.generated(made, SHORT)
    ready = tiny.engine(made, slots=1)
    table = made.get_input_embeddings().weight
    sound = table[200].clone()
    table[200] = float("nan")
    failed, after = tiny.answer(ready, tiny.ask(tiny.prompt(*[200] * 30), 0), tiny.ask(tiny.prompt(*SHORT), 1))
    table[200] = sound
    assert failed.end.error.code == "invalid_logits"  # type: ignore[union-attr]
    assert after.ids == expected


def test_a_row_stopped_while_it_spoilt_its_slot_leaves_nothing_to_the_next_one() -> None:
    made = tiny.model()
    runner = pick_runner(made, Riders(), 1, tiny.CONTEXT)
    asked = Feed(0, None, 0, SHORT, Draw(Used(**{**NEUTRAL, "temperature": 0.0, "seed": 1}), SHORT, []))
    expected = runner.forward([asked])[0].token
    table = made.get_input_embeddings().weight
    sound = table[200].clone()
    table[200] = float("nan")
    runner.forward([Feed(0, None, 0, [200] * 30, None)])  # part of a prompt: nobody has looked at its numbers
    runner.release(0)
    table[200] = sound
    assert expected is not None and runner.forward([asked])[0].token == expected


def test_a_row_that_fails_in_a_pass_of_its_own_does_not_move_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.model("mamba")
    expected = tiny.generated(made, SHORT)
    one = SoloRunner._one

    def sometimes(self: SoloRunner, feed: Feed) -> torch.Tensor:
        if feed.slot == 1 and feed.start > 0:
            raise ValueError("a broken kernel")
        return one(self, feed)

    ready = tiny.engine(made)
    monkeypatch.setattr(SoloRunner, "_one", sometimes)
    heard = tiny.answer(ready, *(tiny.ask(tiny.prompt(*SHORT), lane) for lane in range(3)))
    assert [heard[0].ids, heard[2].ids] == [expected, expected]
    assert "a broken kernel" in heard[1].end.error.message  # type: ignore[union-attr]


def test_a_row_with_broken_numbers_fails_alone() -> None:
    made = tiny.model()
    expected = tiny.generated(made, SHORT)
    made.get_input_embeddings().weight[200] = float("nan")
    good, bad = tiny.answer(tiny.engine(made), tiny.ask(tiny.prompt(*SHORT), 0), tiny.ask(tiny.prompt(1, 200), 1))
    assert good.ids == expected
    assert bad.end.error.code == "invalid_logits"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mamba"])
def test_going_on_at_any_token_gives_the_unbroken_answer(kind: str) -> None:
    params = Params(temperature=1.0, top_p=0.95, repetition_penalty=1.1, seed=4, max_tokens=10)
    ready = tiny.engine(tiny.model(kind))
    [whole] = tiny.answer(ready, tiny.ask(tiny.prompt(*LONG), params=params))
    for cut in range(11):
        request = Request("r", 0, tiny.BASE, tiny.prompt(*LONG), params, 1, 2, tuple(whole.ids[:cut]))
        [rest] = tiny.answer(ready, request)
        assert whole.ids[:cut] + rest.ids == whole.ids
