"""What stands before the doors, as ASGI: requests of a bounded size, and sockets that our own pages opened."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UNKNOWN_ADDRESS = 4404


class BodyLimit:
    """Answers 413 to a request whose body is longer than `limit` bytes, by its header or as it arrives."""

    def __init__(self, app: App, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.limit:
            await self._refuse(send)
            return
        length = 0
        refused = False

        async def counted() -> Message:
            nonlocal length, refused
            message = await receive()
            length += len(message.get("body", b""))
            if length > self.limit and not refused:
                refused = True
                await self._refuse(send)
            # To Django the sender has gone; it stops reading, and what it would answer is not sent.
            return {"type": "http.disconnect"} if refused else message

        async def unless_refused(message: Message) -> None:
            if not refused:
                await send(message)

        await self.app(scope, counted, unless_refused)

    async def _refuse(self, send: Send) -> None:
        text = f"This request is too large; at most {self.limit // 1024} KiB are read.\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class OwnOrigin:
    """Lets in only sockets that a page of this very host and port opened.

    Cookies know neither ports nor who opened a socket, so any other page, on this machine too, could use them.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if same_origin(scope):
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 4403})  # before it is accepted: HTTP 403


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Sockets at addresses that do not exist."""
    await send({"type": "websocket.close", "code": UNKNOWN_ADDRESS})


def same_origin(scope: Scope) -> bool:
    """Whether there is exactly one Origin and one Host, they are the same, and the host is one of ours."""
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(origins) != 1 or len(hosts) != 1:
        return False
    try:
        origin, host = origins[0].decode("ascii"), hosts[0].decode("ascii").lower()
        parts = urlsplit(origin.lower())
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or parts.path or parts.query or parts.fragment:
        return False
    default = ":443" if parts.scheme == "https" else ":80"
    if parts.netloc.removesuffix(default) != host.removesuffix(default):
        return False
    return validate_host(f"[{name}]" if ":" in name else name, settings.ALLOWED_HOSTS)
