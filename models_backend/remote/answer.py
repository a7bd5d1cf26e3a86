"""One lane: ask the server, read its stream, and go on behind what was said when the stream breaks.

What was said stays, whatever happens. A stream that ends without a reason for its end was cut, and is not taken for an
answer. Where a server cannot go on with an answer that was begun, the lane fails and says so.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from models_backend.engine import EngineError, Request, refuse_what_it_cannot
from models_backend.protocol.events import (
    Error,
    Figures,
    Finish,
    LaneDone,
    LaneEvent,
    LaneFailed,
    LaneScored,
    LaneStarted,
    LaneStopped,
)
from models_backend.protocol.params import Used
from models_backend.protocol.runs import Chat
from models_backend.protocol.workers import ModelInfo

from . import body, chunks, scores
from .client import Client
from .errors import UpstreamError, told
from .kinds import Kind
from .said import Said
from .sse import EventStream

MAX_WAIT = 60.0  # seconds that a server may ask us to wait before we try again
BACKOFF = (0.25, 8.0)  # seconds before the second try, and the most before any
USAGE_SECONDS = 5.0  # for the figures that follow the end of an answer
_FINISHES: dict[str, Finish] = {"length": "length"}  # whatever else ends an answer well is a stop
_CUT = "this kind of server cannot go on with a chat answer. What it said is kept; run the lane again."


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask: the server, the kind it is, the model as people and as the server call it, and all its adapters."""

    client: Client
    kind: Kind
    info: ModelInfo
    model: str
    adapters: frozenset[str]  # as the server calls them


@dataclass(frozen=True, slots=True)
class Clocks:
    """`wall` gives milliseconds since 1970, `steady` seconds for durations, `sleep` waits for seconds."""

    wall: Callable[[], float]
    steady: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Answer:
    """A lane while it is answered. `publish` gets its events; `claimed` is when the worker had it (steady seconds)."""

    def __init__(
        self,
        request: Request,
        target: Target,
        worker: str,
        publish: Callable[[LaneEvent], None],
        clocks: Clocks,
        claimed: float,
    ) -> None:
        self.request = request
        self._target = target
        self._spec = target.client.remote.spec
        self._key = target.client.remote.key
        self._worker = worker
        self._publish = publish
        self._clocks = clocks
        self._claimed = claimed
        self._said = Said(request, target.kind)
        self._renamed = False
        self.reached = True  # the server was not found away while this was answered

    async def run(self) -> None:
        """Answer the lane to its end, which is published. Raises asyncio.CancelledError alone."""
        try:
            await self._run()
        except UpstreamError as error:
            self.reached = error.code != "upstream_unreachable"
            self._fail(Error(error.code, f"{self._spec.name}: {error.why}"))
        except EngineError as error:
            self._fail(error.as_error())

    def stopped(self) -> None:
        """Publish the end of a lane that somebody stopped."""
        self._publish(LaneStopped(self.request.lane, self.figures(), self._clocks.wall()))

    def silence(self) -> None:
        """Say nothing any more: the lane has ended, or is somebody else's."""
        self._publish = lambda event: None

    def failed(self, why: str) -> None:
        self._fail(Error("engine_error", why))

    def figures(self) -> Figures:
        """What the server counts, else what we counted. An answer that another worker began claims no speed."""
        said = self._said
        speed = said.first is not None and said.last is not None and not self.request.resume_tokens
        return Figures(
            prompt_tokens=said.prompt_tokens,
            completion_tokens=said.total,
            first_ms=None if said.first is None else round((said.first - self._claimed) * 1000, 3),
            decode_ms=round((said.last - said.first) * 1000, 3) if speed else None,  # type: ignore[operator]
            cached_tokens=said.cached_tokens,
        )

    # Trying -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        request, target, said = self.request, self._target, self._said
        refuse_what_it_cannot(target.info, request)
        body.check(request, target.kind)
        used = body.used(request, target.info.defaults)
        self._publish(
            LaneStarted(
                lane=request.lane,
                attempt=request.attempt,
                worker=self._worker,
                model=request.model,
                base=target.info.queue,
                sha256=target.info.sha256,
                device=f"{self._spec.name} ({target.kind.name})",
                prompt_tokens=0,  # told with the figures: most servers count at the end
                used=used,
                at=self._clocks.wall(),
            )
        )
        if said.count >= used.max_tokens:
            self._done("length", used)
            return
        if said.text and not self._continues:
            raise UpstreamError("upstream_cut", f"the worker that asked it was lost, and {_CUT}")
        if used.prompt_logprobs is not None and not said.text:
            await self._score(used)
        tries = 0
        while True:
            try:
                finish = await self._stream(used)
            except UpstreamError as error:
                if error.code == "upstream_refused" and "max_completion_tokens" in error.why and not self._renamed:
                    self._renamed = True  # newer models of OpenAI know the bound by this name alone
                    continue
                if not error.retry or tries >= self._spec.retries:
                    raise
                if said.text and not self._continues:
                    raise UpstreamError("upstream_cut", f"{error.why.rstrip('.')}, and {_CUT}") from None
                await self._wait(error, tries)
                tries += 1
            else:
                self._done(finish, used)
                return

    async def _wait(self, error: UpstreamError, tries: int) -> None:
        after = error.after or 0.0
        if after > MAX_WAIT:
            why = f"{error.why.rstrip('.')}, and asks to come again in {after:.0f} seconds."
            raise UpstreamError(error.code, why) from None
        pause = min(BACKOFF[0] * 2**tries, BACKOFF[1]) * random.uniform(0.5, 1.0)
        await self._clocks.sleep(max(pause, after))

    @property
    def _continues(self) -> bool:
        """Whether the server can be made to go on behind text that was said."""
        return not isinstance(self.request.prompt, Chat) or bool(self._target.kind.continues)

    # Reading ------------------------------------------------------------------------------------------------------

    async def _stream(self, used: Used) -> Finish:
        """Read one stream to its end. Raises UpstreamError, with `retry` where another may bring the rest."""
        target, spec, said = self._target, self._spec, self._said
        sent = body.build(self.request, target.model, target.kind, used, said.begin(), said.count)
        if self._renamed:
            sent["max_completion_tokens"] = sent.pop("max_tokens")
        events = EventStream()
        now = asyncio.get_running_loop().time
        heard = False
        try:
            async with (
                asyncio.timeout(spec.first_seconds) as limit,
                target.client.stream(body.path(self.request), sent) as stream,
            ):
                async for piece in stream:
                    for data in events.feed(piece):
                        if data.strip() == chunks.DONE:
                            return self._end()
                        heard = self._take(data, used) or heard
                        if said.overrun:
                            return "length"  # it was told where to end; nobody needs the rest
                        if said.finish is not None:
                            limit.reschedule(now() + USAGE_SECONDS)
                        elif heard:
                            limit.reschedule(now() + spec.between_seconds)
                for data in events.rest():
                    if data.strip() != chunks.DONE:
                        self._take(data, used)
        except TimeoutError:
            if said.finish is None:
                seconds = spec.between_seconds if heard else spec.first_seconds
                raise UpstreamError(
                    "upstream_silent", f"it said nothing for {seconds:g} seconds.", retry=True
                ) from None
        except UpstreamError:
            if said.finish is None:  # after its end nothing of an answer can be lost
                raise
        return self._end()

    def _end(self) -> Finish:
        reason = self._said.finish
        if reason is None or reason == "abort":
            raise UpstreamError("upstream_broke", "its stream ended before the answer did.", retry=True)
        if reason == "content_filter":
            raise UpstreamError("content_filter", "its filter ended this answer.")
        if reason == "error":
            raise UpstreamError("upstream_error", "it broke the answer off and gave no reason.")
        return _FINISHES.get(reason, "stop")

    def _take(self, data: str, used: Used) -> bool:
        """Publish what one event says; True if it brought some of the answer."""
        chunk = chunks.read(data, used.top_logprobs, self._key)
        self._check_model(chunk.model)
        event = self._said.take(chunk, used.max_tokens, self._clocks.steady(), self._clocks.wall())
        if event is not None:
            self._publish(event)
        return event is not None

    def _check_model(self, answered: str | None) -> None:
        """An adapter that a server does not know must not come back as its base without a word."""
        asked = self._target.model
        if answered is None or answered == asked:
            return
        if self._target.info.base is not None or answered in self._target.adapters:
            why = f"it was asked for {asked}, and answers as {told(answered, self._key)}: that is another model."
            raise UpstreamError("upstream_wrong_model", why)

    # Telling ------------------------------------------------------------------------------------------------------

    async def _score(self, used: Used) -> None:
        """What the model thinks of the prompt: a request of its own, for a stream does not tell it."""
        client = self._target.client
        sent = body.scoring(self.request, self._target.model, self._target.kind, used)
        try:
            async with asyncio.timeout(self._spec.first_seconds):
                answer = await client.post(client.remote.url + body.path(self.request), sent)
        except TimeoutError:
            why = f"it did not score the prompt in {self._spec.first_seconds:g} seconds."
            raise UpstreamError("upstream_silent", why) from None
        for index, some in scores.pieces(answer, used.prompt_logprobs or 0):
            self._publish(LaneScored(self.request.lane, index, some, self._clocks.wall()))

    def _done(self, finish: Finish, used: Used) -> None:
        late = self._said.late(used.max_tokens, self._clocks.wall())
        if late is not None:
            self._publish(late)
        self._publish(LaneDone(self.request.lane, finish, self.figures(), self._clocks.wall()))

    def _fail(self, error: Error) -> None:
        self._publish(LaneFailed(self.request.lane, error, self.figures(), self._clocks.wall()))
