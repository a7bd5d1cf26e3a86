"""Figures follow from the times at which tokens came."""

import pytest

from models_backend.bench.sample import TooShort, first_ms, middle, of_streams, together


def test_figures_follow_from_the_times_of_the_tokens() -> None:
    figures = of_streams(10.0, [[10.5, 11.0, 11.25, 12.5], [10.5, 11.0, 11.25, 12.5]])
    assert figures == {"tokens_per_second": 3.0, "first_ms": 500.0, "step_ms": 500.0}


def test_only_the_time_in_which_every_lane_speaks_is_counted() -> None:
    early, late = [1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    figures = of_streams(0.0, [early, late])
    assert figures == {"tokens_per_second": 2.0, "first_ms": 3000.0, "step_ms": 1000.0}


@pytest.mark.parametrize(
    "streams", [[], [[]], [[1.0, 2.0, 3.0], []], [[1.0, 2.0]], [[1.0, 1.0, 1.0]], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]
)
def test_lanes_that_hardly_speak_together_give_no_speed(streams: list[list[float]]) -> None:
    with pytest.raises(TooShort):
        of_streams(0.0, streams)


def test_the_first_token_of_a_run_is_that_of_its_last_lane() -> None:
    assert first_ms(1.0, [[1.5], [2.0]]) == 1000.0


def test_the_middle_is_taken_of_each_figure() -> None:
    samples = [{"a": 1.0, "b": 30.0}, {"a": 3.0, "b": 10.0}, {"a": 2.0, "b": 20.0}]
    assert middle(samples) == {"a": 2.0, "b": 20.0}


def test_two_processes_are_counted_as_one_from_the_first_beginning() -> None:
    replies = [{"began": 2.0, "streams": [[3.0]]}, {"began": 1.0, "streams": [[4.0], [5.0]]}]
    assert together(replies) == (1.0, [[3.0], [4.0], [5.0]])
