"""Llama-like models on a CPU, a whole step in one call: packed weights, whole-number products, rows that never mix.

numba compiles the kernels when they are first needed, for the processor at hand, and keeps them: for these very
sources, since it would itself notice only a change of the file that a kernel begins in.
"""

import os
from hashlib import sha256
from pathlib import Path

import numba

_here = Path(__file__).parent
_sources = sha256(b"".join(path.read_bytes() for path in sorted(_here.glob("*.py")))).hexdigest()[:16]
if not numba.config.CACHE_DIR:  # NUMBA_CACHE_DIR, set from outside, stays
    _root = _here / "__pycache__" if os.access(_here, os.W_OK) else Path.home() / ".cache" / "diptych"
    numba.config.CACHE_DIR = str(_root / f"kernels-{_sources}")

from .dot import DOT  # noqa: E402
from .opening import open_runner as open_runner  # noqa: E402


def fast() -> bool:
    """Whether this processor has instructions that add up products of bytes; without them torch is the faster one."""
    return DOT != "plain"
