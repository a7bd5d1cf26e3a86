"""pull, list and rm."""

import os
from pathlib import Path

from models_backend.commands.screen import console, print_table, screen
from models_backend.registry import entries, names
from models_backend.registry import pull as pulling
from models_backend.registry.entries import Entry


def pull(id: str, home: Path, name: str | None) -> None:
    """Bring a model by id, or with a name a local folder or GGUF file."""
    # Set before transformers is first imported: our own screen shows the progress, once.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from models_backend.text.convert import convert

    checked = str(names.parse(name or id))
    before = any(entry.id == checked and entry.installed for entry in entries.models(home))
    if before:
        console.print(f"{checked} is already here.", highlight=False)
        return
    with screen() as watch:
        if name is None:
            entry = pulling.pull(id, home, convert, watch)
        else:
            entry = pulling.adopt(Path(id), name, home, convert, watch)
    console.print(f"{entry.id} is ready in {entry.folder}", highlight=False, soft_wrap=True)


def list_models(home: Path) -> None:
    heads = ("id", "title", "here", "licence", "context")
    rows = [
        (entry.id, entry.title, _state(entry), entry.licence, str(entry.context or ""))
        for entry in entries.models(home)
    ]
    print_table([heads, *rows])


def remove(id: str, home: Path) -> None:
    pulling.remove(id, home)
    console.print(f"{id} is removed.", highlight=False)


def _state(entry: Entry) -> str:
    if entry.installed:
        return "yes"
    return "no: pull it" if entry.base is None else "no: pull its base"
