"""Ids to text, one id at a time, without ever showing half a character.

Pure: what has been shown after n ids plus the flush is `decode` of those ids, whoever pushed them and when. So an
answer that another worker continues reads like one that was never broken.
"""

from collections.abc import Callable, Sequence

HALF = "\ufffd"
MOST_HALVES = 3  # bytes of a character that may still be missing their last; each may show as one U+FFFD


class Detokenizer:
    """Decodes a sliding window: the ids since the last clean border, and the piece before it as context.

    The context is needed because a tokenizer may write a piece differently at the start of a text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._clean = 0  # ids of the window up to the last border at which all text was out
        self._shown = 0  # characters of the window's text that are out

    def push(self, token: int) -> str:
        """Return the text that became certain with `token`, possibly none."""
        self._window.append(token)
        text = self._decode(self._window)
        certain = len(text)
        while certain and len(text) - certain < MOST_HALVES and text[certain - 1] == HALF:
            certain -= 1
        fresh = text[self._shown : certain]
        self._shown = max(self._shown, certain)
        if certain == len(text) and fresh:
            self._slide()
        return fresh

    def flush(self) -> str:
        """The answer has ended: return the rest, with U+FFFD for a character that was cut."""
        text = self._decode(self._window)
        fresh = text[self._shown :]
        self._shown = len(text)
        return fresh

    def _slide(self) -> None:
        if self._clean:
            self._window = self._window[self._clean :]
            self._shown = len(self._decode(self._window))
        self._clean = len(self._window)
