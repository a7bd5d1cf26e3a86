"""The number of threads is measured once for a processor and a model."""

import json
from pathlib import Path

import pytest

from models_backend.text.native import tuning

from . import models


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 9.5}, 1),
        ({1: 10.0, 2: 5.5}, 2),
        ({1: 10.0, 2: 5.5, 4: 5.4, 8: 3.0}, 8),
        ({1: 10.0, 2: 30.0, 3: 20.0}, 1),
    ],
)
def test_a_further_core_must_be_worth_it(times: dict[int, float], chosen: int) -> None:
    assert tuning.choose(times) == chosen


def test_the_counts_tried_end_with_all_cores() -> None:
    assert [tuning.candidates(cores) for cores in (1, 2, 6, 16)] == [[1], [1, 2], [1, 2, 4, 5, 6], [1, 2, 4, 8, 15, 16]]


def test_what_was_measured_is_remembered_and_other_machines_measure_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = models.runner(models.model("llama"))
    times = {1: 9.0, 2: 1.0}
    monkeypatch.setattr(tuning, "measure", lambda runner, counts: times)
    monkeypatch.setattr(tuning.processor, "cores", lambda: 2)
    assert tuning.pick_threads(runner, tmp_path) == 2
    times[2] = 100.0
    assert tuning.pick_threads(runner, tmp_path) == 2  # from the file
    known = json.loads((tmp_path / tuning.NAME).read_text())
    known["machine"]["processor"] = "another"
    (tmp_path / tuning.NAME).write_text(json.dumps(known))
    assert tuning.pick_threads(runner, tmp_path) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": 1, "threads": "x"}'])
def test_a_damaged_file_is_measured_anew(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / tuning.NAME).write_text(text)
    monkeypatch.setattr(tuning, "measure", lambda runner, counts: dict.fromkeys(counts, 1.0))
    assert tuning.pick_threads(models.runner(models.model("llama")), tmp_path) == 1


def test_measuring_runs_passes_with_each_count() -> None:
    runner = models.runner(models.model("llama"))
    found = tuning.measure(runner, [1, 2])
    assert set(found) == {1, 2} and all(seconds > 0 for seconds in found.values())
