"""Server-sent events out of a stream of bytes, as the WHATWG HTML standard reads them, with a bound on what is kept.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re

from .errors import UpstreamError

MAX_EVENT_BYTES = 4 * 1024 * 1024  # an event with 20 alternatives for each of many tokens, and room
_LINE_END = re.compile(rb"[\r\n]")


class EventStream:
    """Feed it bytes as they come, cut anywhere; get the data of each event that is complete.

    Lines end with LF, CRLF or CR. Comments and all fields but `data` mean nothing here. A server that ends its stream
    without the last empty line is forgiven: `rest` gives what it said.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._first = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        """Data of the events that end in `chunk`. Raises UpstreamError when one is too long to be kept."""
        events: list[str] = []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        start = 0
        while start < len(chunk):
            end = _line_end(chunk, start)
            self._keep(chunk[start : end if end >= 0 else len(chunk)])
            if end < 0:
                break
            self._take_line(events)
            start = end + 1
            if chunk[end] == 0x0D:
                if start == len(chunk):
                    self._after_cr = True
                    return events
                start += chunk[start] == 0x0A
        if chunk:
            self._after_cr = False
        return events

    def rest(self) -> list[str]:
        """Data of an event that the end of the stream has cut short of its empty line."""
        events: list[str] = []
        if self._line:
            self._take_line(events)
        self._dispatch(events)
        return events

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise UpstreamError("upstream_garbage", f"it sent an event of more than {self._limit:,} bytes.")
        self._line += piece

    def _take_line(self, events: list[str]) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._first:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        else:
            self._size -= len(line)  # a comment, sent to keep the connection alive, is not kept

    def _dispatch(self, events: list[str]) -> None:
        if self._data:
            events.append(b"\n".join(self._data).decode(errors="replace"))
        self._data.clear()
        self._size = 0


def _line_end(chunk: bytes, start: int) -> int:
    found = _LINE_END.search(chunk, start)
    return found.start() if found else -1
