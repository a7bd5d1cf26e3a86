"""The wire of `/live`, in one place: every frame that may come in and every frame that goes out, as JSON text.

A client says `run.start` (or `run.follow`), receives `events` with consecutive numbers, and acknowledges them by
their `frame` number. At most `window.frames` of them, and about `window.bytes`, are on their way unacknowledged;
what a slow client misses it gets later from the log, in larger frames. After a break it sends `run.follow` with the
last number that it has. A frame that is wrong is answered by `error`, and the socket lives on.

Close codes: 4401 not signed in (any more), 4404 unknown address or withdrawn link, 4408 too many messages, 4429 too
many sockets, 1009 frame too big, 1012 the server restarts.
"""

from importlib.metadata import version
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from models_backend.protocol.params import Params
from models_backend.protocol.runs import MAX_TAKES, LaneSpec, RunId, RunSpec
from models_backend.protocol.workers import Heartbeat, ModelInfo
from playground.errors import BadParameter, DiptychError
from playground.runs.checking import explain

PROTOCOL = 1
BUILD = version("diptych")
MAX_FRAME = 1024 * 1024  # bytes: 200,000 characters of any script, and their JSON
MAX_SMALL_FRAME = 16 * 1024  # of every type but run.start and lane.rerun, which bring a prompt, a branch, a grammar
MAX_NUMBER = 2**53 - 1  # what JavaScript holds exactly

Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
LaneIndex = Annotated[int, Meta(ge=0, lt=MAX_TAKES)]
ClientId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class _In(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class RunStart(_In, tag="run.start"):
    """Start a run and follow it. The same `client_id` again, after a break say, is the same run."""

    client_id: ClientId
    spec: RunSpec


class RunFollow(_In, tag="run.follow"):
    """Send the events above number `after`, and then what comes. Again for the same run: begin anew from there."""

    run: RunId
    after: Number = 0


class RunUnfollow(_In, tag="run.unfollow"):
    run: RunId


class RunStop(_In, tag="run.stop"):
    run: RunId


class LaneStop(_In, tag="lane.stop"):
    run: RunId
    lane: LaneIndex


class LaneRerun(_In, tag="lane.rerun"):
    """Answer once more, in place of `lane`, or in a new column where that is null.

    `spec` null: as the lane was. `params`: the shared parameters of the page, where they are not the run's any more.
    """

    run: RunId
    lane: LaneIndex | None
    client_id: ClientId
    spec: LaneSpec | None = None
    params: Params | None = None


class Ack(_In, tag="ack"):
    """All `events` frames up to `frame` have been dealt with."""

    frame: Number


class Ping(_In, tag="ping"):
    t: float = 0.0


In = RunStart | RunFollow | RunUnfollow | RunStop | LaneStop | LaneRerun | Ack | Ping


class Ref(Struct, frozen=True, omit_defaults=True):
    """What an error speaks of: the frame's own words, as far as they could be read."""

    type: Any = None
    client_id: Any = None
    run: Any = None
    lane: Any = None


class Window(Struct, frozen=True):
    frames: int
    bytes: int


class Hello(Struct, frozen=True, tag="hello"):
    """The first frame. Pages of another `protocol` reload themselves."""

    build: str
    window: Window
    guest: bool = False
    protocol: int = PROTOCOL


class Models(Struct, frozen=True, tag="models"):
    """On connect and whenever it changes; load figures at most every two seconds."""

    models: list[ModelInfo]
    workers: list[Heartbeat]


class RunAccepted(Struct, frozen=True, tag="run.accepted"):
    client_id: str
    run: str


class LaneAccepted(Struct, frozen=True, tag="lane.accepted"):
    run: str
    lane: int
    replaces: int | None
    client_id: str


class StopAccepted(Struct, frozen=True, tag="stop.accepted"):
    run: str
    lane: int | None


class Reset(Struct, frozen=True, tag="reset"):
    """The log is shorter than what the client has of it: forget that; events follow from 1."""

    run: str


class Pong(Struct, frozen=True, tag="pong"):
    t: float


class Failure(Struct, frozen=True, tag="error"):
    code: str
    message: str
    field: str | None
    ref: Ref


Out = Hello | Models | RunAccepted | LaneAccepted | StopAccepted | Reset | Pong | Failure

_decoder: msgspec.json.Decoder[In] = msgspec.json.Decoder(In)
_ref = msgspec.json.Decoder(Ref)
_encoder = msgspec.json.Encoder()


class BadFrame(DiptychError):
    code = "bad_frame"


def decode(text: str) -> In:
    """Parse one frame. Raises BadFrame for what is no frame, and BadParameter with the field for a wrong one."""
    try:
        frame = _decoder.decode(text)
    except msgspec.ValidationError as error:
        field, why = explain(error)
        if field is None or field == "type":
            raise BadFrame(f"This frame is not part of the protocol: {why}.", field=field) from None
        raise BadParameter(field.removeprefix("spec."), why.removeprefix("spec.")) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadFrame("A frame must be one JSON object in UTF-8.") from None
    if not isinstance(frame, RunStart | LaneRerun) and len(text) > MAX_SMALL_FRAME:
        raise BadFrame(f"A frame of this type has at most {MAX_SMALL_FRAME} characters.")
    return frame


def ref(text: str) -> Ref:
    """Of a frame that was refused, the words by which its sender knows it again; only if they are short."""
    if len(text) > MAX_FRAME:
        return Ref()
    try:
        found = _ref.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Ref()
    return Ref(*(value if _short(value) else None for value in msgspec.structs.astuple(found)))


def encode(frame: Out) -> str:
    return _encoder.encode(frame).decode()


def events(frame: int, run: str, entries: list[tuple[int, bytes]]) -> str:
    """An `events` frame. The entries pass as they are, with their numbers put in front."""
    numbered = b",".join(b'{"n":%d,%b' % (number, raw[1:]) for number, raw in entries)
    return (b'{"type":"events","frame":%d,"run":"%b","events":[%b]}' % (frame, run.encode(), numbered)).decode()


def _short(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= 64)
