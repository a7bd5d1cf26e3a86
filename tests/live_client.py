"""A program that uses the socket as the page does: starts a run, follows it, comes back after every break.

Keeps the raw events it was given, so that a test can say whether any came twice or never.
"""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
import uuid
from http.cookiejar import CookieJar
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException


def session_cookie(signed_in: str) -> str:
    """Sign in by `signed_in`, an address with a token; returns the Cookie header."""
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar), _StayHere)
    with contextlib.suppress(urllib.error.HTTPError):  # the redirect, whose cookie is all that is wanted
        opener.open(signed_in, timeout=20)
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class LiveClient:
    def __init__(self, url: str, cookie: str) -> None:
        self.url = url
        self.cookie = cookie
        self.events: list[dict[str, Any]] = []
        self.resets = 0
        self.breaks = 0
        self.ends: dict[int, dict[str, Any]] = {}
        self.run = ""
        self._more = asyncio.Condition()

    def text(self, lane: int) -> str:
        return "".join(e["text"] for e in self.events if e["type"] == "lane.token" and e["lane"] == lane)

    def ids(self, lane: int) -> list[int]:
        return [i for e in self.events if e["type"] == "lane.token" and e["lane"] == lane for i in e["ids"]]

    def indexes(self, lane: int) -> list[int]:
        return [e["index"] for e in self.events if e["type"] == "lane.token" and e["lane"] == lane and e["ids"]]

    async def complete(self, spec: dict[str, Any]) -> None:
        """Run `spec` to the end of all its lanes, whatever breaks on the way."""
        client_id = uuid.uuid4().hex
        while len(self.ends) < len(spec["lanes"]):
            try:
                async with self._open() as socket:
                    if self.run:
                        after = self.events[-1]["n"] if self.events else 0
                        await self._send(socket, type="run.follow", run=self.run, after=after)
                    else:
                        await self._send(socket, type="run.start", client_id=client_id, spec=spec)
                    async for text in socket:
                        await self._receive(socket, json.loads(text))
                        if len(self.ends) == len(spec["lanes"]):
                            return
            except (OSError, WebSocketException, TimeoutError):
                pass
            self.breaks += 1
            await asyncio.sleep(0.2)

    async def tokens(self, count: int) -> None:
        """Wait until so many events with tokens have come."""
        async with self._more:
            await self._more.wait_for(lambda: sum(e["type"] == "lane.token" for e in self.events) >= count)

    def _open(self) -> contextlib.AbstractAsyncContextManager[ClientConnection]:
        headers = {"Cookie": self.cookie}
        address = self.url.replace("http", "ws", 1) + "/live"
        return connect(address, origin=self.url, additional_headers=headers, open_timeout=5, max_size=None)

    async def _send(self, socket: ClientConnection, **frame: Any) -> None:
        await socket.send(json.dumps(frame))

    async def _receive(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        if frame["type"] == "run.accepted":
            self.run = frame["run"]
        elif frame["type"] == "reset":
            self.resets += 1
            self.events.clear()
            self.ends.clear()
        elif frame["type"] == "error" and frame["code"] != "bus_down":
            raise AssertionError(frame)
        elif frame["type"] == "events":
            async with self._more:
                for event in frame["events"]:
                    self.events.append(event)
                    if event["type"] in ("lane.done", "lane.stopped", "lane.failed"):
                        self.ends[event["lane"]] = event
                self._more.notify_all()
            await self._send(socket, type="ack", frame=frame["frame"])
