"""Insight, shadows, scores and branches through the whole engine, over tiny models and their plain selves."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.nn.functional import kl_div

from models_backend.protocol.events import Insight, LaneDone, LaneFailed, LaneScored, LaneStopped, LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Variant
from models_backend.text import modules, passes
from models_backend.text.contract import Feed, Request
from models_backend.text.engine import Engine
from models_backend.text.module_runner import SlotRunner, SoloRunner

from . import tiny
from .tiny import BASE, Heard, answer, listen, prompt

FT, OTHER = "ft:1", "ft:2"
IDS = [(i * 31) % tiny.VOCABULARY for i in range(40)]
WATCHED = Params(temperature=1.0, seed=3, max_tokens=8, top_logprobs=4)
EXACT = {"abs": 2e-3, "rel": 2e-3}  # four decimals, and sums in another order


def ask(lane: int = 0, model: str = BASE, params: Params = WATCHED, ids: Sequence[int] = IDS, **rest: Any) -> Request:
    return Request("r", lane, model, prompt(*ids), params, 1, **rest)


def shadows(*models: str) -> tuple[Variant, ...]:
    return tuple(Variant(model) for model in models)


def insights(heard: Heard) -> list[Insight]:
    return [one for event in heard.events if isinstance(event, LaneToken) for one in event.insight]


def scores(heard: Heard) -> list[Insight]:
    """Those of the prompt, after a look whether they come in order and without a gap."""
    found: list[Insight] = []
    for event in heard.events:
        if isinstance(event, LaneScored):
            assert event.index == len(found) + 1
            found += event.insight
    return found


def believed(made: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    """[ids, vocabulary]: log-probabilities of what follows each id, by the plain model in one pass."""
    with torch.inference_mode():
        return made(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].double().log_softmax(-1)


class World:
    """A base and two adapters: the engine over them, and the plain model of each."""

    def __init__(self, kind: str, folder: Path) -> None:
        made = tiny.model(kind)
        options = {"target_modules": ["in_proj"]} if kind == "mamba" else {}
        folders = {name: tiny.adapter(made, folder / name[-1], seed=i, **options) for i, name in enumerate((FT, OTHER))}
        self.plain: dict[str, torch.nn.Module] = {BASE: made}
        for name, path in folders.items():
            self.plain[name] = peft.PeftModel.from_pretrained(copy.deepcopy(made), str(path)).merge_and_unload()
        self.engine = tiny.engine(copy.deepcopy(made), folders)

    @property
    def runner(self) -> Any:
        assert self.engine._backend is not None
        return self.engine._backend.runner


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Its rows share a batch, and its prompts come in chunks as short as a few words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules, "CPU_CHUNK", 24)
        made = World("llama", tmp_path_factory.mktemp("llama"))
    assert type(made.runner) is SlotRunner
    return made


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> World:
    """It answers row by row, and reads its prompts in one piece."""
    made = World("mamba", tmp_path_factory.mktemp("mamba"))
    assert type(made.runner) is SoloRunner
    return made


@pytest.fixture(params=["llama", "mamba"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


def check(found: Sequence[Insight], expected: torch.Tensor, ids: Sequence[int]) -> None:
    """`expected[i]` are the log-probabilities before token i of `ids`."""
    assert [one.id for one in found] == list(ids)
    for one, row in zip(found, expected, strict=True):
        assert one.text == f" {one.id}"
        assert one.logprob == pytest.approx(float(row[one.id]), **EXACT)
        assert one.rank == int((row > row[one.id]).sum()) + 1
        assert one.entropy == pytest.approx(float(-(row.exp() * row).sum()), **EXACT)
        best = row.topk(len(one.top))
        assert [candidate.logprob for candidate in one.top] == pytest.approx(best.values.tolist(), **EXACT)
        assert [candidate.id for candidate in one.top] == best.indices.tolist()


def check_shades(
    found: Sequence[Insight], place: int, own: torch.Tensor, other: torch.Tensor, ids: Sequence[int]
) -> None:
    for one, token, p, q in zip(found, ids, own, other, strict=True):
        shade = one.shades[place]
        assert shade.logprob == pytest.approx(float(q[token]), **EXACT)
        assert shade.rank == int((q > q[token]).sum()) + 1
        assert shade.entropy == pytest.approx(float(-(q.exp() * q).sum()), **EXACT)
        assert shade.kl == pytest.approx(float(kl_div(q, p, log_target=True, reduction="sum")), **EXACT)
        assert shade.reverse_kl == pytest.approx(float(kl_div(p, q, log_target=True, reduction="sum")), **EXACT)
        assert [candidate.id for candidate in shade.top] == q.topk(len(shade.top)).indices.tolist()


@pytest.mark.parametrize("kind", ["gemma2", "gpt2", "qwen3"])
def test_insight_is_log_softmax_of_the_plain_model(kind: str) -> None:
    made = tiny.model(kind)
    [heard] = answer(tiny.engine(copy.deepcopy(made)), ask(params=Params(seed=2, max_tokens=6, top_logprobs=20)))
    expected = believed(made, [*IDS, *heard.ids])[len(IDS) - 1 : -1]
    check(insights(heard), expected, heard.ids)
    assert {len(one.top) for one in insights(heard)} == {20}


def test_insight_is_of_the_lanes_own_model_whatever_penalties_choose(llama: World) -> None:
    params = Params(
        temperature=1.4, top_k=50, frequency_penalty=1.5, repetition_penalty=1.3, max_tokens=8, top_logprobs=3
    )
    heard = answer(llama.engine, *(ask(lane, model, params) for lane, model in enumerate(llama.plain)))
    for one, made in zip(heard, llama.plain.values(), strict=True):
        check(insights(one), believed(made, [*IDS, *one.ids])[len(IDS) - 1 : -1], one.ids)


def test_who_asks_for_no_insight_gets_none_and_the_same_answer(llama: World) -> None:
    quiet = Params(temperature=1.0, seed=3, max_tokens=8)
    [plain] = answer(llama.engine, ask(params=quiet))
    [watched] = answer(llama.engine, ask())
    [shadowed] = answer(llama.engine, ask(params=quiet, shadows=shadows(FT)))
    assert plain.ids == watched.ids == shadowed.ids
    assert not insights(plain)
    assert plain.started.used.top_logprobs is None
    assert shadowed.started.used.top_logprobs == 0  # a shadow has nothing to say without it, and the page is told so
    assert {(one.top, one.shades[0].top) for one in insights(shadowed)} == {((), ())}


def test_shadows_say_what_their_models_would_and_how_far_they_are(world: World) -> None:
    heard = answer(
        world.engine,
        ask(0, BASE, shadows=shadows(FT, OTHER)),
        ask(1, FT, shadows=shadows(BASE)),
        ask(2, OTHER),
    )
    for one, own, others in ((heard[0], BASE, (FT, OTHER)), (heard[1], FT, (BASE,))):
        rows = {model: believed(world.plain[model], [*IDS, *one.ids])[len(IDS) - 1 : -1] for model in (own, *others)}
        check(insights(one), rows[own], one.ids)
        for place, other in enumerate(others):
            check_shades(insights(one), place, rows[own], rows[other], one.ids)
    assert not any(one.shades for one in insights(heard[2]))


def test_a_shadow_of_the_same_model_is_at_no_distance(llama: World) -> None:
    [heard] = answer(llama.engine, ask(0, FT, shadows=shadows(FT)))
    for one in insights(heard):
        [shade] = one.shades
        assert (shade.kl, shade.reverse_kl) == (0, 0)
        assert (shade.logprob, shade.rank, shade.entropy, shade.top) == (one.logprob, one.rank, one.entropy, one.top)


def test_shadows_stay_in_step_while_others_join_stop_and_leave(llama: World) -> None:
    ids = [(i * 17) % tiny.VOCABULARY for i in range(100)]
    params = Params(temperature=1.0, seed=3, max_tokens=14, top_logprobs=2)
    heard: dict[tuple[str, int], Heard] = {}
    ready = llama.engine
    ready.submit(ask(0, BASE, params, ids, shadows=shadows(FT)))
    for lane in range(1, 5):
        beside = ask(lane, (BASE, FT, OTHER)[lane % 3], Params(max_tokens=2 + lane), IDS[lane:], shadows=shadows(OTHER))
        ready.submit(beside)
        for _ in range(3):
            listen(heard, ready.step())
        ready.stop("r", lane - 1 if lane > 1 else 99)
    while ready.busy:
        listen(heard, ready.step())
    assert any(isinstance(one.end, LaneStopped) for one in heard.values())
    one = heard["r", 0]
    assert len(one.ids) == 14
    own, other = (believed(llama.plain[model], [*ids, *one.ids])[len(ids) - 1 : -1] for model in (BASE, FT))
    check(insights(one), own, one.ids)
    check_shades(insights(one), 0, own, other, one.ids)
    assert not ready._scheduler.running
    again = answer(ready, *(ask(lane, FT, shadows=shadows(BASE)) for lane in range(4)))  # every slot was given back
    assert all(isinstance(each.end, LaneDone) for each in again)


# Scores of a given text -----------------------------------------------------------------------------------------------


def test_scores_of_a_prompt_are_what_decoding_it_would_have_seen(world: World) -> None:
    [said] = answer(world.engine, ask(0, FT, shadows=shadows(BASE)))
    text = [*IDS, *said.ids]
    params = Params(max_tokens=0, prompt_logprobs=4)
    [heard] = answer(world.engine, ask(0, FT, params, text, shadows=shadows(BASE)))
    found = scores(heard)
    assert len(found) == len(text) - 1
    for scored, seen in zip(found[len(IDS) - 1 :], insights(said), strict=True):
        assert (scored.id, scored.rank) == (seen.id, seen.rank)
        assert scored.logprob == pytest.approx(seen.logprob, **EXACT)
        assert scored.shades[0].kl == pytest.approx(seen.shades[0].kl, **EXACT)
    own, other = (believed(world.plain[model], text)[:-1] for model in (FT, BASE))
    check(found, own, text[1:])
    check_shades(found, 0, own, other, text[1:])


def test_a_text_is_scored_under_several_models_in_one_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    passes_: list[int] = []
    forward = world.runner.forward

    def counted(feeds: Sequence[Feed]) -> Any:
        passes_.append(len(feeds))
        return forward(feeds)

    monkeypatch.setattr(world.runner, "forward", counted)
    text = IDS[:15]
    params = Params(max_tokens=0, prompt_logprobs=3)
    heard = answer(world.engine, *(ask(lane, model, params, text) for lane, model in enumerate(world.plain)))
    for one, made in zip(heard, world.plain.values(), strict=True):
        check(scores(one), believed(made, text)[:-1], text[1:])
        assert isinstance(one.end, LaneDone)
        assert (one.end.finish, one.ids, one.text) == ("length", [], "")
        assert one.started.used.max_tokens == 0
    assert passes_ == ([3] if isinstance(world.runner, SlotRunner) else [1, 1, 1])


def test_a_scored_prompt_is_answered_as_one_that_is_not(llama: World) -> None:
    scored = Params(temperature=1.0, seed=3, max_tokens=8, top_logprobs=1, prompt_logprobs=0)
    [plain] = answer(llama.engine, ask())
    [heard] = answer(llama.engine, ask(params=scored))
    assert heard.ids == plain.ids
    kinds = [type(event) for event in heard.events]
    assert kinds == sorted(kinds, key=lambda kind: kind is LaneToken or kind is LaneDone)  # all scores before any token
    assert len(scores(heard)) == len(IDS) - 1
    assert {one.top for one in scores(heard)} == {()}
    assert {len(one.top) for one in insights(heard)} == {1}


def test_scores_come_again_only_where_no_token_tells_that_they_were_said(llama: World) -> None:
    params = Params(temperature=1.0, seed=3, max_tokens=8, prompt_logprobs=1)
    [whole] = answer(llama.engine, ask(params=params))
    [again] = answer(llama.engine, ask(params=params, attempt=2))
    assert scores(again) == scores(whole)
    [rest] = answer(llama.engine, ask(params=params, attempt=2, resume=tuple(whole.ids[:4])))
    assert scores(rest) == []
    assert whole.ids[:4] + rest.ids == whole.ids


def test_scores_of_a_long_text_are_made_in_bounded_passes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "LOGITS", 20 * tiny.VOCABULARY)
    ids = [(i * 17) % tiny.VOCABULARY for i in range(60)]
    params = Params(max_tokens=0, prompt_logprobs=2)
    request = ask(0, BASE, params, ids, shadows=shadows(FT))
    if world.runner.chunk is None:
        [heard] = answer(world.engine, request)
        assert isinstance(heard.end, LaneFailed)
        assert (heard.end.error.code, heard.end.error.field) == ("invalid_value", "prompt_logprobs")
        assert "118 tokens" in heard.end.error.message
        assert "at most 20" in heard.end.error.message
        return
    widest = 0
    logits = world.runner.logits

    def measured(feeds: Sequence[Feed]) -> torch.Tensor:
        nonlocal widest
        made: torch.Tensor = logits(feeds)
        widest = max(widest, made.shape[0])
        return made

    monkeypatch.setattr(world.runner, "logits", measured)
    [heard, beside] = answer(world.engine, request, ask(1, OTHER, params, ids))
    own, other = (believed(world.plain[model], ids)[:-1] for model in (BASE, FT))
    check(scores(heard), own, ids[1:])
    check_shades(scores(heard), 0, own, other, ids[1:])
    assert len(scores(beside)) == 59
    assert widest == 20


def test_the_pieces_of_a_long_score_are_bounded(llama: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from models_backend.text import speech

    monkeypatch.setattr(speech, "CANDIDATES_AT_ONCE", 30)
    [heard] = answer(llama.engine, ask(params=Params(max_tokens=0, prompt_logprobs=4), shadows=shadows(FT)))
    assert len(scores(heard)) == len(IDS) - 1
    assert {len(event.insight) for event in heard.events if isinstance(event, LaneScored)} <= {1, 2, 3}


# Branches -------------------------------------------------------------------------------------------------------------


def test_a_branch_that_says_what_was_said_is_the_unbroken_answer(world: World) -> None:
    [whole] = answer(world.engine, ask(shadows=shadows(FT)))
    for cut in (1, 8):
        [branch] = answer(world.engine, ask(prefix=tuple(whole.ids[:cut]), shadows=shadows(FT)))
        assert branch.ids == whole.ids
        assert branch.text == whole.text
        for one, other in zip(insights(branch), insights(whole), strict=True):
            assert (one.id, one.rank) == (other.id, other.rank)
            assert one.logprob == pytest.approx(other.logprob, **EXACT)
            assert one.shades[0].kl == pytest.approx(other.shades[0].kl, **EXACT)


def test_a_branch_goes_on_from_the_token_that_was_taken_instead(llama: World) -> None:
    [whole] = answer(llama.engine, ask())
    other = next(one.id for one in insights(whole)[2].top if one.id != whole.ids[2])
    prefix = (*whole.ids[:2], other)
    [branch] = answer(llama.engine, ask(prefix=prefix))
    assert branch.ids[:3] == list(prefix)
    check(insights(branch), believed(llama.plain[BASE], [*IDS, *branch.ids])[len(IDS) - 1 : -1], branch.ids)
    assert insights(branch)[2].rank == 1 + [one.id for one in insights(whole)[2].top].index(other)
    [quiet] = answer(llama.engine, ask(params=Params(temperature=1.0, seed=3, max_tokens=8), prefix=prefix))
    assert quiet.ids == branch.ids
    given = next(event for event in quiet.events if isinstance(event, LaneToken))
    assert (given.index, given.ids) == (0, prefix)  # known at once, and said at once
    assert branch.end.figures.decode_ms is None


def test_a_branch_that_was_broken_off_goes_on(llama: World) -> None:
    prefix = (5, 17, 100, 3, 9)
    for params in (WATCHED, Params(temperature=1.0, seed=3, max_tokens=8)):
        [whole] = answer(llama.engine, ask(params=params, prefix=prefix))
        assert whole.ids[:5] == list(prefix)
        for cut in (2, 5, 7, 8):
            [rest] = answer(llama.engine, ask(params=params, prefix=prefix, attempt=2, resume=tuple(whole.ids[:cut])))
            assert whole.ids[:cut] + rest.ids == whole.ids
            first = next((event.index for event in rest.events if isinstance(event, LaneToken)), 8)
            assert first == cut


def test_a_scored_prompt_with_a_branch_tells_both_in_order(llama: World) -> None:
    for params in (
        Params(max_tokens=4, prompt_logprobs=2, top_logprobs=1, seed=3),
        Params(max_tokens=4, prompt_logprobs=2, seed=3),
    ):
        [heard] = answer(llama.engine, ask(params=params, prefix=(5, 17)))
        assert heard.ids[:2] == [5, 17]
        assert len(scores(heard)) == len(IDS) - 1
        kinds = [type(event) for event in heard.events]
        assert kinds.index(LaneToken) > max(i for i, kind in enumerate(kinds) if kind is LaneScored)
        assert len(insights(heard)) == (0 if params.top_logprobs is None else 4)


# What cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "code", "field", "words"),
    [
        ({"prefix": (3, tiny.VOCABULARY)}, "invalid_value", "prefix", f"{tiny.VOCABULARY} at place 1"),
        ({"prefix": (2**31 - 1,)}, "invalid_value", "prefix", "at place 0"),
        ({"prefix": (-1,)}, "invalid_value", "prefix", "at place 0"),
        ({"shadows": shadows("nobody", "no", "none")}, "model_not_found", "shadows", "nobody"),
        ({"shadows": shadows(FT, "gpt-9")}, "model_not_found", "shadows", "gpt-9"),
    ],
)
def test_what_cannot_be_is_refused_by_name(llama: World, rest: Any, code: str, field: str, words: str) -> None:
    failed, beside = answer(llama.engine, ask(0, **rest), ask(1))
    assert isinstance(failed.end, LaneFailed)
    assert (failed.end.error.code, failed.end.error.field) == (code, field)
    assert words in failed.end.error.message
    assert isinstance(beside.end, LaneDone)


def test_more_alternatives_than_there_are_tokens_are_all_tokens() -> None:
    made = tiny.model()
    made.resize_token_embeddings(7)
    ready = tiny.engine(made)
    [heard] = answer(ready, ask(params=Params(max_tokens=3, top_logprobs=20, prompt_logprobs=20), ids=[1, 2, 3]))
    for one in (*insights(heard), *scores(heard)):
        assert sorted(candidate.id for candidate in one.top) == list(range(7))
        assert sum(math.exp(candidate.logprob) for candidate in one.top) == pytest.approx(1, abs=1e-3)


def spoil(engine: Engine, monkeypatch: pytest.MonkeyPatch, adapter: str | None, at: int) -> None:
    """Let the rows of `adapter` have numbers that are none, from position `at` on."""
    assert engine._backend is not None
    runner: Any = engine._backend.runner
    name = "_one" if isinstance(runner, SoloRunner) else "logits"
    sound = getattr(runner, name)

    def broken(feeds: Feed | Sequence[Feed]) -> torch.Tensor:
        made: torch.Tensor = sound(feeds).clone()
        row = 0
        for feed in [feeds] if isinstance(feeds, Feed) else feeds:
            if feed.adapter == adapter and feed.start + len(feed.tokens) > at:
                made[row : row + feed.wanted, 5] = math.nan
            row += feed.wanted
        return made

    monkeypatch.setattr(runner, name, broken)


def test_a_shadow_that_breaks_fails_its_lane_and_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(world.engine, monkeypatch, FT, len(IDS) + 4)
    shadowed, beside = answer(world.engine, ask(0, shadows=shadows(OTHER, FT)), ask(1, shadows=shadows(OTHER)))
    assert isinstance(shadowed.end, LaneFailed)
    assert (shadowed.end.error.code, shadowed.end.error.field) == ("invalid_logits", "shadows")
    assert FT in shadowed.end.error.message
    assert len(shadowed.ids) == len(insights(shadowed)) == 5  # the last of them came before
    assert isinstance(beside.end, LaneDone)


def test_a_score_that_is_no_number_fails_its_lane(llama: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(llama.engine, monkeypatch, None, 0)
    params = Params(max_tokens=0, prompt_logprobs=1)
    base, tuned, shadowed = answer(
        llama.engine, ask(0, BASE, params), ask(1, FT, params), ask(2, FT, params, shadows=shadows(BASE))
    )
    assert isinstance(base.end, LaneFailed) and isinstance(shadowed.end, LaneFailed)
    assert base.end.error.code == shadowed.end.error.code == "invalid_logits"
    assert BASE in shadowed.end.error.message
    assert scores(base) == scores(shadowed) == []
    assert len(scores(tuned)) == len(IDS) - 1


def test_precision_and_strength_are_told(llama: World) -> None:
    base, tuned = answer(
        llama.engine, *(ask(lane, model, Params(max_tokens=1)) for lane, model in enumerate((BASE, FT)))
    )
    assert (base.started.precision, base.started.strength) == ("float32", None)
    assert (tuned.started.precision, tuned.started.strength) == ("float32", 1.0)
    assert {info.precision for info in llama.engine.models()} == {"float32"}
