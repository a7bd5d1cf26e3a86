"""What this machine is, so that a figure is never told without it."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from models_backend.text import processor

PACKAGES = ("torch", "transformers", "peft", "llama-cpp-python")


def facts() -> dict[str, Any]:
    """Processor, cores, memory, system, versions, and how busy it was in the last minutes."""
    found: dict[str, Any] = {
        "cpu": processor.name(),
        "cores": processor.cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    memory = _memory()
    if memory is not None:
        found["memory_gb"] = memory
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def _memory() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))
    except (ValueError, OSError):
        return None
