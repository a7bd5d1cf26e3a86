"""The command: measure, print, write JSON, put the figures into the docs."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models_backend.bench import cast, gguf_file, report, synthetic
from models_backend.bench.process import Lost
from models_backend.bench.report import BadReport
from models_backend.bench.run import measure
from models_backend.config import Settings
from models_backend.text.contract import EngineError


def bench(
    settings: Settings,
    quick: bool = False,
    out: Path | None = None,
    docs: bool = False,
    earlier: Path | None = None,
    fetch_gguf: bool = False,
    shapes: Sequence[str] = (),
    without: Sequence[str] = (),
) -> None:
    """Measure (or, with `earlier`, read what was measured), print, write. Progress goes to stderr.

    With `fetch_gguf` the file that llama.cpp reads is fetched, and nothing is measured.
    Options that cannot be met are refused before anything is measured. Raises EngineError, BadReport, RegistryError.
    """
    _check(out, docs, earlier, shapes, without)
    if fetch_gguf:
        _say(f"llama.cpp reads {gguf_file.fetch(settings.model, settings.home, _say)}")
        return
    if earlier is not None:
        found = report.read(earlier)
    elif shapes:
        found = _shapes(settings, quick, shapes, without)
    else:
        found = measure(settings, quick, _say, _peers(without))
    for one in (found, *found.get("shapes", ())):
        report.show(one)
    if out is not None:
        report.write(found, out)
    if docs:
        report.into_docs(found)


def _check(out: Path | None, docs: bool, earlier: Path | None, shapes: Sequence[str], without: Sequence[str]) -> None:
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise BadReport(f"{out} cannot be written: give a file in a folder that is there.")
    if docs and not report.DOCS.is_file():
        raise BadReport(f"There is no page {report.DOCS} to put the figures into.")
    unknown = [shape for shape in shapes if shape not in synthetic.SHAPES]
    if unknown:
        raise BadReport(f"No shape is called {unknown[0]}. There are: {', '.join(synthetic.SHAPES)}.")
    strangers = [peer for peer in without if peer not in cast.PEERS]
    if strangers:
        raise BadReport(f"Nobody is called {strangers[0]}. There are: {', '.join(cast.PEERS)}.")
    if earlier is not None and (shapes or without):
        raise BadReport("--from reads what was measured: --shape and --without have no meaning beside it.")


def _shapes(settings: Settings, quick: bool, shapes: Sequence[str], without: Sequence[str]) -> dict[str, Any]:
    """Random weights of the wanted shapes, one after the other: the first one's report, with the others in `shapes`."""
    if settings.engine == "fake":
        raise BadReport("--shape makes weights, and the fake engine has none: unset DIPTYCH_ENGINE.")
    reports = []
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="diptych-shape-") as home:
            own = settings.model_copy(update={"home": Path(home), "model": synthetic.name_of(shape)})
            _say(f"Making random weights: {shape}")
            try:
                with cast.alone("synthetic", own, settings.threads or 1, shape=shape, home=home) as maker:
                    maker.ask("write", seconds=600)
            except Lost as error:
                raise EngineError("bench_failed", f"The weights of {shape} cannot be made: {error}") from None
            reports.append(measure(own, quick, _say, _peers(without)))
    return reports[0] | {"shapes": reports[1:]}


def _peers(without: Sequence[str]) -> tuple[str, ...]:
    return tuple(peer for peer in cast.PEERS if peer not in without)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
