"""One measurement from beginning to end: assemble the contestants, let them take turns, compute the ratios."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models_backend import registry
from models_backend.bench import cast as casting
from models_backend.bench import machine, memory, ratios, rounds
from models_backend.bench.cases import WIDE, Stage
from models_backend.bench.cast import Cast, Say
from models_backend.bench.process import Lost
from models_backend.bench.sample import TooShort, middle
from models_backend.bench.texts import Prompts
from models_backend.config import Settings
from models_backend.text import processor
from models_backend.text.contract import EngineError

# Many short rounds rather than a few long ones: the cases of a round then see the same neighbours.
QUICK = (7, 16, 480.0)  # rounds, tokens, seconds after which no round begins
LONG = (15, 48, 3600.0)
MB = 1e6
COMPARE_SECONDS = 240.0


def measure(
    settings: Settings,
    quick: bool,
    say: Say,
    peers: tuple[str, ...] = casting.PEERS,
    plan: tuple[int, int, float] | None = None,
) -> dict[str, Any]:
    """The report of one model. Raises EngineError if it is not there or its engine cannot be measured."""
    most, tokens, seconds = plan or (QUICK if quick else LONG)
    began = time.monotonic()
    settings = settings.model_copy(update={"slots": max(WIDE, settings.slots), "home": settings.home.absolute()})
    folder = _folder(settings)
    threads = settings.threads or processor.cores()
    facts = {"model": settings.model, **machine.facts()}
    with tempfile.TemporaryDirectory(prefix="diptych-bench-") as scratch:
        precision, why_not = _precision(settings, threads, say)
        with casting.assembled(settings, threads, peers, Path(scratch), say) as cast:
            stage = Stage(cast.there, Prompts(folder), tokens)
            try:
                stage.settle()
            except (Lost, TooShort) as error:
                raise EngineError("bench_failed", f"The engine cannot be measured: {error}") from None
            settled = {name: _resident(cast, name) for name in ("engine", "one of two", "other of two")}
            settled["two"] = _resident(cast, "one of two", "other of two")
            played = rounds.play(stage.cases(), most, seconds - (time.monotonic() - began), say)
            own = cast.there["engine"].ask("facts")
            held = {name: size for name in cast.there if (size := _resident(cast, name)) is not None}
            loads = {name: round(one.load_seconds, 1) for name, one in cast.there.items()}
    found, missing = ratios.compute(played.figures)
    found |= _others(settled, played.figures, own, precision)
    left_out = {**cast.left_out, **played.left_out, **missing}
    left_out |= {key: _why(key, why_not) for key in ratios.OTHERS if key not in found}
    return {
        "ratios": {key: _rounded(value) for key, value in found.items()},
        "facts": facts
        | {name: own[name] for name in ("device", "precision", "threads")}
        | {"rounds": played.rounds, "tokens": tokens, "load_s": round(own["load_s"], 2)}
        | {"took_s": round(time.monotonic() - began)},
        "cases": {
            name: {key: _rounded(value) for key, value in middle(rounds.pick(played.figures, name)).items()}
            | {"rounds": len(played.figures[name])}
            for name in played.figures
        },
        "memory": {name: round(size / MB) for name, size in held.items()},
        "precision": precision,
        "starts_s": loads,
        "left_out": left_out,
        "rounds": {case: {str(number): of for number, of in each.items()} for case, each in played.figures.items()},
    }


def _folder(settings: Settings) -> Path | None:
    if settings.engine == "fake":
        return None
    if settings.engine != "torch":
        raise EngineError(
            "not_here", f"The bench measures models on this machine, and not DIPTYCH_ENGINE={settings.engine}."
        )
    entries = {entry.id: entry for entry in registry.models(settings.home)}
    entry = entries.get(settings.model)
    if entry is None or entry.base is not None or entry.folder is None:
        raise EngineError("not_installed", f"{settings.model} is not here: python -m models_backend pull")
    return entry.folder


def _precision(settings: Settings, threads: int, say: Say) -> tuple[dict[str, Any] | None, str]:
    """How far what runs is from float32, by a contestant that is gone before the others come."""
    if settings.engine == "fake":
        return None, "the fake engine has no weights"
    say("Comparing with float32")
    try:
        with casting.alone("faithful", settings, threads) as process:
            return process.ask("compare", seconds=COMPARE_SECONDS), ""
    except Lost as error:
        return None, str(error)


def _resident(cast: Cast, *names: str) -> int | None:
    if not all(name in cast.there for name in names):
        return None
    return memory.resident([pid for name in names for pid in cast.there[name].pids()])


def _others(
    settled: Mapping[str, int | None],
    figures: ratios.Rounds,
    own: Mapping[str, Any],
    precision: Mapping[str, Any] | None,
) -> dict[str, float]:
    """The figures of ratios.OTHERS that can be told."""
    found: dict[str, float | None] = {
        "bandwidth_share": ratios.bandwidth_share(figures, own.get("weight_bytes")),
    }
    one, two = settled["engine"], settled["two"]
    first, second = settled["one of two"], settled["other of two"]
    if one is not None:
        found["memory"] = one / MB
        found["compare2_memory"] = one / (first + second) if first and second else None
        found["compare2_memory_shared"] = one / two if two else None
    if "engine, Stop" in figures:
        found["cancel_ms"] = middle(rounds.pick(figures, "engine, Stop"))["ms"]
    if precision is not None:
        ways = (precision["read"], precision["decoded"])
        found["kl_default"] = max(way["kl"] for way in ways)
        found["top1_default"] = min(way["top1"] for way in ways)
    return {key: value for key, value in found.items() if value is not None}


def _why(key: str, why_not: str) -> str:
    if key in ("kl_default", "top1_default"):
        return f"not measured: {why_not}"
    if "memory" in key:
        return "not measured: this system does not tell, or there were no two processes"
    return "not measured: the size of the weights or a case is missing"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
