"""Reading the log of a run: what is there now, and what comes. Entries pass as raw JSON with their number."""

from collections.abc import AsyncGenerator

from models_backend.protocol import log

from .connection import bus, translated
from .tail import Entry, entries_of

PAGE = 500  # entries of one reply, so that no reply grows with the run


async def newest(run: str) -> int | None:
    """Number of the run's last event, or None when the bus does not have the run (any more)."""
    with translated():
        last = await bus().client.xrevrange(log.log_key(run), count=1)
    return _number(last[0][0]) if last else None


async def at(run: str, number: int) -> bytes | None:
    """The entry of that number as it stands in the log, or None."""
    with translated():
        found = await bus().client.xrange(log.log_key(run), min=f"{number}-0", max=f"{number}-0", count=1)
    return entries_of(found)[0][1] if found else None


async def read(run: str, after: int, limit: int = PAGE) -> list[Entry]:
    """At most `limit` entries with numbers above `after`, in order."""
    with translated():
        found = await bus().client.xrange(log.log_key(run), min=f"({after}-0", count=limit)
    return entries_of(found)


async def whole(run: str) -> list[Entry]:
    """All entries of the run."""
    entries: list[Entry] = []
    while page := await read(run, entries[-1][0] if entries else 0):
        entries += page
    return entries


async def follow(run: str, after: int) -> AsyncGenerator[list[Entry], None]:
    """Entries above `after` without gap or repeat, first those that are there, then as they come, without end.

    A reader that is slow is not buffered for: what it misses it reads from the log. Raises BusDown; go on by calling
    again with the last number seen.
    """
    async with bus().tail.listen(run) as news:
        while True:
            while page := await read(run, after):
                after = page[-1][0]
                yield page
                if len(page) < PAGE:
                    break
            # Caught up; from here on what the tail hears continues, until it has dropped something.
            while True:
                batch = [entry for entry in await news.take() if entry[0] > after]
                if batch and batch[0][0] != after + 1:
                    break
                if batch:
                    after = batch[-1][0]
                    yield batch


def _number(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
