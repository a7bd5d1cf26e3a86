"""A contestant answers line by line, stays still out of turn, and its end is noticed."""

import io
import json
import os
import time
from pathlib import Path

import pytest

from models_backend.bench.contestant import answers
from models_backend.bench.process import Lost, Process, environment
from models_backend.config import Settings


def said(text: str) -> list[dict[str, object]]:
    return list(answers({"double": lambda number: number * 2}, io.StringIO(text)))


def test_a_job_is_a_line_and_so_is_its_reply() -> None:
    assert said('{"job": "double", "number": 4}\n{"job": "double", "number": 5}\n') == [{"ok": 8}, {"ok": 10}]


@pytest.mark.parametrize(
    "line", ["", "x", "[]", "{}", '{"job": "none"}', '{"job": "double"}', '{"job": "double", "a": 1}']
)
def test_a_job_that_cannot_be_done_is_told_and_the_next_is_done(line: str) -> None:
    first, second = said(f'{line}\n{{"job": "double", "number": 1}}\n')
    assert "error" in first
    assert second == {"ok": 2}


@pytest.fixture
def neighbour() -> Process:
    process = Process("neighbour", {}, environment(Settings(home=Path("var")).model_dump(), 1))
    yield process  # type: ignore[misc]
    process.close()


def test_a_contestant_out_of_turn_uses_no_time(neighbour: Process) -> None:
    """The neighbour would spin if it were let."""

    def look() -> list[str]:
        return Path(f"/proc/{neighbour.pids()[0]}/stat").read_text().rpartition(")")[2].split()

    def used() -> int:
        return sum(map(int, look()[11:13]))

    if not Path("/proc/self/stat").exists():
        pytest.skip("only Linux tells")
    while look()[0] != "T":  # the signal is on its way
        time.sleep(0.01)
    before = used()
    time.sleep(0.1)
    assert used() == before
    neighbour.resume()
    while used() == before:
        time.sleep(0.01)


def test_a_job_that_fails_leaves_the_contestant_there(neighbour: Process) -> None:
    for _ in range(2):
        with pytest.raises(Lost, match="KeyError"):
            neighbour.ask("no such job")


def test_a_contestant_that_dies_is_noticed(neighbour: Process) -> None:
    os.kill(neighbour.pids()[0], 9)
    with pytest.raises(Lost, match="it ended"):
        neighbour.ask("anything")


def test_a_contestant_that_cannot_start_says_why() -> None:
    with pytest.raises(Lost, match="KeyError"):
        Process("nobody", {}, environment({}, 1))


def test_settings_and_threads_reach_a_contestant(tmp_path: Path) -> None:
    found = environment(Settings(home=tmp_path, slots=16, threads=7).model_dump(), 3)
    assert (found["DIPTYCH_HOME"], found["DIPTYCH_SLOTS"]) == (str(tmp_path), "16")
    assert found["DIPTYCH_THREADS"] == found["OMP_NUM_THREADS"] == "3"
    json.dumps(found)


def test_a_secret_is_not_overwritten_by_its_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_REMOTE_KEY", "sk-1")
    assert environment(Settings().model_dump(), 1)["DIPTYCH_REMOTE_KEY"] == "sk-1"
