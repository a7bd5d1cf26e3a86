"""The registry: model ids -> files on disk. What is known by name, what is pulled, what was fine-tuned.

Knows sources, checksums and folders. Knows nothing about torch: a GGUF is converted by a function that the
command passes in.
"""

from models_backend.registry.entries import Entry, find, models, stamp
from models_backend.registry.errors import (
    BadId,
    ChecksumMismatch,
    NoSpace,
    NotReachable,
    RefusedFormat,
    RegistryError,
    UnknownModel,
)

__all__ = [
    "BadId",
    "ChecksumMismatch",
    "Entry",
    "NoSpace",
    "NotReachable",
    "RefusedFormat",
    "RegistryError",
    "UnknownModel",
    "find",
    "models",
    "stamp",
]
