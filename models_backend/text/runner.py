"""What every runner over torch offers, whatever computes behind it: transformers' modules, or a compiled step."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from .adapter_weights import AdapterWeights, Prepared
from .contract import Feed, Outcome


class TorchRunner(Protocol):
    """A contract.Runner whose logits can be looked at, as the tests at load do; draw.forward makes the rest."""

    device: str
    slots: int
    cache_slots: int
    tokens: int | None
    context: int
    vocabulary: int
    chunk: int | None
    copies: bool
    precision: str
    number_bytes: int  # that a number of an adapter takes

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[sum of feed.wanted, vocabulary]: what follows each feed's last `wanted` ids, in the order of the feeds."""
        ...

    def copy(self, source: int, target: int, length: int) -> None: ...
    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]: ...
    def release(self, slot: int) -> None: ...

    def probe(self, feeds: Sequence[Feed]) -> Tensor:
        """`logits` with slots of their own, empty before and after: no row's state is read or changed."""
        ...

    def prepare(self, weights: AdapterWeights) -> Prepared:
        """All that is slow about an adapter: hold it against the base, bring it into this runner's types.

        May be called in another thread while a pass runs, so it changes nothing. Raises EngineError, code
        `adapter_refused`, also for a kind of adapter that this runner does not do.
        """
        ...

    def attach(self, weights: Any) -> None:
        """Take in what `prepare` returned; called between two passes, and quick. Feeds may then name it."""
        ...

    def detach(self, name: str) -> None:
        """Forget an adapter, between two passes; no row carries it. Nothing happens if there is none of that name."""
        ...
