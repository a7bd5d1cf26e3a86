"""All engines of a worker: those of the models on this machine, and one for each server elsewhere."""

from models_backend.config import Settings
from models_backend.engine import Engine
from models_backend.remote.open import open_remotes
from models_backend.text.open import open_engines as open_local


def open_engines(settings: Settings, worker_name: str) -> dict[str, Engine]:
    """Return the engines by a name of their own. None has its model in memory, or has asked its server, yet.

    Raises EngineError when the list of servers cannot be read.
    """
    engines: dict[str, Engine] = {}
    if settings.engine != "remote":
        engines.update(open_local(settings, worker_name))
    for name, remote in open_remotes(settings, worker_name).items():
        engines[f"remote {name}"] = remote
    return engines
