"""Flow control of one socket: how much may be on its way, how often to send, how many messages to take.

Daphne buffers without end what a client does not read, so the client says what it has dealt with. Pure, with the clock
given; the consumer asks and waits.
"""

from collections import deque
from collections.abc import Callable

FRAMES = 64
BYTES = 256 * 1024
FAST = 60.0  # events a second above which they are collected
COLLECT_SECONDS = 0.025
MESSAGES_PER_SECOND = 20.0
MESSAGES_AT_ONCE = 100.0


class Window:
    """`events` frames that the client has not acknowledged."""

    def __init__(self, frames: int = FRAMES, size: int = BYTES) -> None:
        self.frames = frames
        self.size = size
        self.sent = 0
        self._waiting: deque[tuple[int, int]] = deque()
        self._bytes = 0

    @property
    def open(self) -> bool:
        return len(self._waiting) < self.frames and self._bytes < self.size

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def next(self) -> int:
        """Number of the frame that is sent next."""
        return self.sent + 1

    def send(self, size: int) -> None:
        self.sent += 1
        self._waiting.append((self.sent, size))
        self._bytes += size

    def acknowledge(self, frame: int) -> bool:
        """False, and nothing else, for a frame that was never sent or is acknowledged already."""
        if frame > self.sent or not self._waiting or frame < self._waiting[0][0]:
            return False
        while self._waiting and self._waiting[0][0] <= frame:
            self._bytes -= self._waiting.popleft()[1]
        return True


class Pace:
    """How long to collect events of one run before the next frame: not at all while they come slowly."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rate = 0.0
        self._last = clock()

    def sent(self, events: int) -> float:
        """Note a frame of so many events; returns the seconds to wait before the next is gathered."""
        now = self._clock()
        passed = max(now - self._last, 1e-3)
        self._last = now
        # An average over about half a second, so that one burst is not taken for a fast stream.
        weight = min(1.0, passed / 0.5)
        self._rate += weight * (events / passed - self._rate)
        return COLLECT_SECONDS if self._rate > FAST else 0.0


class Budget:
    """Messages that a client may still send: some at once, then so many a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = MESSAGES_AT_ONCE
        self._last = clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(MESSAGES_AT_ONCE, self._left + (now - self._last) * MESSAGES_PER_SECOND)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
