"""The numbered facts of a run. Its log is the list of them; its text, its state and its figures follow from it alone.

An event's number is given by the bus when it is appended (1, 2, 3 ...) and is not part of the event.
`at` is the writer's clock in milliseconds since 1970. `tests/protocol/sample.json` shows each event once, and is
checked by the Python and the JavaScript reducer alike.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from .params import Used
from .runs import LaneSpec, RunSpec

Finish = Literal["stop", "length"]


class Error(Struct, frozen=True):
    """What went wrong, in words for a person, and a code for a program."""

    code: str
    message: str
    field: str | None = None


class Candidate(Struct, frozen=True, array_like=True):
    """A token that could stand here. Half a character shows as U+FFFD. `id` is None where an upstream keeps it back."""

    id: int | None
    text: str
    logprob: float


class Shade(Struct, frozen=True, omit_defaults=True):
    """What a shadow model says of the same token, and how far its distribution is from the lane's (nats).

    `kl` is KL(lane || shadow), `reverse_kl` KL(shadow || lane).
    """

    logprob: float
    rank: int
    entropy: float
    kl: float
    reverse_kl: float
    top: tuple[Candidate, ...] = ()


class Insight(Struct, frozen=True, omit_defaults=True):
    """How sure the model was of one token: natural logarithms over its own distribution.

    That is the one before temperature, penalties, filters and constraints, which choose but do not believe. `rank` 1 is
    the likeliest token. `shades` are in the order of the lane's `shadows`.

    A remote model tells what its server tells: `id`, `rank` and `entropy` are None where that does not say them, never
    a guess. (A rank is known without being told where the token is among the `top` that were asked for.)
    """

    id: int | None
    text: str
    logprob: float
    rank: int | None
    entropy: float | None
    top: tuple[Candidate, ...] = ()
    shades: tuple[Shade, ...] = ()


class Figures(Struct, frozen=True):
    """What an answer took. Times are milliseconds of the worker's clock.

    `first_ms` runs from the claim by the worker to the first token that it drew; `decode_ms` from that one to the last,
    so speed is (completion_tokens - 1) / decode_ms. Both count this attempt alone; a lane that went on from tokens that
    it was given has no `decode_ms`. `cached_tokens` of the prompt were in the prefix cache and not computed again.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_ms: float | None = None
    decode_ms: float | None = None
    cached_tokens: int = 0


class RunCreated(Struct, frozen=True, tag="run.created"):
    run: str
    spec: RunSpec
    at: float


class LaneAdded(Struct, frozen=True, tag="lane.added"):
    """One more lane joins a run. `replaces` is the lane whose place in the page it takes (a repeat), or None."""

    lane: int
    spec: LaneSpec
    replaces: int | None
    at: float


class LaneQueued(Struct, frozen=True, tag="lane.queued"):
    """The lane waits; `position` 1 is the next to begin. Told again when it changes."""

    lane: int
    position: int
    at: float


class LaneLoading(Struct, frozen=True, tag="lane.loading"):
    """A worker has claimed the lane and brings its model into memory."""

    lane: int
    model: str
    at: float


class LaneStarted(Struct, frozen=True, tag="lane.started", omit_defaults=True):
    """The worker begins, or goes on after another worker died (`attempt` above 1); shown text never changes.

    `precision` is that of the weights, in words (`float32`, `4-bit`). `strength` is None for a base. `prompt_tokens` is
    0 where a remote server has not counted them yet; the figures of the lane's end have its count.
    """

    lane: int
    attempt: int
    worker: str
    model: str
    base: str
    sha256: str | None  # of the adapter's weights, or of the base's where there is none
    device: str
    prompt_tokens: int
    used: Used
    at: float
    precision: str = ""
    strength: float | None = None


class LaneScored(Struct, frozen=True, tag="lane.scored"):
    """Prompt tokens `index`, `index + 1` ... as the model sees them; the first token of a prompt has nothing before it
    and so is not among them.

    They come in order and without a gap, all of them before the lane's first token. So a lane that another worker goes
    on with is scored anew only if its log has no token; then the same indices come once more, and say the same. A
    reader keeps what it has of an index.
    """

    lane: int
    index: int
    insight: tuple[Insight, ...]
    at: float


class LaneToken(Struct, frozen=True, tag="lane.token", omit_defaults=True):
    """Tokens `index`, `index + 1` ... of the answer, and the text that became certain with them.

    `text` may be empty (half a character, or text that may yet become a stop string) and `ids` may be empty: text that
    was held back and is let go at the end, or text of a remote model, whose server does not tell ids. `index` is then
    the number of tokens that the answer has with this text, so that `index + len(ids)` always counts them: exactly
    where the server counts or sends log-probabilities, else one for each piece of text that it sends. The figures of
    the lane's end bring the server's own count. Ids are never made up: an answer has all of them, or some are missing
    and then none is kept (`playground/runs/replay.py`, `token_ids`).

    `insight` has an entry for each id, or for each of the last tokens up to `index` where there are no ids, or none.
    """

    lane: int
    index: int
    ids: tuple[int, ...]
    text: str
    at: float
    insight: tuple[Insight, ...] = ()


class LaneDone(Struct, frozen=True, tag="lane.done"):
    lane: int
    finish: Finish
    figures: Figures
    at: float


class LaneStopped(Struct, frozen=True, tag="lane.stopped"):
    """Somebody pressed Stop; the text up to here is kept."""

    lane: int
    figures: Figures
    at: float


class LaneFailed(Struct, frozen=True, tag="lane.failed"):
    lane: int
    error: Error
    figures: Figures
    at: float


LaneEvent = (
    LaneAdded | LaneQueued | LaneLoading | LaneStarted | LaneScored | LaneToken | LaneDone | LaneStopped | LaneFailed
)
Event = RunCreated | LaneEvent
ENDS = (LaneDone, LaneStopped, LaneFailed)

encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def decode(raw: bytes | str) -> Event:
    """Parse one event; raises msgspec.ValidationError on anything that is not one."""
    return _decoder.decode(raw)
