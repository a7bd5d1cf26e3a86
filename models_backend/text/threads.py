"""How many threads the worker computes with, and how they wait. Must run before torch is imported."""

import os

from models_backend.config import Settings

from . import processor


def configure(settings: Settings) -> int:
    """Set the environment that torch's thread pools read once, at import; return the number of threads.

    PASSIVE: a waiting thread gives its core away. Spinning is a little faster on an idle machine, but two spinning
    threads beside one busy neighbour decode at a fifth of the speed, and here the web house is that neighbour. What is
    set from outside stays.
    """
    threads = settings.threads or processor.cores()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return int(os.environ["OMP_NUM_THREADS"])


def configured() -> int:
    """The number of threads that torch began with."""
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or processor.cores()
