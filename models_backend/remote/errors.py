"""What goes wrong with a server, in words for people, and whether trying again may help."""

import re

MAX_TOLD = 300  # characters of a server's own message


class UpstreamError(Exception):
    """`why` goes on after the server's name: "gpu: it does not answer." `retry`: the next try may go well.

    `after` are the seconds that the server asked to wait.
    """

    def __init__(self, code: str, why: str, *, retry: bool = False, after: float | None = None) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.retry = retry
        self.after = after


def told(message: object, key: str) -> str:
    """A server's message, shortened to one line, without our key should it repeat it."""
    text = message if isinstance(message, str) else ""
    if key:
        text = text.replace(key, "[key]")
    text = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", " ", text[: MAX_TOLD * 8]).split())
    return text if len(text) <= MAX_TOLD else text[: MAX_TOLD - 1].rstrip() + "…"
