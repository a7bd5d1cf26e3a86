"""The fake model's opinions hang together as a real one's do, and its answers branch; ends inside a prefix are ends."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from models_backend.config import Settings
from models_backend.protocol.events import Insight, LaneDone, LaneFailed, LaneScored, LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion, Variant
from models_backend.text.contract import Backend, Feed, Outcome, OutOfMemory, Request
from models_backend.text.engine import Engine
from models_backend.text.fake import BASE, INFOS, SHOUT, FakeDialect, FakeRunner
from models_backend.text.open import open_engines

from .tiny import Heard, answer

TEXT = " the quiet harbour 🌊 remembers"
DIALECT = FakeDialect()


@pytest.fixture
def engine() -> Engine:
    ready = open_engines(Settings(engine="fake", slots=8, _env_file=None), "w")[BASE]
    ready.load()
    assert isinstance(ready, Engine)
    return ready


def ask(lane: int = 0, model: str = BASE, text: str = TEXT, **values: Any) -> Request:
    request = {name: values.pop(name) for name in ("prefix", "shadows", "resume", "attempt") if name in values}
    return Request("r", lane, model, Completion(text), Params(**values), 1, **request)


def insights(heard: Heard) -> list[Insight]:
    return [one for event in heard.events if isinstance(event, LaneToken) for one in event.insight]


def scores(heard: Heard) -> list[Insight]:
    return [one for event in heard.events if isinstance(event, LaneScored) for one in event.insight]


def finish(heard: Heard) -> str:
    assert isinstance(heard.end, LaneDone)
    return heard.end.finish


def test_figures_hang_together(engine: Engine) -> None:
    [heard] = answer(engine, ask(top_logprobs=20, shadows=(Variant(SHOUT), Variant(BASE))))
    found = insights(heard)
    assert [one.id for one in found] == heard.ids
    for one in found:
        for view in (one, *one.shades):
            logprobs = [candidate.logprob for candidate in view.top]
            assert logprobs == sorted(logprobs, reverse=True)
            assert len({candidate.id for candidate in view.top}) == 20
            assert (view.top[view.rank - 1].id, view.top[view.rank - 1].logprob) == (one.id, view.logprob)
            assert sum(math.exp(value) for value in logprobs) < 1.001  # rounded
            assert view.entropy > 0
        loud, same = one.shades
        assert (same.kl, same.reverse_kl, same.top) == (0, 0, one.top)
        assert (loud.rank > one.rank) == (loud.kl > 0) == (one.id > 256)  # bytes are neither loud nor quiet
    assert {one.rank for one in found} > {1, 2}


def test_a_shadow_thinks_what_its_model_says(engine: Engine) -> None:
    [loud] = answer(engine, ask(model=SHOUT, top_logprobs=3))
    said = TEXT + loud.text
    quiet, again = answer(
        engine,
        ask(0, BASE, said, max_tokens=0, prompt_logprobs=3, shadows=(Variant(SHOUT),)),
        ask(1, SHOUT, said, max_tokens=0, prompt_logprobs=3),
    )
    place = len(DIALECT.encode(Completion(TEXT))) - 1
    words = 4  # then comes a mark that a text spells otherwise
    assert [one.id for one in scores(again)[place:][:words]] == loud.ids[:words]
    assert scores(again)[place:][:words] == insights(loud)[:words]
    for one, other in zip(scores(quiet), scores(again), strict=True):
        assert one.shades[0].logprob == other.logprob
        assert one.shades[0].rank == other.rank
    assert (finish(quiet), quiet.ids) == ("length", [])


def test_a_branch_that_says_what_was_said_is_the_unbroken_answer(engine: Engine) -> None:
    [whole] = answer(engine, ask())
    for cut in (1, 9, len(whole.ids)):
        [branch] = answer(engine, ask(prefix=tuple(whole.ids[:cut])))
        assert (branch.ids, branch.text, finish(branch)) == (whole.ids, whole.text, "stop")


def test_a_branch_with_another_token_goes_on_otherwise_and_from_any_place(engine: Engine) -> None:
    [whole] = answer(engine, ask())
    prefix = (*whole.ids[:3], whole.ids[0])
    [branch] = answer(engine, ask(prefix=prefix))
    assert tuple(branch.ids[:4]) == prefix
    assert branch.ids[4:12] != whole.ids[4:12]
    for cut in (2, 4, 7):
        [rest] = answer(engine, ask(prefix=prefix, resume=tuple(branch.ids[:cut]), attempt=2))
        assert branch.ids[:cut] + rest.ids == branch.ids


# Ends inside a prefix, which are the engine's to find ----------------------------------------------------------------


@pytest.mark.parametrize(
    "watched", [{}, {"top_logprobs": 2}, {"prompt_logprobs": 1}], ids=["plain", "watched", "scored"]
)
def test_a_prefix_ends_an_answer_as_drawn_tokens_would(engine: Engine, watched: dict[str, int]) -> None:
    ids = DIALECT.encode(Completion(" the harbour remembers every garden"))
    whole = DIALECT.decode(ids)
    [cut] = answer(engine, ask(prefix=tuple(ids), max_tokens=3, **watched))
    assert (cut.ids, cut.text, finish(cut)) == (ids[:3], " the harbour remembers", "length")
    [full] = answer(engine, ask(prefix=tuple(ids), max_tokens=len(ids), **watched))
    assert (full.ids, full.text, finish(full)) == (ids, whole, "length")
    [eos] = answer(engine, ask(prefix=(*ids[:2], 256, *ids), **watched))
    assert (eos.ids, eos.text, finish(eos)) == ([*ids[:2], 256], " the harbour", "stop")
    [stopped] = answer(engine, ask(prefix=tuple(ids), stop=("bers ev",), **watched))
    assert (stopped.text, finish(stopped)) == (" the harbour remem", "stop")
    assert len(stopped.ids) == 4
    none, more = answer(engine, ask(prefix=tuple(ids), max_tokens=0, **watched), ask(1, prefix=tuple(ids), **watched))
    assert (none.ids, none.text, finish(none)) == ([], "", "length")
    assert more.text.startswith(whole)
    for heard in (cut, full, eos, stopped, more):
        assert len(insights(heard)) == (len(heard.ids) if "top_logprobs" in watched else 0)
        assert len(scores(heard)) == (len(DIALECT.encode(Completion(TEXT))) - 1 if "prompt_logprobs" in watched else 0)
    assert engine.running == 0


def test_a_prefix_that_ends_inside_a_stop_string_is_held_back_until_it_is_decided(engine: Engine) -> None:
    [whole] = answer(engine, ask())
    stop = whole.text[4:30]
    [branch] = answer(engine, ask(prefix=tuple(whole.ids[:2]), stop=(stop,)))
    assert branch.text == whole.text[:4]
    assert finish(branch) == "stop"


def test_a_text_of_one_token_has_nothing_to_score(engine: Engine) -> None:
    [heard] = answer(engine, ask(text=" the", max_tokens=0, prompt_logprobs=3))
    assert (scores(heard), heard.ids, finish(heard)) == ([], [], "length")


def test_an_answer_of_no_tokens_that_scores_nothing_is_over_at_once(engine: Engine) -> None:
    [heard] = answer(engine, ask(max_tokens=0))
    assert (heard.ids, finish(heard), len(heard.events)) == ([], "length", 2)


def test_more_scores_than_are_kept_are_refused(engine: Engine) -> None:
    [heard] = answer(engine, ask(text="x" * 8193, prompt_logprobs=0))
    assert isinstance(heard.end, LaneFailed)
    assert (heard.end.error.code, heard.end.error.field) == ("invalid_value", "prompt_logprobs")


def test_a_prefix_outside_the_vocabulary_is_refused_by_name(engine: Engine) -> None:
    [heard] = answer(engine, ask(prefix=(5, FakeRunner.vocabulary)))
    assert isinstance(heard.end, LaneFailed)
    assert heard.end.error.field == "prefix"


def test_more_shadows_than_there_are_places_are_refused(engine: Engine) -> None:
    small = open_engines(Settings(engine="fake", slots=2, _env_file=None), "w")[BASE]
    small.load()
    assert isinstance(small, Engine)
    failed, beside = answer(small, ask(shadows=(Variant(BASE), Variant(SHOUT))), ask(1, shadows=(Variant(SHOUT),)))
    assert isinstance(failed.end, LaneFailed)
    assert failed.end.error.code == "too_many_shadows"
    assert finish(beside) == "stop"


class Crowded(FakeRunner):
    """Has memory for more than three feeds in its first passes only."""

    chunk = 24  # of ids, over all feeds of a pass
    roomy = 0  # passes
    refusals = 0

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        if len(feeds) > 3:
            self.roomy -= 1
            if self.roomy < 0:
                self.refusals += 1
                raise OutOfMemory("too many rows")
        return super().forward(feeds)


@pytest.mark.parametrize("roomy", [1, 3, 6, 9])
def test_a_lane_that_gave_way_tells_nothing_twice(roomy: int) -> None:
    runner = Crowded(8)
    backend = Backend(FakeDialect(), runner)
    ready = Engine(INFOS, lambda note: backend, "w", 8)
    ready.load()
    wanted = {"prompt_logprobs": 1, "top_logprobs": 1, "shadows": (Variant(SHOUT),), "prefix": tuple(range(60, 75))}
    alone = [answer(ready, ask(lane, seed=lane, **wanted))[0] for lane in range(2)]
    runner.roomy = roomy
    crowded = answer(ready, *(ask(lane, seed=lane, **wanted) for lane in range(2)))
    assert runner.refusals
    for one, other in zip(crowded, alone, strict=True):
        assert one.ids == other.ids
        assert insights(one) == insights(other)
        assert scores(one) == scores(other)
        places = [event.index for event in one.events if isinstance(event, LaneScored)]
        assert places == sorted(set(places))
