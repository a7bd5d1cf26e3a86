"""The number of threads, and how they wait."""

import os

import pytest

from models_backend.config import Settings
from models_backend.text import threads

NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what the test sets is undone
        monkeypatch.delenv(name)


def test_as_many_as_there_are_cores_and_waiting_threads_give_theirs_away() -> None:
    count = threads.configure(Settings(threads=None))
    assert count >= 1
    assert {name: os.environ[name] for name in NAMES} == {
        "OMP_NUM_THREADS": str(count),
        "MKL_NUM_THREADS": str(count),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }


def test_the_setting_wins_over_the_cores() -> None:
    assert threads.configure(Settings(threads=3)) == 3


def test_what_is_set_from_outside_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert threads.configure(Settings(threads=2)) == 5
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
