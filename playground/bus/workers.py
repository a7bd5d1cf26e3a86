"""What workers say of themselves: who lives, and which models they answer with."""

import time

import msgspec

from models_backend.protocol import log
from models_backend.protocol.workers import DEAD_AFTER_SECONDS, Heartbeat, ModelInfo

from .connection import bus, translated

_model = msgspec.json.Decoder(ModelInfo)
_heartbeat = msgspec.json.Decoder(Heartbeat)


async def ping() -> None:
    """Raises BusDown when the bus does not answer."""
    with translated():
        await bus().client.ping()


async def models() -> list[ModelInfo]:
    """All models that workers have told of, each base before what is tuned from it."""
    with translated():
        raw = await bus().client.hvals(log.MODELS)
    found = [_model.decode(each) for each in raw]
    return sorted(found, key=lambda model: (model.queue, model.base is not None, model.id))


async def workers() -> list[Heartbeat]:
    """The newest word of each worker that lives, the longest running first."""
    since = time.time() - DEAD_AFTER_SECONDS
    with translated():
        names = await bus().client.zrangebyscore(log.WORKERS, since, "+inf")
        raw = await bus().client.mget([log.worker_key(name.decode()) for name in names]) if names else []
    found = [_heartbeat.decode(each) for each in raw if each is not None]
    return sorted(found, key=lambda heartbeat: (heartbeat.started_at, heartbeat.worker))
