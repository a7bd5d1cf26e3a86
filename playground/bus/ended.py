"""The stream of lanes that have ended and are not yet in the database, read through a consumer group.

What a recorder has taken and not acknowledged stays on the bus, and is given out again after its restart.
"""

from dataclasses import dataclass

from redis.exceptions import ResponseError

from models_backend.protocol import log

from .connection import bus, translated

BLOCK_MS = 2000


@dataclass(frozen=True)
class Ended:
    """One lane that has ended; `entry` is its place in the stream."""

    entry: str
    run: str
    lane: int


async def join() -> None:
    """Make sure that the group is there; it begins with the oldest entry."""
    with translated():
        try:
            await bus().client.xgroup_create(log.ENDED, log.RECORDER_GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


async def take(consumer: str, *, pending: bool, limit: int = 64, block_ms: int = BLOCK_MS) -> list[Ended]:
    """New entries, waiting for them; or with `pending` those that this consumer took and never acknowledged.

    Raises BusDown, and redis' NOGROUP as BusDown too: a bus that has lost its data is joined anew.
    """
    try:
        with translated():
            reply = await bus().client.xreadgroup(
                log.RECORDER_GROUP,
                consumer,
                {log.ENDED: "0" if pending else ">"},
                count=limit,
                block=None if pending else block_ms,
            )
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        await join()
        return []
    return [
        Ended(entry.decode(), fields[b"run"].decode(), int(fields[b"lane"]))
        for _, entries in reply or ()
        for entry, fields in entries
        if fields
    ]


async def adopt(consumer: str, idle_ms: int, limit: int = 64) -> None:
    """Take over what other recorders took `idle_ms` ago and have not written; read it with `take(pending=True)`."""
    with translated():
        await bus().client.xautoclaim(log.ENDED, log.RECORDER_GROUP, consumer, idle_ms, count=limit, justid=True)


async def acknowledge(entries: list[str]) -> None:
    """Forget entries that are in the database."""
    if not entries:
        return
    with translated():
        pipe = bus().client.pipeline(transaction=True)
        pipe.xack(log.ENDED, log.RECORDER_GROUP, *entries)
        pipe.xdel(log.ENDED, *entries)
        await pipe.execute()
