"""The processor of this machine: its name, and how much of it is ours."""

import os
import platform
from pathlib import Path


def cores() -> int:
    """Those that this process may use: a container's share is in the affinity mask, which macOS does not have."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
