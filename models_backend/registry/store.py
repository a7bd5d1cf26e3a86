"""The folder of models: $DIPTYCH_HOME/models/<name>/. The only place that creates, renames or removes there.

A model appears whole or not at all: it is built in a hidden folder beside its place and renamed when it is complete.
One lock lets one process change the folder at a time, so what an interrupted pull left is known to be nobody's.
"""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models_backend.registry.errors import NoSpace

PARTIAL = ".partial-"


def root(home: Path) -> Path:
    return home / "models"


def adapters(home: Path) -> Path:
    """Where adapters lie that this installation has trained or was given."""
    return home / "adapters"


@contextmanager
def locked(home: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of the models folder. `on_wait` is called once if another process has it."""
    folder = root(home)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def partial(home: Path) -> Iterator[Path]:
    """A hidden folder to build in. It is gone afterwards, with whatever was not published. Needs the lock."""
    folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=root(home)))
    try:
        yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"The disk of {home} is full: free some space and pull again.") from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(built: Path, place: Path) -> None:
    """Give a finished model its place, in one step."""
    for file in built.iterdir():  # on disk before the name is: a power cut leaves the old or the new, never a half
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        file.chmod(0o644)  # as any file that was copied here; some writers keep theirs to themselves
    built.chmod(0o755)
    built.rename(place)


def remove(home: Path, place: Path) -> None:
    """Take a model away: out of sight in one step, then off the disk. Needs the lock."""
    with partial(home) as bin:
        place.rename(bin / "removed")


def need_space(home: Path, size: int) -> None:
    """Raise NoSpace unless `size` more bytes fit, with a tenth to spare."""
    free = shutil.disk_usage(root(home)).free
    if free < size * 1.1:
        raise NoSpace(
            f"The model needs {size * 1.1 / 1e6:,.0f} MB while it is made, but {home} has {free / 1e6:,.0f} MB left: "
            "free some space, or set DIPTYCH_HOME to a larger disk."
        )
