"""A report is the same after it was written, and reaches the docs between its marks alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from models_backend.bench import report
from models_backend.bench.report import BadReport


def a_report(device: str = "cpu") -> dict[str, Any]:
    return {
        "ratios": {"compare2_step": 1.3, "vs_peft": 2.0, "memory": 1253.0, "kl_default": 0.002},
        "facts": {"model": "m", "cpu": "Some Processor", "device": device, "threads": 2},
        "cases": {
            "engine, 1 lane": {"tokens_per_second": 20.0, "first_ms": 300.0, "step_ms": 50.0, "rounds": 3},
            "engine, prompt of 200": {"first_ms": 400.0, "rounds": 3},
            "engine, Stop": {"ms": 12.0, "worst_ms": 30.0, "rounds": 3},
            "memory, read": {"gb_per_second": 15.0, "rounds": 3},
        },
        "memory": {"engine": 1253},
        "precision": {
            "precision": "float32", "positions": 600, "read": {"kl": 0.0, "worst_kl": 0.0, "top1": 1.0},
            "decoded": {"kl": 0.001, "worst_kl": 0.1, "top1": 0.99},
        },
        "left_out": {"llamacpp": "llama-cpp-python is not installed", "two | pipes": "why"},
    }  # fmt: skip


def test_a_report_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    report.write(a_report(), tmp_path / "r.json")
    assert report.read(tmp_path / "r.json") == a_report()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"ratios": []}', '{"ratios": {}, "facts": {}, "cases": 1}', "null"])
def test_what_is_no_report_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadReport, match=r"r\.json"):
        report.read(tmp_path / "r.json")


def test_a_report_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadReport, match="nowhere"):
        report.read(tmp_path / "nowhere")


def test_a_huge_report_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "r.json").open("wb") as file:
        file.truncate(report.LONGEST + 1)
    with pytest.raises(BadReport, match="too large"):
        report.read(tmp_path / "r.json")


def test_the_section_names_the_machine_the_goals_and_what_was_left_out() -> None:
    text = report.section(a_report())
    assert "cpu Some Processor" in text
    assert "| 1.3 | at most 1.25 | **not reached** |" in text
    assert "| 0.002 | at most 0.01 | reached |" in text
    assert "| engine, 1 lane | 20 | 300 | 50 |" in text
    assert "- llamacpp: llama-cpp-python is not installed" in text


def test_only_what_is_between_the_marks_of_the_device_changes(tmp_path: Path) -> None:
    page = tmp_path / "p.md"
    page.write_text(
        "a\n<!-- bench cpu -->\nold\n<!-- bench cpu end -->\nb\n<!-- bench gpu -->\n<!-- bench gpu end -->\n"
    )
    report.into_docs(a_report(), page)
    once = page.read_text()
    assert once.startswith("a\n<!-- bench cpu -->\nmodel m") and "old" not in once
    assert once.endswith("<!-- bench cpu end -->\nb\n<!-- bench gpu -->\n<!-- bench gpu end -->\n")
    report.into_docs(a_report(), page)
    assert page.read_text() == once
    report.into_docs(a_report("NVIDIA H100"), page)
    assert page.read_text().count("device NVIDIA H100") == 1


def test_a_page_without_marks_is_refused_and_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "p.md"
    page.write_text("<!-- bench cpu -->\n")
    with pytest.raises(BadReport, match="bench cpu end"):
        report.into_docs(a_report(), page)
    assert page.read_text() == "<!-- bench cpu -->\n"


def test_the_projects_own_page_has_the_marks() -> None:
    text = report.DOCS.read_text()
    for device in ("cpu", "gpu"):
        assert text.index(f"<!-- bench {device} -->") < text.index(f"<!-- bench {device} end -->")


def test_a_report_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(a_report())
    shown = capsys.readouterr().out
    assert "compare2_step" in shown and "Left out: llamacpp" in shown
    json.dumps(a_report())
