"""Options that cannot be met are refused before anything is measured."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models_backend.__main__ import app
from models_backend.bench import report
from models_backend.bench.command import bench
from models_backend.bench.run import measure
from models_backend.config import Settings
from models_backend.text.contract import EngineError

FAKE = Settings(engine="fake")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"shapes": ["70b"]}, "70b"),
        ({"shapes": ["../etc"]}, "etc"),
        ({"without": ["vllm"]}, "vllm"),
        ({"out": Path("/no/such/folder/r.json")}, "r.json"),
        ({"out": Path("/tmp")}, "/tmp"),
        ({"earlier": Path("/no/report.json")}, r"report\.json"),
        ({"earlier": Path("/no/report.json"), "shapes": ["1b"]}, "--shape"),
        ({"shapes": ["tiny"]}, "fake"),
    ],
)
def test_an_option_that_cannot_be_met_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(report.BadReport, match=named):
        bench(FAKE, **options)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nobody is not here: .*pull"):
        measure(Settings(home=tmp_path, model="nobody"), True, lambda text: None)


def test_a_server_elsewhere_is_not_measured() -> None:
    with pytest.raises(EngineError, match="DIPTYCH_ENGINE=remote"):
        measure(Settings(engine="remote"), True, lambda text: None)


def test_the_command_tells_a_refusal_in_a_sentence() -> None:
    result = CliRunner().invoke(app, ["bench", "--shape", "70b"])
    assert result.exit_code == 1
    assert "No shape is called 70b" in result.output


def test_an_earlier_report_is_shown_and_written_again(tmp_path: Path) -> None:
    old = {"ratios": {"compare2_step": 1.2}, "facts": {"device": "cpu"}, "cases": {}, "left_out": {}}
    report.write(old, tmp_path / "old.json")
    bench(FAKE, earlier=tmp_path / "old.json", out=tmp_path / "new.json")
    assert report.read(tmp_path / "new.json") == old
