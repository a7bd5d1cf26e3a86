"""The bench counts what it says it counts."""

import pytest

from models_backend import bench
from models_backend.config import Settings
from models_backend.text import fake
from models_backend.text.contract import EngineError
from models_backend.text.open import open_engines
from tests.text import tiny


def test_figures_follow_from_the_times_of_the_steps() -> None:
    sample = bench._sample(10.0, [10.5, 11.0, 11.25, 12.5], lanes=2)
    assert sample == bench.Sample(tokens_per_second=3.0, first_ms=500.0, step_ms=500.0)


def test_the_middle_is_taken_of_each_figure() -> None:
    samples = [bench.Sample(1.0, 30.0, 5.0), bench.Sample(3.0, 10.0, 4.0), bench.Sample(2.0, 20.0, 9.0)]
    assert bench._middle(samples) == bench.Sample(2.0, 20.0, 5.0)


def test_only_steps_in_which_every_lane_speaks_are_counted() -> None:
    engine = open_engines(Settings(engine="fake"), "bench")[fake.BASE]
    engine.load()
    sample = bench._engine_round(engine, [fake.BASE, fake.SHOUT], 6)
    assert sample.tokens_per_second > 0
    assert not engine.busy


def test_generate_is_timed_once_a_step_for_all_its_rows() -> None:
    import torch

    clocks = []

    class Counted(bench._Clock):
        def __init__(self) -> None:
            super().__init__()
            clocks.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "_Clock", Counted)
        bench._generate_round(tiny.model(), torch.tensor([[1, 2, 3]]).expand(4, -1), 5, {})
    assert [len(clock.times) for clock in clocks] == [5]


def test_ratios_compare_cases_of_the_same_run() -> None:
    figures = {
        "generate(), 1 row": bench.Sample(10, 1, 100),
        "engine, 1 lane": bench.Sample(20, 1, 50),
        "engine, 2 lanes, base twice": bench.Sample(36, 1, 55),
        "PEFT, base and adapter": bench.Sample(16, 1, 120),
        "engine, base and adapter": bench.Sample(32, 1, 60),
        "engine, 4 lanes, two adapted": bench.Sample(50, 1, 80),
        "generate(), 4 rows": bench.Sample(40, 1, 100),
    }
    values = list(bench._ratios(figures).values())
    assert values == pytest.approx([2.0, 1.2, 2.0, 1.6, 60 / 55, 1.25])


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineError, match="pull"):
        bench.bench(Settings(engine="fake", model="nobody"), True, lambda text: None)
