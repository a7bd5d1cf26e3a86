"""Daphne with two manners that it lacks: it refuses large bodies before it keeps them, and says goodbye to sockets.

Plain Daphne writes a whole request body to the disk before any application sees the request, and on SIGTERM drops its
websockets without a word (code 1006). Everything else is Daphne's own.
"""

from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import defer, reactor, task

RESTARTING = 1012  # RFC 6455's registry: "Service Restart"; pages come back by themselves
GOODBYE_SECONDS = 0.3  # for close frames to leave, before the applications are ended


def bounded(limit: int) -> type[WebRequest]:
    """A request whose body may have `limit` bytes; a longer one is answered 413 and its connection closed."""

    class BoundedRequest(WebRequest):  # type: ignore[misc]
        received = 0
        refused = False

        def gotLength(self, length: int | None) -> None:
            super().gotLength(min(length or 0, limit) if length is not None else None)
            if length is not None and length > limit:
                self.refuse()

        def handleContentChunk(self, data: bytes) -> None:
            self.received += len(data)
            if self.received > limit and not self.refused:
                self.refuse()
            if not self.refused:
                super().handleContentChunk(data)

        def process(self) -> Any:
            return None if self.refused else super().process()

        def refuse(self) -> None:
            self.refused = True
            text = f"This request is too large; at most {limit // 1024} KiB are read.\n".encode()
            head = f"HTTP/1.1 413 Content Too Large\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
            self.channel.transport.write(head.encode() + b"Content-Type: text/plain\r\n\r\n" + text)
            self.channel.loseConnection()

    return BoundedRequest


class _Factory(HTTPFactory):  # type: ignore[misc]
    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = self.server.request
        return protocol


class WebServer(Server):  # type: ignore[misc]
    """`body_limit` in bytes; all else as Daphne's Server."""

    def __init__(self, *args: Any, body_limit: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = bounded(body_limit)

    @property
    def http_factory(self) -> HTTPFactory:
        return self._http_factory

    @http_factory.setter
    def http_factory(self, _: HTTPFactory) -> None:
        """Daphne makes its factory in the middle of `run`; ours takes its place."""
        self._http_factory = _Factory(self)

    def kill_all_applications(self) -> defer.Deferred[Any]:
        """Close the sockets first, then end the applications as Daphne does."""
        for protocol in list(self.connections):
            if isinstance(protocol, WebSocketProtocol) and protocol.state == protocol.STATE_OPEN:
                protocol.sendCloseFrame(code=RESTARTING)  # sendClose is for applications, which may not say 1012
        pause = task.deferLater(reactor, GOODBYE_SECONDS)
        return pause.addCallback(lambda _: super(WebServer, self).kill_all_applications())
