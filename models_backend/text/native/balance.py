"""How many threads run the next pass: all that were chosen while the cores are ours, fewer while others want them.

A pass is as slow as its slowest thread. Beside a busy process two threads on two cores wait for each other, and one
alone is the faster. The system tells when it happens: it takes the core from us in the middle of a pass. Threads may
change from pass to pass, since a row has the same bits with any number of them.
"""

import resource
import time
from collections.abc import Callable

WINDOW = 16  # passes
OFTEN = 0.5  # times a pass that a core was taken from us
PAUSE = 2.0  # seconds until all threads are tried again; at once after so long without a pass


def taken_cores() -> int:
    """How often the system has taken a core from a thread of this process that still had work."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class Balance:
    def __init__(
        self, most: int, taken: Callable[[], int] = taken_cores, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self._now = most
        self._taken, self._clock = taken, clock
        self._passes, self._before = 0, taken()
        self._again, self._last = 0.0, clock()

    def threads(self) -> int:
        """For the pass that begins now."""
        if self.most > 1:
            now = self._clock()
            self._passes += 1
            if now - self._last > PAUSE:
                self._now, self._passes, self._before = self.most, 1, self._taken()
            elif self._passes > WINDOW:
                self._weigh(now)
            self._last = now
        return self._now

    def _weigh(self, now: float) -> None:
        taken = self._taken()
        often = taken - self._before > OFTEN * WINDOW
        self._passes, self._before = 1, taken
        if often and self._now > 1:
            self._now = max(1, self._now // 2)
            self._again = now + PAUSE
        elif self._now < self.most and now >= self._again:
            self._now = self.most
