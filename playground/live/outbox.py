"""Sending on one socket: one frame at a time, `events` only while the window is open."""

import asyncio
from collections.abc import Awaitable, Callable

from playground.runs.service import Entry

from . import flow, frames

FRAME_BYTES = 64 * 1024  # of events in one frame, a single larger event apart


class Outbox:
    """All that is sent goes through here; concurrent senders take turns, so that no frame is torn or overtaken."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        self._send = send
        self._turn = asyncio.Lock()
        self._opened = asyncio.Event()
        self.window = flow.Window()

    async def put(self, frame: frames.Out) -> None:
        async with self._turn:
            await self._send(frames.encode(frame))

    async def put_events(self, run: str, entries: list[Entry]) -> None:
        """Send entries of one run in as many frames as it takes, each when the window lets it."""
        for some in portions(entries):
            await self._put_some(run, some)

    async def _put_some(self, run: str, entries: list[Entry]) -> None:
        while True:
            while not self.window.open:
                self._opened.clear()
                await self._opened.wait()
            async with self._turn:
                if not self.window.open:  # another run was faster
                    continue
                text = frames.events(self.window.next(), run, entries)
                self.window.send(len(text))
                await self._send(text)
                return

    def acknowledge(self, frame: int) -> bool:
        fresh = self.window.acknowledge(frame)
        if fresh and self.window.open:
            self._opened.set()
        return fresh


def portions(entries: list[Entry]) -> list[list[Entry]]:
    """Cut entries into frames of at most FRAME_BYTES."""
    cut: list[list[Entry]] = []
    size = FRAME_BYTES
    for entry in entries:
        if size + len(entry[1]) > FRAME_BYTES:
            cut.append([])
            size = 0
        cut[-1].append(entry)
        size += len(entry[1])
    return cut
