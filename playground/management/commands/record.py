"""`manage.py record`: the recorder. Runs until it is told to stop; more than one of it does no harm."""

import asyncio
import signal
import socket
from typing import Any

from django.core.management.base import BaseCommand

from playground.presets import service as presets
from playground.runs import recorder


class Command(BaseCommand):
    help = "Write answers that have ended from the bus into the database, until interrupted."
    requires_system_checks: list[str] = []  # `up` has said what there is to say

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(record())


async def record() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await recorder.record_until(stop, consumer=socket.gethostname(), chores=(presets.purge,))
