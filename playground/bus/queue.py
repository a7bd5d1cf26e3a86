"""Putting runs and lanes on the bus, and stopping them. Each is one script, and harmless to send twice."""

from collections.abc import Sequence

from models_backend.protocol import log
from models_backend.protocol.events import LaneAdded, LaneStopped, RunCreated, encode

from .connection import bus, translated

KEEP = str(log.KEEP_SECONDS)


async def start(created: RunCreated, queues: Sequence[str], owner: str = "") -> bool:
    """Create the run of `created` and queue its lanes; lane i waits in queue `queues[i]`, a base model's id.

    Workers share turns out between `owner`s; lanes that are added later are the same owner's.

    Lanes of one base are one entry, so that one worker answers them in one batch. False when the run was there already.
    """
    parts: dict[str, list[str]] = {}
    for lane, queue in enumerate(queues):
        parts.setdefault(queue, []).append(str(lane))
    keys = [log.run_key(created.run), log.log_key(created.run), *map(log.queue_key, parts)]
    lanes = map(",".join, parts.values())
    args = [encode(created.spec), encode(created), KEEP, created.run, str(len(queues)), *lanes, owner]
    return bool(await bus().call(bus().start, keys, args))


async def add(run: str, added: LaneAdded, queue: str) -> int:
    """Append one lane. Its event number; log.FENCED when the run has another count of lanes; log.GONE."""
    keys = [log.run_key(run), log.log_key(run), log.queue_key(queue)]
    return int(await bus().call(bus().add, keys, [encode(added), KEEP, run, str(added.lane)]))


async def waiting(queue: str, owner: str, most: int) -> tuple[int, int]:
    """How many entries a queue has, and how many of its first `most` are `owner`'s. Those at work are among them."""
    key = log.queue_key(queue)
    with translated():
        count = await bus().client.xlen(key)
        if count < most // 2:  # then it does not matter whose they are
            return count, 0
        entries = await bus().client.xrange(key, count=most)
    return count, sum(fields.get(b"owner") == owner.encode() for _, fields in entries)


async def lanes(run: str) -> int | None:
    """How many lanes the bus knows of the run; None when it does not have the run (any more)."""
    with translated():
        count = await bus().client.hget(log.run_key(run), "lanes")
    return None if count is None else int(count)


async def stop(run: str, stopped: LaneStopped) -> int:
    """Stop a lane, queued or running, whose end in the former case is `stopped`.

    0 there is no such lane, 1 it had ended, 2 it has ended by this, 3 its worker has been told, log.GONE.
    """
    keys = [log.run_key(run), log.log_key(run), log.ENDED]
    return int(await bus().call(bus().stop, keys, [str(stopped.lane), encode(stopped), run, log.STOPS]))
