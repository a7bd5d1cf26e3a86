"""Which remote engines a worker has: one for each server that the settings name. Asks none of them yet."""

from functools import partial

from models_backend import registry
from models_backend.config import Settings
from models_backend.engine import Engine

from .engine import RemoteEngine
from .upstreams import read_remotes


def open_remotes(settings: Settings, worker_name: str) -> dict[str, Engine]:
    """Return the engines by the names of their servers. Raises EngineError when the settings are wrong.

    Models have the ids that their server gives them, behind its name where others answer beside it.
    """
    remotes = read_remotes(settings)
    alone = len(remotes) == 1 and settings.engine == "remote"
    installed = partial(registry.models, settings.home)
    return {
        remote.spec.name: RemoteEngine(remote, worker_name, "" if alone else f"{remote.spec.name}/", installed)
        for remote in remotes
    }
