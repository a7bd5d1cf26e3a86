"""A part: the lanes of one queue entry while this worker owns them, and the batches of events it has to say of them."""

from models_backend.protocol.events import ENDS, LaneEvent, LaneStarted

from .entry import Entry


class Part:
    """Keeps every batch until the part is over: a bus that lost its newest writes is given them again."""

    def __init__(self, entry: Entry, attempt: int, lanes: set[int]) -> None:
        self.entry = entry
        self.attempt = attempt
        self.open = lanes
        self._begun: set[int] = set()
        self._waiting: list[LaneEvent] = []
        self._batches: list[list[LaneEvent]] = []
        self._written = 0

    def add(self, event: LaneEvent) -> None:
        if event.lane not in self.open:
            return
        self._waiting.append(event)
        if isinstance(event, LaneStarted):
            self._begun.add(event.lane)
        if isinstance(event, ENDS):
            self.open.discard(event.lane)

    def next_batch(self) -> tuple[int, list[LaneEvent]] | None:
        """Return the number (from 1) and events of the batch to write next; None when all is written."""
        if self._written == len(self._batches):
            if not self._waiting:
                return None
            self._batches.append(self._waiting)
            self._waiting = []
        return self._written + 1, self._batches[self._written]

    def written(self, count: int) -> None:
        """`count` batches are on the bus: more than we knew of, or fewer when the bus lost some."""
        self._written = min(count, len(self._batches))

    @property
    def waits(self) -> int:
        """How many of its lanes wait in the engine."""
        return len(self.open - self._begun)

    @property
    def over(self) -> bool:
        return not self.open and not self._waiting and self._written == len(self._batches)
