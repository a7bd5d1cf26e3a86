"""Shows progress to a person: a bar on a terminal, and on a pipe one line when a phase begins and at each quarter."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from models_backend.registry.progress import PHASES, Progress, Watcher

QUARTERS = 4
console = Console()


@contextmanager
def screen() -> Iterator[Watcher]:
    """A watcher that draws while the body runs."""
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Amount(), TimeElapsedColumn())
    with Bars(*columns, console=console) as bars:
        drawn = _Bars(bars)
        yield drawn
        drawn.finish()


class _Amount(DownloadColumn):
    """Megabytes for bytes, plain numbers for what is counted, nothing where only the phase is known."""

    def render(self, task: Task) -> Text:
        if not task.fields["counted"]:
            return Text("")
        return super().render(task) if task.fields["unit"] == "bytes" else MofNCompleteColumn().render(task)


class _Bars:
    """One bar a phase; a phase without an amount of its own pulses until the next begins."""

    def __init__(self, bars: Bars) -> None:
        self.bars, self.phase = bars, ""
        self.task: TaskID | None = None

    def __call__(self, seen: Progress) -> None:
        counted = seen.total is not None and seen.unit != PHASES
        if self.task is None or seen.phase != self.phase:
            self.finish()
            self.phase = seen.phase
            self.task = self.bars.add_task(seen.phase, total=None, unit=seen.unit, counted=counted)
        if counted:
            self.bars.update(self.task, completed=seen.done, total=seen.total)

    def finish(self) -> None:
        """Fill the bar of the phase that has ended."""
        if self.task is not None:
            total = self.bars.tasks[self.task].total or 1
            self.bars.update(self.task, completed=total, total=total)


class _Lines:
    def __init__(self) -> None:
        self.phase, self.quarter = "", 0

    def __call__(self, seen: Progress) -> None:
        quarter = seen.done * QUARTERS // seen.total if seen.total else 0
        if seen.phase != self.phase:
            print(seen.phase, flush=True)
        elif quarter > self.quarter and seen.unit != PHASES:
            print(f"{seen.phase}: {quarter * 100 // QUARTERS} %", flush=True)
        self.phase, self.quarter = seen.phase, quarter


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows in columns, the first row being the heads. Never cut to a terminal's width: ids are there to be copied."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fail(text: object) -> None:
    """Say what went wrong, on stderr and without a traceback."""
    print(text, file=sys.stderr)
