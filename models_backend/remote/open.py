"""Which remote engines a worker has."""

from models_backend.config import Settings
from models_backend.engine import Engine


def open_remotes(settings: Settings, worker_name: str) -> dict[str, Engine]:
    """Return an engine for each server that the settings name."""
    return {}
