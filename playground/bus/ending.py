"""Ending tasks that talk to the bus.

Up to Python 3.11 `asyncio.wait_for`, which redis-py sends with, can swallow a cancellation that arrives at the moment
it is done, and the task goes on as if nothing had been said. So a task is told again until it has ended.
"""

import asyncio
from typing import Any

AGAIN_SECONDS = 0.05


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until all of them have ended, however they end."""
    open_tasks = set(tasks)
    while open_tasks:
        for task in open_tasks:
            task.cancel()
        ended, open_tasks = await asyncio.wait(open_tasks, timeout=AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # seen: asyncio need not report it
