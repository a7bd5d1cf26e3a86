"""Which files of a model's folder are taken: weights as safetensors, and the small files that describe it.

One rule for hub and local folders. What is not named here stays behind: pickles (.bin, .pt, .pth, .ckpt) can run
code when they are read, and .py files are code.
"""

from collections.abc import Iterable
from fnmatch import fnmatch

from models_backend.registry.errors import RefusedFormat

TAKEN = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
TWICE = "consolidated"  # the same weights again, in the layout of another library
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


def choose(names: Iterable[str], where: str) -> list[str]:
    """The files to take, of those directly in the folder. Raises RefusedFormat if they are not a whole model."""
    names = list(names)
    taken = sorted(
        name
        for name in names
        if "/" not in name and not name.startswith(TWICE) and any(fnmatch(name, rule) for rule in TAKEN)
    )
    if not any(name.endswith(".safetensors") for name in taken):
        pickled = sorted(name for name in names if name.endswith(PICKLES))
        if pickled:
            raise RefusedFormat(
                f"{where} has its weights only as {pickled[0]}, a format that can run code when it is read. "
                "Convert them to safetensors first."
            )
        raise RefusedFormat(f"{where} has no weights as *.safetensors, so it is not a model that can be pulled.")
    for needed in ("config.json", "tokenizer"):
        if not any(name.startswith(needed) for name in taken):
            raise RefusedFormat(f"{where} has no {needed} file, so it is not a language model that can be pulled.")
    return taken
