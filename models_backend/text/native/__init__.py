"""Llama-like models on a CPU, a whole step in one call: packed weights, whole-number products, rows that never mix.

numba compiles the kernels when they are first needed, for the processor at hand, and keeps them.
"""

from .opening import open_runner as open_runner
