"""Start a worker as a process: build its engines, open the bus, work until told to end."""

import asyncio
import logging
import os
import signal
import socket

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from models_backend.config import Settings
from models_backend.engine import Engine

from .engines import open_engines
from .worker import Worker


def serve(settings: Settings) -> None:
    """Run one worker until SIGTERM or SIGINT. Exits with the engine's exception if that is what ends it."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("diptych").setLevel(logging.INFO)
    name = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
    engines = open_engines(settings, name)
    asyncio.run(_serve(settings, name, engines))


async def _serve(settings: Settings, name: str, engines: dict[str, Engine]) -> None:
    quit_ = asyncio.Event()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_, quit_.set)
    # No silent retries: after a broken connection the worker first compares what it said with what was written.
    redis = Redis.from_url(settings.bus_url, retry=Retry(NoBackoff(), 0))
    try:
        await Worker(settings, engines, redis, name).run(quit_)
    finally:
        await redis.aclose()
