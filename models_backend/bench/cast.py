"""Who takes part: starts every contestant that can be had, and says of the others why not."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models_backend import registry
from models_backend.bench import adapters, gguf_file
from models_backend.bench.process import Lost, Process, environment
from models_backend.config import Settings
from models_backend.registry import store
from models_backend.text.contract import EngineError

MANY = 8  # adapters of the engine that has many
PEERS = ("generate", "peft", "batching", "serve", "llamacpp")
GPU_PEERS = ("generate",)  # a card holds a few models of 8B, not eight
Say = Callable[[str], None]


@dataclass(slots=True)
class Cast:
    """Contestants by name, and why those that are not there are not."""

    there: dict[str, Process] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@contextmanager
def assembled(settings: Settings, threads: int, peers: tuple[str, ...], scratch: Path, say: Say) -> Iterator[Cast]:
    """All contestants, loaded one after the other and at rest; ended at the end. Raises EngineError without an engine.

    Two processes share the cores, as the lanes of one process do.
    """
    cast = Cast()
    everybody = environment(settings.model_dump(), threads)
    try:
        for name, kind, options, own in _wanted(settings, threads, peers, scratch, cast):
            say(f"Starting {name}")
            try:
                cast.there[name] = Process(kind, options, {**everybody, **own})
            except Lost as error:
                if name == "engine":
                    raise EngineError("load_failed", f"The engine did not start: {error}") from None
                cast.left_out[name] = str(error)
        yield cast
    finally:
        for process in cast.there.values():
            process.close()


@contextmanager
def alone(kind: str, settings: Settings, threads: int, **options: Any) -> Iterator[Process]:
    """One contestant for a single question. Raises Lost."""
    process = Process(kind, {"model": settings.model, **options}, environment(settings.model_dump(), threads))
    try:
        yield process
    finally:
        process.close()


def _wanted(
    settings: Settings, threads: int, peers: tuple[str, ...], scratch: Path, cast: Cast
) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, str]]]:
    """(name, kind, options, environment) of each that can be had; the others are noted in `cast`."""
    model = {"model": settings.model}
    if settings.engine == "fake":
        yield "engine", "engine", {**model, "adapters": []}, {}
        yield "neighbour", "neighbour", {}, {}
        cast.left_out |= dict.fromkeys(("eight", "two processes", *peers), "the fake engine has no weights")
        return
    many = adapters.of(settings.model, settings.home, MANY, scratch)
    yield "engine", "engine", {**model, "adapters": many[:1]}, {}
    yield "eight", "engine", {**model, "adapters": many}, {}
    yield "bandwidth", "bandwidth", {}, {}
    yield "neighbour", "neighbour", {}, {}
    gpu = cast.there["engine"].ask("facts")["device"] not in ("cpu", "mps")
    if gpu:
        cast.left_out["two processes"] = "not on a GPU, where two processes take turns"
    else:
        half = str(max(1, threads // 2))
        fewer = {"DIPTYCH_THREADS": half, "OMP_NUM_THREADS": half, "MKL_NUM_THREADS": half}
        yield "one of two", "engine", model, fewer
        yield "other of two", "engine", model, {**fewer, "DIPTYCH_HOME": str(_own_copy(settings, scratch))}
    for peer in PEERS:
        why = None if peer in peers else "not asked for"
        if peer in peers and gpu and peer not in GPU_PEERS:
            why = "not on a GPU"
        options: dict[str, Any] = dict(model)
        if peer == "peft":
            options["adapter"] = many[0][1]
        elif peer == "serve":
            options |= {"dtype": "float32", "device": "cpu"}
        elif peer == "llamacpp" and why is None:
            file = gguf_file.find(settings.model, settings.home)
            options |= {"gguf": str(file), "threads": threads, "slots": settings.slots}
            if importlib.util.find_spec("llama_cpp") is None:
                why = "llama-cpp-python is not installed: pip install 'diptych[bench]'"
            elif file is None:
                why = "its GGUF file is not here: python -m models_backend bench --fetch-gguf"
        if why is None:
            yield peer, peer, options, {}
        else:
            cast.left_out[peer] = why


def _own_copy(settings: Settings, scratch: Path) -> Path:
    """A home whose base is a copy: two models, say a base and a merged one, do not share their files' pages either."""
    folder = registry.find(settings.model, settings.home).folder
    assert folder is not None
    home = scratch / "home"
    shutil.copytree(folder, store.root(home) / folder.name)
    return home
