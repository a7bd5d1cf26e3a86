"""The socket of one page: parse, authorise, call a service, forward. What it says and hears is in `frames.py`."""

import asyncio
import logging
import time
from collections import Counter
from contextlib import aclosing
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from playground.errors import BadParameter, BusDown, Busy, DatabaseBusy, DiptychError, NotFound, NotSignedIn, ReadOnly
from playground.models import Run, User
from playground.runs import service

from . import flow, frames
from .board import board
from .outbox import Outbox
from .visitor import CHECK_SECONDS, Visitor

logger = logging.getLogger(__name__)

NOT_SIGNED_IN, NO_LINK, TOO_MANY_MESSAGES, TOO_MANY_SOCKETS, TOO_BIG = 4401, 4404, 4408, 4429, 1009
MAX_SOCKETS = 200  # of one person, in this process
MAX_FOLLOWED = 64  # runs of one socket
RETRY_SECONDS = 0.5  # between two looks at a bus that is down

sockets: Counter[str] = Counter()  # open ones by visitor


class LiveConsumer(AsyncWebsocketConsumer):
    """Lives as long as the socket. All its tasks end with it."""

    async def connect(self) -> None:
        self.visitor = Visitor.of(self.scope)
        self.outbox = Outbox(self._text)
        self.budget = flow.Budget(time.monotonic)
        self.following: dict[str, asyncio.Task[None]] = {}
        self.watch: asyncio.Task[None] | None = None
        self.counted: str | None = None
        await self.accept()
        try:
            await self.visitor.check()
        except NotSignedIn:
            return await self.close(NOT_SIGNED_IN)
        except NotFound:
            return await self.close(NO_LINK)
        except DatabaseBusy:
            return await self.close(1013)
        if sockets[self.visitor.key] >= MAX_SOCKETS:
            return await self.close(TOO_MANY_SOCKETS)
        self.counted = self.visitor.key
        sockets[self.counted] += 1
        window = frames.Window(flow.FRAMES, flow.BYTES)
        await self.outbox.put(frames.Hello(frames.BUILD, window, guest=self.visitor.reads_only))
        await board().join(self.outbox.put)
        self.watch = asyncio.create_task(self._watch())

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        board().leave(self.outbox.put)
        tasks = [*self.following.values(), *([self.watch] if self.watch else [])]
        self.following.clear()
        await service.end_tasks(*tasks)
        if self.counted is not None:
            sockets[self.counted] -= 1
            if not sockets[self.counted]:
                del sockets[self.counted]
        raise StopConsumer

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """One frame. Whatever is wrong with it is answered; only abuse ends the socket."""
        text = text_data if text_data is not None else ""
        if max(len(text), len(bytes_data or b"")) > frames.MAX_FRAME:
            return await self.close(TOO_BIG)
        try:
            frame = frames.decode(text)
            if isinstance(frame, frames.Ack) and self.outbox.acknowledge(frame.frame):
                return  # one for each frame of ours: they cannot flood
            wrong = None
        except DiptychError as error:
            wrong = error
        if not self.budget.take():
            return await self.close(TOO_MANY_MESSAGES)
        if not await self._still_welcome():
            return
        try:
            if wrong is not None:
                raise wrong
            await self._answer(frame)
        except DiptychError as error:
            await self._complain(error, frames.ref(text))
        except Exception:  # a fault of ours must not take the page's other runs along
            logger.exception("a frame could not be answered")
            await self._complain(DiptychError("Something went wrong on the server. Try again."), frames.ref(text))

    async def _answer(self, frame: frames.In) -> None:
        match frame:
            case frames.Ping(t):
                await self.outbox.put(frames.Pong(t))
            case frames.RunFollow(run, after):
                await self._follow(await self._readable(run), after)
            case frames.RunUnfollow(run):
                await self._unfollow(run)
            case frames.RunStart(client_id, spec):
                started = await service.start(self._writer(), client_id, spec)
                await self.outbox.put(frames.RunAccepted(client_id, started.id))
                await self._follow(started, 0)
            case frames.RunStop(run):
                await service.stop_run(self._writer(), run)
                await self.outbox.put(frames.StopAccepted(run, None))
            case frames.LaneStop(run, lane):
                await service.stop_lane(self._writer(), run, lane)
                await self.outbox.put(frames.StopAccepted(run, lane))
            case frames.LaneRerun(run, lane, client_id, spec, params):
                added = await service.add_lane(self._writer(), run, client_id, replaces=lane, lane=spec, params=params)
                await self.outbox.put(frames.LaneAccepted(run, added.index, added.replaces, client_id))
            case frames.Ack():
                raise BadParameter("frame", "No such frame waits to be acknowledged.")

    def _writer(self) -> User:
        """Who acts. Raises ReadOnly for guests and for readers of a shared run."""
        if self.visitor.reads_only or self.visitor.person is None:
            raise ReadOnly
        return self.visitor.person

    async def _readable(self, run_id: str) -> Run:
        """The run, if this visitor may read it. Raises NotFound, or ReadOnly for a reader of another run."""
        if self.visitor.share is None:
            return await service.find(self.visitor.person, run_id)
        if run_id != self.visitor.shared_run:
            raise ReadOnly
        return await service.find_shared(self.visitor.person, self.visitor.share)

    async def _follow(self, run: Run, after: int) -> None:
        await self._unfollow(run.id)
        if len(self.following) >= MAX_FOLLOWED:
            raise Busy(f"One page follows at most {MAX_FOLLOWED} runs. Close some.")
        self.following[run.id] = asyncio.create_task(self._stream(run, after))

    async def _unfollow(self, run_id: str) -> None:
        task = self.following.pop(run_id, None)
        if task is not None:
            await service.end_tasks(task)

    async def _stream(self, run: Run, last: int) -> None:
        """Forward the events of a run until it is unfollowed. Trouble on the way is told once, and waited out."""
        pace = flow.Pace(time.monotonic)
        known: bytes | None = None
        ref = frames.Ref(type="run.follow", run=run.id)
        told = False
        while True:
            try:
                async with aclosing(service.follow(run, last, known)) as steps:
                    async for step in steps:
                        if isinstance(step, service.Reset):
                            last, known = 0, None
                            await self.outbox.put(frames.Reset(run.id))
                            continue
                        await self.outbox.put_events(run.id, step)
                        (last, known), told = step[-1], False
                        await asyncio.sleep(pace.sent(len(step)))
                return
            except (BusDown, DatabaseBusy) as error:
                if not told:
                    await self._complain(error, ref)
                told = True
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                logger.exception("run %s can no longer be followed", run.id)
                await self._complain(DiptychError("This run cannot be followed any more. Reload the page."), ref)
                return

    async def _watch(self) -> None:
        """Rights end in the database, which sends no word of it, so it is asked."""
        while await self._still_welcome():  # noqa: ASYNC110
            await asyncio.sleep(CHECK_SECONDS)

    async def _still_welcome(self) -> bool:
        """Whether the visitor may stay; closes the socket if not."""
        try:
            await self.visitor.check_again()
        except NotSignedIn:
            await self.close(NOT_SIGNED_IN)
        except NotFound:
            await self.close(NO_LINK)
        else:
            return True
        return False

    async def _complain(self, error: DiptychError, ref: frames.Ref) -> None:
        await self.outbox.put(frames.Failure(error.code, error.message, error.field, ref))

    async def _text(self, text: str) -> None:
        await self.send(text_data=text)
