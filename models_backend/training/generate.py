"""Writes the JSONL files of the demo models again, byte for byte: `python -m models_backend.training.generate`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from models_backend.training import pirate, tickets
from models_backend.training.recipe import DATA
from models_backend.training.rows import Row, write

GENERATORS: Mapping[str, Callable[[], tuple[list[Row], list[Row]]]] = {
    "tickets": tickets.generate,
    "pirate": pirate.generate,
}


def generate(folder: Path = DATA) -> list[Path]:
    """Write <name>.train.jsonl and <name>.valid.jsonl of each demo model into `folder`; return what was written."""
    written = []
    for name, make in GENERATORS.items():
        for part, rows in zip(("train", "valid"), make(), strict=True):
            written.append(folder / f"{name}.{part}.jsonl")
            write(written[-1], rows)
    return written


if __name__ == "__main__":
    for path in generate():
        print(path)
