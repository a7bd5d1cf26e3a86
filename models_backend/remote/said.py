"""What a server has said of one answer: its text, how many tokens that is, and how we know. Pure.

Tokens are counted by their ids, else by their log-probabilities, else by the server's running count, and where it gives
none of these by its pieces of text, until its figures at the end put that right.
"""

from models_backend.engine import Request
from models_backend.protocol.events import LaneToken
from models_backend.protocol.runs import Chat

from .chunks import Chunk
from .errors import UpstreamError
from .kinds import Kind

MAX_ANSWER_CHARS = 1_000_000
THOUGHT = ("<think>\n", "\n</think>\n\n")  # as models write it whose server does not take it apart


class Said:
    """`text` and `count` begin with what the log had. `finish` is the server's own word for the end, once it came.

    `first` and `last` are when the first and the newest token came (steady seconds). `overrun`: the server goes on
    though it has said all that was asked for.
    """

    def __init__(self, request: Request, kind: Kind) -> None:
        self.text = request.resume_text
        self.count = request.resume_tokens
        self.finish: str | None = None
        self.overrun = False
        self.first: float | None = None
        self.last: float | None = None
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self._lane = request.lane
        self._chat = isinstance(request.prompt, Chat)
        self._running_count = (kind.stream_options or {}).get("continuous_usage_stats", False)
        self._exact = False
        self._told: int | None = None  # tokens of the whole answer, as the server counts
        self._begun = 0  # tokens that were there when the present stream began
        self._tail = ""  # white space at the end of what was said, which the server may say again
        self._thinking = False

    @property
    def total(self) -> int:
        """Tokens of the answer: the server's figure where there is one."""
        return self.count if self._told is None else self._told

    def begin(self) -> str:
        """A new stream; returns the text that it goes on behind.

        Chat templates cut white space at the end of a message, and the model then says it once more: it is not sent,
        and not taken twice.
        """
        sent = self.text.rstrip() if self._chat else self.text
        self._tail, self._begun, self.finish = self.text[len(sent) :], self.count, None
        return sent

    def take(self, chunk: Chunk, most: int, steady: float, wall: float) -> LaneToken | None:
        """The event for what `chunk` brings of the answer, if it brings any. Raises UpstreamError for far too much."""
        if chunk.prompt_tokens is not None and (not self._begun or not self.prompt_tokens):
            self.prompt_tokens = max(0, chunk.prompt_tokens - self._begun)  # what was said came with the prompt
        if chunk.completion_tokens is not None:
            self._told = self._begun + chunk.completion_tokens
        self.cached_tokens = max(self.cached_tokens, chunk.cached_tokens)
        self.finish = chunk.finish or self.finish
        text = self._text_of(chunk)
        if not (text or chunk.ids or chunk.insight):
            return None
        count = self.count + self._tokens_of(chunk, text)
        if count > most:
            self.overrun, self._told = True, None
            return None
        before, self.count = self.count, count
        self.text += text
        if len(self.text) > MAX_ANSWER_CHARS:
            raise UpstreamError("upstream_garbage", f"its answer has more than {MAX_ANSWER_CHARS:,} characters.")
        self.last = steady
        self.first = steady if self.first is None else self.first
        whole = not chunk.ids or len(chunk.insight) == len(chunk.ids)
        index = before if chunk.ids else count
        return LaneToken(self._lane, index, chunk.ids, text, wall, chunk.insight if whole else ())

    def late(self, most: int, wall: float) -> LaneToken | None:
        """An event without text that puts the count right, where the server told more tokens than came in pieces."""
        if self._told is None or not self.count < self._told <= most:
            return None
        self.count = self._told
        return LaneToken(self._lane, self.count, (), "", wall)

    def _tokens_of(self, chunk: Chunk, text: str) -> int:
        if chunk.ids or chunk.insight:
            self._exact = True
            return len(chunk.ids) or len(chunk.insight)
        if self._exact:
            return 0  # text that was held back; its tokens were counted when they came
        if self._running_count and chunk.completion_tokens is not None:
            return max(0, self._begun + chunk.completion_tokens - self.count)
        return 1

    def _text_of(self, chunk: Chunk) -> str:
        text = chunk.text
        if chunk.thought:
            text = ("" if self._thinking else THOUGHT[0]) + chunk.thought + (THOUGHT[1] + text if text else "")
            self._thinking = not chunk.text
        elif text and self._thinking:
            text, self._thinking = THOUGHT[1] + text, False
        while self._tail and text:
            if text[0] != self._tail[0]:
                self._tail = ""
            else:
                self._tail, text = self._tail[1:], text[1:]
        return text
