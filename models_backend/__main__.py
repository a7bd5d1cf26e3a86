"""The command line of the GPU house: `python -m models_backend COMMAND`. Each command is a few lines over a room.

torch is imported inside the commands that need it, so that `--help` and `list` answer at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from models_backend.commands import models, training
from models_backend.commands.screen import fail
from models_backend.config import Settings
from models_backend.registry import RegistryError
from models_backend.text.contract import EngineError
from models_backend.training.recipe import BadRecipe
from models_backend.training.rows import BadRow

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@contextmanager
def plainly() -> Iterator[None]:
    """What a person can put right is told in a sentence, with exit code 1; all else is a bug with its traceback."""
    try:
        yield
    except (RegistryError, EngineError, BadRecipe, BadRow) as error:
        fail(error)
        raise typer.Exit(1) from None


@app.command()
def pull(
    id: Annotated[
        str, typer.Argument(help="A known id, a hub id (owner/name), or with --as a folder or GGUF file.")
    ] = Settings().model,
    name: Annotated[str | None, typer.Option("--as", help="The id that a local model gets.")] = None,
) -> None:
    """Bring a model: fetch, verify, convert once."""
    with plainly():
        models.pull(id, Settings().home, name)


@app.command(name="list")
def list_models() -> None:
    """Show all models, and which are ready."""
    models.list_models(Settings().home)


@app.command()
def rm(
    id: Annotated[str, typer.Argument(help="The id of a pulled model, or of an adapter of this installation.")],
) -> None:
    """Delete a model from the disk."""
    with plainly():
        models.remove(id, Settings().home)


@app.command()
def worker() -> None:
    """Answer the runs that wait on the bus, until Ctrl-C."""
    from models_backend.text import threads
    from models_backend.worker import serve

    settings = Settings()
    threads.configure(settings)  # before torch is imported
    with plainly():
        serve.serve(settings)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A recipe: tickets or pirate.")],
    publish: Annotated[bool, typer.Option("--publish", help="Replace the adapter that comes with Diptych.")] = False,
) -> None:
    """Train a demo adapter again, into DIPTYCH_HOME/training."""
    settings = Settings()
    with plainly():
        training.train(name, settings.home, settings.threads, publish)


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="A recipe whose adapter was trained.")],
    publish: Annotated[bool, typer.Option("--publish", help="Measure the adapter that comes with Diptych.")] = False,
) -> None:
    """Measure a demo adapter and its base on held-out rows."""
    settings = Settings()
    with plainly():
        training.evaluate(name, settings.home, settings.threads, publish)


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and shorter rounds: under ten minutes.")] = False,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Also put the figures into docs/performance.md.")] = False,
    earlier: Annotated[
        Path | None, typer.Option("--from", help="A report to show again, instead of measuring.")
    ] = None,
    fetch_gguf: Annotated[bool, typer.Option("--fetch-gguf", help="Only fetch what llama.cpp reads.")] = False,
    shape: Annotated[
        list[str] | None, typer.Option(help="Random weights instead of a model: 1b, 8b; on a GPU.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="A peer that takes no part, such as serve.")] = None,
) -> None:
    """Measure the engine beside transformers, PEFT, llama.cpp and others on this machine."""
    from models_backend import bench as room

    with plainly():
        try:
            room.bench(Settings(), quick, out, docs, earlier, fetch_gguf, shape or (), without or ())
        except room.BadReport as error:
            fail(error)
            raise typer.Exit(1) from None


if __name__ == "__main__":
    app()
