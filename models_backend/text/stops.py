"""Stop strings across token borders: text that may yet become one is held back until it is decided.

The text released, all in all, is a function of the whole text and the stop strings; how it was cut does not matter.
"""


class StopStrings:
    """Finds the earliest end of any stop string in a text that arrives in pieces."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Return what is now certain to be shown. After a hit nothing is."""
        if self.hit:
            return ""
        held = self._held + text
        cut = self._first(held)
        if cut is not None:
            self.hit, self._held = True, ""
            return held[:cut]
        keep = self._undecided(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """The answer has ended: what was held back is text after all."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> int | None:
        """Where the stop string that is complete first begins; of those that end together, the longest."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
