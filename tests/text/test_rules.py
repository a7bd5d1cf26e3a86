"""From parameters to what draws obey: settings resolved, ids checked against the model, ends and bans of an answer."""

from typing import Any

import pytest

from models_backend.protocol.events import LaneDone, LaneFailed
from models_backend.protocol.params import BOUNDS, Choice, Params, merge
from models_backend.protocol.runs import Completion
from models_backend.text import fake
from models_backend.text.contract import EngineError, Request, Rules
from models_backend.text.defaults import NEUTRAL, model_defaults, own_seed, resolve
from models_backend.text.engine import Engine
from models_backend.text.rules import rules_for
from models_backend.text.sequence import Answer

from . import tiny

DIALECT = fake.FakeDialect()
VOCABULARY = fake.FakeRunner.vocabulary


def used(**values: Any) -> Any:
    return resolve(Params(**values), {}, 7, 1000)


def test_every_parameter_has_a_neutral_value_and_no_other_name_has() -> None:
    assert {*NEUTRAL, "seed"} == set(Params.__struct_fields__)


def test_what_is_sent_wins_over_the_models_own_and_that_over_neutral() -> None:
    own = model_defaults(
        {"temperature": 0.6, "typical_p": 0.9, "top_k": 20, "min_p": 7, "do_sample": True, "top_p": True}
    )
    assert own == {"temperature": 0.6, "typical_p": 0.9, "top_k": 20}
    made = resolve(Params(top_k=5), own, 7, 100)
    assert (made.temperature, made.typical_p, made.top_k, made.min_p) == (0.6, 0.9, 5, 0.0)


def test_no_tokens_may_be_asked_for() -> None:
    assert used(max_tokens=0).max_tokens == 0


def test_an_answer_that_must_be_longer_than_it_may_is_refused() -> None:
    with pytest.raises(EngineError, match="min_tokens is 10") as refusal:
        used(min_tokens=10, max_tokens=9)
    assert refusal.value.field == "min_tokens"
    assert resolve(Params(min_tokens=50, max_tokens=60), {}, 7, room=20).max_tokens == 20  # what fits is no mistake


def test_own_dice_are_the_lanes_and_are_told_as_the_seed_that_gives_the_answer_again() -> None:
    own = [resolve(Params(seed=5, dice="own"), {}, 7, 100, lane=lane) for lane in range(4)]
    assert [one.seed for one in own] == [own_seed(5, lane) for lane in range(4)]
    assert len({one.seed for one in own}) == 4
    again = resolve(Params(seed=own[2].seed), {}, 7, 100, lane=0)
    assert again.seed == own[2].seed and again.dice == "same"
    assert {resolve(Params(dice="same"), {}, 7, 100, lane=lane).seed for lane in range(4)} == {7}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"logit_bias": {0: 1.0, VOCABULARY: 1.0}}, "logit_bias"),
        ({"logit_bias": {2**31 - 1: 1.0}}, "logit_bias"),
        ({"stop_token_ids": (3, VOCABULARY)}, "stop_token_ids"),
    ],
)
def test_ids_that_the_model_does_not_have_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(EngineError, match=f"0 to {VOCABULARY - 1}") as refusal:
        rules_for(used(**values), DIALECT, [1], VOCABULARY)
    assert (refusal.value.code, refusal.value.field) == ("bad_parameter", field)


def test_a_bad_word_that_cannot_be_written_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.FakeDialect, "spellings", lambda self, word: [] if word == "?" else [(1,)])
    with pytest.raises(EngineError) as refusal:
        rules_for(used(bad_words=("a", "?")), DIALECT, [1], VOCABULARY)
    assert refusal.value.field == "bad_words[1]"


def test_bad_words_are_banned_whole_or_where_the_rest_was_said() -> None:
    made = rules_for(used(bad_words=("x", "no")), DIALECT, [1], VOCABULARY)
    assert list(made.banned) == [ord("x")]
    assert dict(made.banned_after) == {
        ord(" "): [((ord(" "),), ord("x"))],
        ord("n"): [((ord("n"),), ord("o")), ((ord(" "), ord("n")), ord("o"))],
    }


def test_rules_hold_what_was_sent_and_ids_of_the_prompt_only_for_whom_they_matter() -> None:
    made = rules_for(used(logit_bias={4: 2.0, 9: -100.0}, stop_token_ids=(8,)), DIALECT, [3, 1, 3], VOCABULARY)
    assert [list(part) for part in made.biases] == [[4, 9], [2.0, -100.0]]
    assert made.ends == DIALECT.eos | {8}
    assert list(made.seen) == []
    assert list(rules_for(used(repetition_penalty=1.1), DIALECT, [3, 1, 3], VOCABULARY).seen) == [1, 3]


# Answers ----------------------------------------------------------------------------------------------------------


def said(text: str, rules: Rules = Rules(), **values: Any) -> tuple[str, str | None, int]:  # noqa: B008
    """The text that an answer of the bytes of `text` shows, how it ends, and after how many."""
    answer = Answer(DIALECT, used(**values), rules)
    shown = ""
    for byte in text.encode():
        if answer.finish is not None:
            break
        shown += answer.push(byte)
    return shown, answer.finish, len(answer.ids)


def test_a_stop_id_ends_the_answer_and_is_not_shown() -> None:
    assert said("abc", Rules(ends=frozenset({ord("b")}))) == ("a", "stop", 2)


@pytest.mark.parametrize(
    ("least", "shown", "finish"),
    [
        (0, "a", "stop"),
        (1, "a", "stop"),
        (2, "aENDbc", "stop"),  # cut in two by the border, so it is none
        (4, "aENDbc", "stop"),
        (10, "aENDbcENDd", None),
    ],
)
def test_a_stop_string_within_the_first_tokens_does_not_end_the_answer(
    least: int, shown: str, finish: str | None
) -> None:
    assert said("aENDbcENDd", stop=("END",), min_tokens=least)[:2] == (shown, finish)


def engine() -> Engine:
    backend = fake.build(8, 0.0, lambda note: None)
    ready = Engine(fake.INFOS, lambda note: backend, "w", 8)
    ready.load()
    return ready


def ask(params: Params, lane: int = 0, **more: Any) -> Request:
    return Request("r", lane, fake.BASE, Completion("Hello"), params, seed=7, **more)


def test_an_answer_of_no_tokens_ends_at_once_by_its_length() -> None:
    [one] = tiny.answer(engine(), ask(Params(max_tokens=0)))
    assert isinstance(one.end, LaneDone)
    assert (one.end.finish, one.ids, one.text) == ("length", [], "")


def test_lanes_of_one_seed_agree_and_with_own_dice_they_do_not_yet_come_again() -> None:
    same = tiny.answer(engine(), *(ask(Params(seed=3), lane) for lane in range(3)))
    assert len({one.text for one in same}) == 1
    own = tiny.answer(engine(), *(ask(Params(seed=3, dice="own"), lane) for lane in range(3)))
    assert len({one.text for one in own}) == 3
    assert own[0].text == same[0].text
    again = tiny.answer(engine(), ask(Params(seed=own[2].started.used.seed)))
    assert again[0].text == own[2].text


def test_min_tokens_keep_the_fake_model_talking() -> None:
    plain, longer = tiny.answer(engine(), ask(Params()), ask(Params(min_tokens=120), 1))
    assert len(plain.ids) < 120 < len(longer.ids)
    assert longer.ids[: len(plain.ids) - 1] == plain.ids[:-1]


def test_what_the_model_does_not_have_fails_its_lane_alone_and_by_name() -> None:
    bad, good = tiny.answer(engine(), ask(Params(stop_token_ids=(10**6,))), ask(Params(), 1))
    assert isinstance(bad.end, LaneFailed) and isinstance(good.end, LaneDone)
    assert bad.end.error.field == "stop_token_ids"


# The wire ---------------------------------------------------------------------------------------------------------


def test_ids_of_a_bias_come_as_text_in_json_and_as_numbers_in_python() -> None:
    assert merge(Params(logit_bias={5: 1.0}), {"temperature": 0.5}).logit_bias == {5: 1.0}
    assert merge(Params(), {"logit_bias": {"5": -2}}).logit_bias == {5: -2.0}
    assert merge(Params(logit_bias={5: 1.0}), {"logit_bias": None}).logit_bias is None
    assert merge(Params(constraint=Choice(("a",))), {"dice": "own"}).constraint == Choice(("a",))


def test_seeds_of_ones_own_stay_within_the_bounds() -> None:
    assert all(0 <= own_seed(seed, 63) <= BOUNDS["seed"][1] for seed in (0, int(BOUNDS["seed"][1])))
