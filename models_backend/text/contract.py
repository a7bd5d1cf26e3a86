"""What the engine asks of a model: a dialect (text to ids and back) and a runner (ids to the next id).

Torch-free, so that the loop above it can be tested, and the web's tests can run it, without a model library.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models_backend.engine import EngineError as EngineError
from models_backend.engine import Note as Note
from models_backend.engine import Request as Request
from models_backend.protocol.events import Error
from models_backend.protocol.params import Constraint, Used
from models_backend.protocol.runs import Prompt
from models_backend.protocol.workers import Proof


class OutOfMemory(Exception):
    """The device has no memory for this forward pass; a smaller one may fit."""


class Form(Protocol):
    """What one answer must look like. Its replies are functions of the ids alone, however it was asked before."""

    def allowed(self, ids: Sequence[int]) -> bytes:
        """One bit for each id, the lowest first: 1 where it may follow `ids`. Ids beyond the last bit may not.

        The ids that end an answer are among them where `ids` are complete. Raises EngineError as `complete` does, and
        code `constraint_too_costly` where following it further takes more than is allowed.
        """
        ...

    def complete(self, ids: Sequence[int]) -> bool:
        """`ids` are all that is asked for, and nothing may follow. Raises EngineError where they break the form."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the draws of one row obey besides numbers; made once for the row (rules.py).

    `ends` are the ids that end the answer. `biases` are added to logits: ids and as many numbers. `banned` are ids that
    are never drawn; `banned_after` tells, for the id just before, what is not drawn behind which ids: (ids, id).
    `seen` are the ids of the prompt, each once, where a penalty asks for them.
    """

    ends: frozenset[int] = frozenset()
    biases: tuple[Sequence[int], Sequence[float]] = ((), ())
    banned: Sequence[int] = ()
    banned_after: Mapping[int, Sequence[tuple[Sequence[int], int]]] = field(default_factory=dict)
    seen: Sequence[int] = ()
    form: Form | None = None


FREE = Rules()


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose the next token: the settings, and the ids so far (penalties look at them).

    The token's place in the answer is `len(answer)`. The noise of a draw depends on (seed, place, token id) alone.
    """

    used: Used
    prompt: Sequence[int]
    answer: Sequence[int]
    rules: Rules = FREE


@dataclass(frozen=True, slots=True)
class Feed:
    """A row's share of one forward pass: `tokens` go to positions `start`, `start + 1` ... of cache slot `slot`.

    With `draw` the row wants the token that follows; without it more ids of it will come, or none is wanted.
    `adapter` is the id of a fine-tuned model, or None for the base; its deltas count `strength` times.

    `score` asks what the model thinks of tokens that are known. `shadows` is the index, in the same pass, of the feed
    that this one shadows: the same tokens at the same positions, the same draw and score, under another model. No token
    is drawn for it; what it sees becomes `shades` of that feed's outcome, in the order of the feeds.
    """

    slot: int
    adapter: str | None
    start: int
    tokens: Sequence[int]
    draw: Draw | None
    strength: float = 1.0
    shadows: int | None = None
    score: "Score | None" = None

    @property
    def wanted(self) -> int:
        """At how many of its last positions this feed needs logits: those it scores, then the one it draws behind."""
        return (len(self.score.targets) if self.score else 0) + (1 if self.draw else 0)


@dataclass(frozen=True, slots=True)
class Score:
    """`targets[i]` is the known token behind the i-th of the feed's last `wanted` ids; `top` alternatives each."""

    targets: Sequence[int]
    top: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One token under a model: natural logarithms over the model's own distribution, before any setting of the draw.

    `top` are (id, logprob) in falling order. `kl` and `reverse_kl` compare a shadow with the row it shadows.
    """

    id: int
    logprob: float
    rank: int
    entropy: float
    top: Sequence[tuple[int, float]] = ()
    kl: float = 0.0
    reverse_kl: float = 0.0
    shades: "Sequence[Seen]" = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a Feed: the next token if one was asked for, or why this row alone cannot go on.

    `seen` is the insight into that token, `scored` into the targets of a Score.
    """

    token: int | None = None
    error: Error | None = None
    seen: Seen | None = None
    scored: Sequence[Seen] = ()


class Dialect(Protocol):
    """The text side of a model."""

    eos: frozenset[int]

    def encode(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt, special tokens included. Raises EngineError when the model cannot read such a prompt."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens; bytes that are no character yet show as U+FFFD at the end."""
        ...

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """The ids that write `word`, with and without a space before it; none where it has no text."""
        ...

    def form(self, constraint: Constraint) -> Form:
        """A new follower of `constraint`. Raises EngineError, code `invalid_constraint`, with the reason."""
        ...


class Runner(Protocol):
    """The numeric side of a model: a fixed number of slots, each holding one row's state."""

    device: str
    slots: int  # that rows may be in at the same time
    cache_slots: int  # slots beyond those, numbered behind them, in which beginnings of prompts are kept
    tokens: int | None  # positions that running rows may fill together; None = slots x context
    context: int
    vocabulary: int  # ids are below it
    copies: bool  # slots can be copied, and begun at a later position than 0
    precision: str  # of the weights, in words: `float32`, `4-bit`
    chunk: int | None  # longest piece of a prompt that one pass should take; None = prompts go in whole

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        """Run all rows in one pass. A row fails alone through its Outcome; raises OutOfMemory when the pass is too big.

        After an exception the engine sends some of the same feeds again. A runner whose slots cannot take a feed twice
        must therefore not raise, but answer for each row.
        """
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Make `target` hold what `source` holds at its first `length` positions; only if `copies` is true."""
        ...

    def release(self, slot: int) -> None:
        """The row in `slot` has ended; whatever it left there must not reach the next row.

        Where `copies` is true its keys and values stay readable until the slot is fed or copied to again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a fine-tuned model's weights: whether they are in memory, and what they were proven to be."""

    loaded: bool = False
    proof: Proof | None = None
    sha256: str | None = None


class Adapters(Protocol):
    """The adapters of a base that are in memory, within a budget. All is called in the engine's thread, between passes.

    A lane needs the adapters of one or more models (its own, its shadows') at the same time. It waits until `carry`
    names them all, and from then on counts among those who use them, until it ends.
    """

    @property
    def reading(self) -> bool:
        """Something is on its way, and `tend` has nothing to do before the callback given to `listen` is called."""
        ...

    def listen(self, wake: Callable[[], None]) -> None: ...

    def carry(self, models: Sequence[str]) -> list[str] | None:
        """What feeds call the adapters of these fine-tuned models; None while some are not in memory.

        A name stands for the content: the same weights always have the same one, others have another. Raises
        EngineError: `model_not_found`, `adapter_refused`, `proof_failed`, `adapter_memory`, `out_of_memory`.
        """
        ...

    def tend(self, wanted: Sequence[Sequence[str]], used: Collection[str]) -> set[str]:
        """Do what is due and return the models whose standing has changed. At most one adapter is attached in a call.

        `wanted` has the models of each lane that waits, in their order; `used` the names that rows carry.
        """
        ...

    def standing(self, model: str) -> Standing: ...

    def sha256(self, adapter: str) -> str:
        """Of an adapter in memory, by its name."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """A loaded base with its adapters. An id in `refused` could not be attached, or failed its proof.

    Without `adapters` all fine-tuned models are in memory, and feeds call their adapters by the models' ids.
    """

    dialect: Dialect
    runner: Runner
    proofs: dict[str, Proof] = field(default_factory=dict)
    refused: dict[str, EngineError] = field(default_factory=dict)
    adapters: Adapters | None = None


Build = Callable[[Note], Backend]
