"""Slots that are kept, copied and begun in the middle hold what computing would have put there."""

import copy

import pytest
import torch

from models_backend.protocol.events import LaneDone
from models_backend.protocol.params import Params
from models_backend.text.contract import Draw, Feed
from models_backend.text.defaults import resolve
from models_backend.text.kv_cache import BLOCK, SlotCache
from models_backend.text.lora import Riders
from models_backend.text.modules import pick_runner

from . import tiny

IDS = [(i * 31) % tiny.VOCABULARY for i in range(70)]
KINDS = ["llama", "mistral", "gemma2", "gpt2"]


def runner(kind: str = "llama"):
    return pick_runner(tiny.model(kind), Riders(), 4, tiny.CONTEXT)


def draw() -> Draw:
    return Draw(resolve(Params(temperature=0.0), {}, 0, 10), IDS, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_copied_beginning_gives_the_very_bits_that_computing_it_gives(kind: str) -> None:
    ready = runner(kind)
    ready.logits([Feed(0, None, 0, IDS[:50], None)])
    ready.logits([Feed(2, None, 0, IDS[:50], None)])
    ready.copy(0, 1, 50)
    rest = [Feed(slot, None, 50, IDS[50:], draw()) for slot in (0, 1, 2)]
    computed = [ready.logits([feed])[0] for feed in rest]
    assert torch.equal(computed[0], computed[1])
    assert torch.equal(computed[0], computed[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_is_begun_in_the_middle_of_what_another_row_left_there(kind: str) -> None:
    ready = runner(kind)
    fresh = runner(kind)
    ready.logits([Feed(0, None, 0, IDS, None)])
    other = [*IDS[:40], *reversed(IDS[40:60])]
    fresh.logits([Feed(0, None, 0, other[:40], None)])
    got = ready.logits([Feed(0, None, 40, other[40:], draw())])
    assert torch.equal(got, fresh.logits([Feed(0, None, 40, other[40:], draw())]))


def test_copying_makes_room_and_leaves_the_source_and_the_rest_of_the_target() -> None:
    cache = SlotCache(layers=2, slots=5, context=200)
    for slot in (0, 1):
        cache.at([slot], [0], [6], torch.device("cpu"))
        for layer in range(2):
            cache.update(torch.full((1, 2, 6, 4), slot + 1.0), torch.full((1, 2, 6, 4), slot + 5.0), layer)
    cache.copy(0, 1, 4)
    cache.copy(1, 4, 6)
    assert [t.shape[0] for t in (*cache._keys, *cache._values)] == [5] * 4
    for layer in range(2):
        assert cache._keys[layer][1, 0, :7, 0].tolist() == [1, 1, 1, 1, 2, 2, 0]
        assert cache._keys[layer][4, 1, :7, 3].tolist() == [1, 1, 1, 1, 2, 2, 0]
        assert cache._values[layer][0, 0, :7, 0].tolist() == [5] * 6 + [0]
        assert cache._values[layer][4, 0, :6, 0].tolist() == [5, 5, 5, 5, 6, 6]


@pytest.mark.parametrize(("source", "target", "length"), [(-1, 0, 1), (0, 5, 1), (0, 1, BLOCK + 1), (0, 1, -1)])
def test_what_the_slots_cannot_hold_is_not_copied(source: int, target: int, length: int) -> None:
    with pytest.raises(ValueError, match="cannot be copied"):
        SlotCache(layers=2, slots=5, context=200).copy(source, target, length)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mamba"])
def test_answers_that_begin_with_what_is_known_are_those_of_generate(kind: str) -> None:
    made = tiny.model(kind)
    expected = [tiny.generated(made, ids) for ids in (IDS, [*IDS, 5, 6, 7])]
    ready = tiny.engine(copy.deepcopy(made), slots=4)
    first = tiny.answer(ready, *(tiny.ask(tiny.prompt(*IDS), lane, run="a") for lane in range(3)))
    again = tiny.answer(ready, tiny.ask(tiny.prompt(*IDS), run="b"), tiny.ask(tiny.prompt(*IDS, 5, 6, 7), run="c"))
    assert [heard.ids for heard in (*first, *again)] == [expected[0]] * 4 + [expected[1]]
    known = [heard.end.figures.cached_tokens for heard in (*first, *again)]
    assert known == ([0] * 5 if kind == "mamba" else [0, 69, 69, 69, 70])


def test_adapters_and_their_base_do_not_find_each_others_prompts(tmp_path) -> None:
    made = tiny.model()
    tuned = "ft:tiny:x"
    folder = tiny.adapter(made, tmp_path / "x")
    request = tiny.ask(tiny.prompt(*IDS), model=tuned, run="t")
    [alone] = tiny.answer(tiny.engine(copy.deepcopy(made), {tuned: folder}), request)
    ready = tiny.engine(made, {tuned: folder})
    tiny.answer(ready, tiny.ask(tiny.prompt(*IDS), run="a"))
    [after] = tiny.answer(ready, request)
    assert (after.ids, after.end.figures.cached_tokens) == (alone.ids, 0)
    [again] = tiny.answer(ready, tiny.ask(tiny.prompt(*IDS), model=tuned, run="u"))
    assert (again.ids, again.end.figures.cached_tokens) == (alone.ids, 69)


def test_a_prompt_with_broken_numbers_leaves_nothing_to_the_next() -> None:
    made = tiny.model()
    expected = tiny.generated(made, IDS[:20])
    ready = tiny.engine(made, slots=1)
    table = made.get_input_embeddings().weight
    sound = table[200].clone()
    table[200] = float("nan")
    [failed] = tiny.answer(ready, tiny.ask(tiny.prompt(*IDS[:20], *[200] * 40)))
    table[200] = sound
    [after] = tiny.answer(ready, tiny.ask(tiny.prompt(*IDS[:20])))
    assert failed.end.error.code == "invalid_logits"  # type: ignore[union-attr]
    assert isinstance(after.end, LaneDone)
    assert (after.ids, after.end.figures.cached_tokens) == (expected, 0)


@pytest.mark.model
def test_the_default_models_greedy_answers_are_the_same_when_prompts_are_known() -> None:
    from models_backend.config import DEFAULT_MODEL, Settings
    from models_backend.text.open import open_engines

    ready = open_engines(Settings(), "w")[DEFAULT_MODEL]
    ready.load()
    names = [info.id for info in ready.models()]
    story = tiny.prompt(*range(40)), tiny.prompt(*range(40), 7, 7, 7)

    def said(run: str, prompt) -> tuple[list[list[int]], list[int]]:
        params = Params(temperature=0.0, max_tokens=20)
        lanes = [tiny.ask(prompt, lane, name, params, run=run) for lane, name in enumerate(names)]
        heard = tiny.answer(ready, *lanes)
        return [one.ids for one in heard], [one.end.figures.cached_tokens for one in heard]

    computed, none = said("a", story[0])
    known, hits = said("b", story[0])
    assert (known, set(none)) == (computed, {0})
    assert min(hits) >= 40
    assert min(said("c", story[1])[1]) >= 40
