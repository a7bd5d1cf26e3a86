"""Calls from asynchronous code into the database, and one word for a database that does not answer in time."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError

from playground.errors import DatabaseBusy

P = ParamSpec("P")
R = TypeVar("R")


async def in_database(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a synchronous function in the database thread. Raises DatabaseBusy when the database is locked or away."""
    try:
        result: R = await database_sync_to_async(function)(*args, **kwargs)
        return result
    except (OperationalError, InterfaceError) as error:
        raise DatabaseBusy from error
