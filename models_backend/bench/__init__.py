"""How fast the engine is on this machine, held against what people would use instead, in the same minutes.

Absolute figures say little on a shared machine: neighbours come and go. So the cases take turns, round after round,
and what is promised are ratios between cases of one run (`ratios.py`). Every contestant has a process of its own.
"""

from models_backend.bench.command import bench
from models_backend.bench.report import BadReport

__all__ = ["BadReport", "bench"]
