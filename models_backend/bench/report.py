"""A report as a table, as JSON, and as the section of the docs that is made from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models_backend.bench import ratios

Report = dict[str, Any]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
LONGEST = 64 << 20  # bytes of a report that is read


class BadReport(Exception):
    """A file that is no report, or a page without the place for one; says what to do."""


def show(report: Report) -> None:
    """Print it."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(_machine(report), highlight=False)
    cases = Table("case", "tokens/s", "ms to first token", "ms per step", "rounds")
    for name, of in report["cases"].items():
        cases.add_row(name, *_cells(of), str(of["rounds"]))
    console.print(cases)
    table = Table("ratio", "measured", "goal", "what")
    for key, value in report["ratios"].items():
        says, goal, reached = _promise(key, value)
        mark = "" if reached is None else "[green]reached[/]" if reached else "[red]not reached[/]"
        table.add_row(key, _number(value), f"{goal} {mark}".strip(), says)
    console.print(table)
    for name, why in report["left_out"].items():
        console.print(f"Left out: {name}: {why}", highlight=False, markup=False)


def write(report: Report, file: Path) -> None:
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def read(file: Path) -> Report:
    """Raises BadReport."""
    try:
        if file.stat().st_size > LONGEST:
            raise BadReport(f"{file} is too large to be a report of the bench.")
        found = json.loads(file.read_text(encoding="utf-8"))
        parts = {"facts": dict, "cases": dict, "ratios": dict, "left_out": dict}
        if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in parts.items()):
            raise BadReport(f"{file} is not a report of the bench: it lacks one of {', '.join(parts)}.")
    except (OSError, ValueError) as error:
        raise BadReport(f"{file} cannot be read as a report of the bench: {error}") from None
    return found


def into_docs(report: Report, page: Path = DOCS) -> None:
    """Put the report's section between the marks of its device on the page. Raises BadReport if there are none."""
    device = "cpu" if report["facts"].get("device") in ("cpu", "mps", "fake") else "gpu"
    begin, end = f"<!-- bench {device} -->", f"<!-- bench {device} end -->"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise BadReport(f"{page} has no lines {begin} and {end} to put the figures between.")
    sections = "\n".join(section(one) for one in (report, *report.get("shapes", ())))
    page.write_text(f"{before}{begin}\n{sections}{end}{after}", encoding="utf-8")


def section(report: Report) -> str:
    """Markdown: the machine, the ratios with their goals, the cases, and what was left out and why."""
    lines = [_machine(report), ""]
    lines += ["| ratio | measured | goal | |", "| --- | --- | --- | --- |"]
    for key, value in report["ratios"].items():
        says, goal, reached = _promise(key, value)
        mark = "" if reached is None else "reached" if reached else "**not reached**"
        lines.append(f"| `{key}`: {says} | {_number(value)} | {goal} | {mark} |")
    lines += ["", "| case | tokens/s | ms to first token | ms per step |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {' | '.join(_cells(of))} |" for name, of in report["cases"].items()]
    if report.get("memory"):
        held = ", ".join(f"{name} {size:,} MB" for name, size in report["memory"].items())
        lines += ["", f"Memory at the end, shared pages once: {held}."]
    if report.get("precision"):
        lines += ["", _precision(report["precision"])]
    if report["left_out"]:
        lines += ["", "Left out:"]
        lines += [f"- {name}: {why}" for name, why in report["left_out"].items()]
    return "\n".join([*lines, ""])


def _machine(report: Report) -> str:
    facts: Mapping[str, Any] = report["facts"]
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()) + "."


def _precision(found: Mapping[str, Any]) -> str:
    read, decoded = found["read"], found["decoded"]
    return (
        f"What runs by default ({found['precision']}) against the float32 model, {found['positions']} positions of "
        f"fixed texts: read in one piece KL {read['kl']:.2g} nats (worst {read['worst_kl']:.2g}), same top token "
        f"{read['top1']:.1%}; token by token KL {decoded['kl']:.2g} (worst {decoded['worst_kl']:.2g}), "
        f"{decoded['top1']:.1%}."
    )


def _promise(key: str, value: float) -> tuple[str, str, bool | None]:
    """(what it says, its goal in words, whether it is reached)."""
    for ratio in ratios.RATIOS:
        if ratio.key == key:
            return ratio.says, _goal(ratio.goal, ratio.better), ratio.reached(value)
    says, goal, better = ratios.OTHERS.get(key, (key, None, "high"))
    reached = None if goal is None else value <= goal if better == "low" else value >= goal
    return says, _goal(goal, better), reached


def _goal(goal: float | None, better: str) -> str:
    return "" if goal is None else f"at {'most' if better == 'low' else 'least'} {goal:g}"


def _cells(of: Mapping[str, float]) -> list[str]:
    cells = [_number(of[name]) if name in of else "" for name in ("tokens_per_second", "first_ms", "step_ms")]
    if "gb_per_second" in of:
        cells[0] = f"{of['gb_per_second']:.1f} GB/s"
    if "ms" in of:
        cells[2] = f"{of['ms']:.1f} (worst {of['worst_ms']:.1f})"
    return cells


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"
