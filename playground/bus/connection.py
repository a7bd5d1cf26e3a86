"""One client of the bus for each event loop, its scripts, and one word for all trouble with it: BusDown."""

import asyncio
import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError, ReadOnlyError, RedisError, TimeoutError

from models_backend.protocol import log
from playground.errors import BusDown

from .tail import Tail

# Every command here may be sent twice without harm, so a broken connection is tried again before anyone is told.
RETRIES = 2
CONNECTIONS = 32  # of one process
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn every trouble with the bus into BusDown; a command that the bus refuses is a fault of ours and passes."""
    try:
        yield
    except (ConnectionError, TimeoutError, ReadOnlyError, OSError) as error:  # BusyLoading is a ConnectionError
        raise BusDown from error
    except RedisError as error:
        if str(error).startswith(("LOADING", "MISCONF", "CLUSTERDOWN", "MASTERDOWN", "OOM")):
            raise BusDown from error
        raise


class Bus:
    """A connection pool and the scripts. Made by `bus()`; its loop ends it with `aclose()`."""

    def __init__(self, url: str) -> None:
        # The stubs promise text or bytes or nothing for each reply; ours are bytes, and this room checks their shape.
        self.client: Any = _client(url)
        self._listening: Any = _client(url)  # its own, so that a crowd of commands never keeps the tail from reading
        self.start = self.client.register_script(log.START)
        self.add = self.client.register_script(log.ADD)
        self.stop = self.client.register_script(log.STOP)
        self.tail = Tail(self.client, self._listening)

    async def call(self, script: Any, keys: list[str], args: list[Any]) -> Any:
        """Run one of the scripts, which the bus loads again by itself if it has forgotten it. Raises BusDown."""
        with translated():
            return await script(keys=keys, args=args)

    async def aclose(self) -> None:
        await self.tail.aclose()
        await self._listening.aclose()
        await self.client.aclose()


def _client(url: str) -> redis.asyncio.Redis:
    """A client whose pool makes a crowd wait, where redis-py's own would fail it: all sockets come back at once."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), RETRIES),
        retry_on_error=[ConnectionError, TimeoutError],
        protocol=2,
    )
    return redis.asyncio.Redis.from_pool(pool)


_buses: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Bus] = weakref.WeakKeyDictionary()


def bus() -> Bus:
    """The bus of the running event loop. Connections belong to one loop, so each has its own client."""
    loop = asyncio.get_running_loop()
    found = _buses.get(loop)
    if found is None:
        found = _buses[loop] = Bus(settings.REDIS_URL)
    return found


async def close() -> None:
    """Close the running loop's client; the next `bus()` opens a new one."""
    found = _buses.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.aclose()
