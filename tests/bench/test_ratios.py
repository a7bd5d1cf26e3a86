"""Ratios compare cases of the same round, and say what is missing."""

import pytest

from models_backend.bench import ratios
from models_backend.bench.cases import Stage
from models_backend.bench.texts import Prompts

PROMISED = {
    "compare2_step", "compare4_step", "one_after_other", "two_processes", "lora_overhead", "shadow_step",
    "eight_adapters", "vs_transformers", "vs_transformers_16", "vs_llamacpp", "vs_llamacpp_4", "vs_llamacpp_16",
    "ttft_vs_llamacpp", "vs_serve_4", "busy_machine",
}  # fmt: skip


def figures(speed: float, step: float = 1.0, first: float = 1.0) -> dict[str, float]:
    return {"tokens_per_second": speed, "step_ms": step, "first_ms": first}


def test_every_promise_is_among_the_ratios() -> None:
    assert {ratio.key for ratio in ratios.RATIOS} >= PROMISED
    assert {"compare2_memory", "kl_default", "bandwidth_share", "cancel_ms", "memory"} <= set(ratios.OTHERS)


def test_every_case_that_a_ratio_needs_is_played_by_somebody() -> None:
    played = {case.name for _, case in Stage({}, Prompts(None), 8)._all()}
    assert {case for ratio in ratios.RATIOS for case in ratio.cases} <= played


def test_a_ratio_is_the_median_of_its_rounds_and_not_the_ratio_of_medians() -> None:
    """The machine is half as fast in round 2 and as fast as it likes in round 3: the ratio stays."""
    rounds = {
        ratios.ONE: {1: figures(20.0), 2: figures(10.0), 3: figures(90.0)},
        "generate(), 1 row": {1: figures(10.0), 2: figures(5.0), 3: figures(45.0)},
    }
    found, _ = ratios.compute(rounds)
    assert found == {"vs_transformers": 2.0}


def test_rounds_that_one_case_did_not_play_count_for_neither() -> None:
    rounds = {
        ratios.ONE: {1: figures(20.0), 2: figures(1.0)},
        "generate(), 1 row": {1: figures(10.0), 3: figures(1.0)},
    }
    assert ratios.compute(rounds)[0] == {"vs_transformers": 2.0}


def test_speed_and_time_are_compared_the_right_way_round() -> None:
    rounds = {
        ratios.ONE: {1: figures(20.0, step=50.0)},
        ratios.PAIR: {1: figures(32.0, step=60.0)},
        "engine, 1 lane with an adapter": {1: figures(10.0)},
        "two processes, a lane each": {1: figures(16.0)},
        "engine, prompt of 200": {1: {"first_ms": 300.0}},
        "llama.cpp, prompt of 200": {1: {"first_ms": 1200.0}},
    }
    found, missing = ratios.compute(rounds)
    # One after the other: a token of each takes 1/20 + 1/10 s, so 40/3 tokens a second.
    assert found == pytest.approx(
        {"compare2_step": 1.2, "one_after_other": 2.4, "two_processes": 2.0, "ttft_vs_llamacpp": 0.25}
    )
    assert missing["vs_transformers"] == "not measured: generate(), 1 row"
    assert set(found) | set(missing) == {ratio.key for ratio in ratios.RATIOS}


def test_a_goal_is_reached_from_its_own_side() -> None:
    by_key = {ratio.key: ratio for ratio in ratios.RATIOS}
    assert by_key["compare2_step"].reached(1.25) and not by_key["compare2_step"].reached(1.26)
    assert by_key["vs_serve_4"].reached(3.0) and not by_key["vs_serve_4"].reached(2.9)
    assert by_key["vs_peft"].reached(0.1) is None


def test_the_share_of_the_bandwidth_is_the_weights_a_second_over_what_can_be_read() -> None:
    rounds = {ratios.ONE: {1: figures(1.0, step=100.0)}, "memory, read": {1: {"gb_per_second": 10.0}}}
    assert ratios.bandwidth_share(rounds, 500_000_000) == pytest.approx(0.5)
    assert ratios.bandwidth_share(rounds, None) is None
    assert ratios.bandwidth_share({}, 500_000_000) is None
