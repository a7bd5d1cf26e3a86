"""n and best_of: lanes that differ by their seed, and the choice among them."""

import msgspec
import pytest

from models_backend.protocol.events import Insight
from models_backend.protocol.params import BOUNDS, Params
from models_backend.protocol.runs import MAX_SAMPLES, LaneSpec, RunSpec
from playground.errors import BadParameter
from playground.runs.samples import best, count, expand

LANE = LaneSpec("m", {"temperature": 0.5}, strength=0.7)


def seen(*logprobs: float) -> list[Insight]:
    return [Insight(id=7, text="x", logprob=value, rank=1, entropy=0.1) for value in logprobs]


def test_samples_are_lanes_that_differ_by_their_seed_alone() -> None:
    lanes = expand(LANE, Params(max_tokens=9), 3, seed=5)
    assert [lane.overrides for lane in lanes] == [{"temperature": 0.5, "seed": seed} for seed in (5, 6, 7)]
    assert {(lane.model, lane.strength) for lane in lanes} == {("m", 0.7)}


def test_a_seed_that_was_asked_for_is_that_of_the_first_sample() -> None:
    assert [lane.overrides["seed"] for lane in expand(LANE, Params(seed=40), 2, seed=5)] == [40, 41]
    own = LaneSpec("m", {"seed": 70})
    assert [lane.overrides["seed"] for lane in expand(own, Params(seed=40), 2, seed=5)] == [70, 71]


def test_seeds_go_round_instead_of_leaving_their_bounds() -> None:
    largest = int(BOUNDS["seed"][1])
    lanes = expand(LaneSpec("m"), Params(), 2, seed=largest)
    assert [lane.overrides["seed"] for lane in lanes] == [largest, 0]
    assert RunSpec(msgspec.convert({"mode": "completion", "text": "a"}, RunSpec.__annotations__["prompt"]), lanes)


def test_the_best_of_more_are_looked_at_and_plain_samples_are_not() -> None:
    assert "top_logprobs" not in expand(LANE, Params(), 2, seed=1)[0].overrides
    assert "top_logprobs" not in expand(LANE, Params(), 2, seed=1, best_of=2)[0].overrides
    lanes = expand(LANE, Params(), 2, seed=1, best_of=4)
    assert [lane.overrides["top_logprobs"] for lane in lanes] == [0] * 4
    assert "top_logprobs" not in expand(LANE, Params(top_logprobs=3), 1, seed=1, best_of=2)[0].overrides


@pytest.mark.parametrize(
    ("n", "best_of", "field"),
    [(0, None, "n"), (-1, None, "n"), (MAX_SAMPLES + 1, None, "n"), (1, MAX_SAMPLES + 1, "best_of"), (3, 2, "best_of")],
)
def test_a_wrong_number_of_samples_is_refused_by_name(n: int, best_of: int | None, field: str) -> None:
    with pytest.raises(BadParameter) as refusal:
        expand(LANE, Params(), n, 1, best_of)
    assert refusal.value.field == field


def test_as_many_samples_as_are_allowed_make_a_run_that_the_wire_carries() -> None:
    lanes = expand(LANE, Params(), MAX_SAMPLES, seed=1)
    raw = msgspec.json.encode({"prompt": {"mode": "completion", "text": "a"}, "lanes": lanes})
    assert len(msgspec.json.decode(raw, type=RunSpec).lanes) == count(MAX_SAMPLES, None) == 16


def test_the_best_have_the_highest_logprob_per_token_not_in_all() -> None:
    answers = {0: seen(-1.0, -1.0), 1: seen(-0.5, -0.5, -0.5, -0.5, -0.5), 2: seen(-0.9), 3: seen(-0.9)}
    assert best(answers, 1) == [1]
    assert best(answers, 3) == [1, 2, 3]


def test_a_lane_of_which_too_little_is_known_comes_last() -> None:
    answers = {0: [], 1: [*seen(-0.1), None], 2: seen(-30.0)}
    assert best(answers, 2) == [2, 0]
