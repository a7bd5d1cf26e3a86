"""What any runner over torch does with its logits: draw the next tokens, and say what was seen at each position.

A runner provides `logits` alone; `forward` here makes a contract.Runner's answer of them. Rows of which no insight is
wanted cost nothing but their draw.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from models_backend.protocol.events import Error

from .contract import Feed, Outcome, OutOfMemory, Seen
from .insight import Look, Unsound, look
from .sampler import choose

_BAD = Error("invalid_logits", "The model gave numbers that are not finite. Its weights may be damaged.")


class HasLogits(Protocol):
    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[sum of feed.wanted, vocabulary]: what follows each feed's last `wanted` ids, in the order of the feeds."""
        ...


@torch.inference_mode()
def forward(runner: HasLogits, feeds: Sequence[Feed]) -> list[Outcome]:
    """Run `feeds` in one pass and answer for each. Raises OutOfMemory."""
    with memory():
        return outcomes(runner.logits(feeds), feeds)


@contextmanager
def memory() -> Iterator[None]:
    """Whatever a device says when its memory is full becomes OutOfMemory."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        # The allocator for the CPU has no exception type of its own.
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise OutOfMemory(str(error)) from error
        raise


@torch.inference_mode()
def outcomes(logits: Tensor, feeds: Sequence[Feed]) -> list[Outcome]:
    """Tokens for the feeds that draw, insight for those that ask. `logits` as of HasLogits; may be overwritten."""
    firsts = _firsts(feeds)
    if logits.shape[0] != firsts[-1]:
        raise ValueError(f"{logits.shape[0]} rows of logits where {firsts[-1]} are wanted")
    shadows: list[list[int]] = [[] for _ in feeds]
    for i, feed in enumerate(feeds):
        if feed.shadows is not None:
            _check(feed, feeds[feed.shadows])
            shadows[feed.shadows].append(i)
    drawing = [i for i, feed in enumerate(feeds) if feed.draw and feed.shadows is None]
    seeing = [i for i in drawing if shadows[i] or _top(feeds[i]) is not None]
    found = _chosen(logits, [firsts[i + 1] - 1 for i in drawing], [feeds[i] for i in drawing], bool(seeing))
    made = [Outcome()] * len(feeds)
    for i, outcome in zip(drawing, found, strict=True):
        made[i] = outcome

    looks: list[Look] = []
    owners: list[int] = []
    for i, feed in enumerate(feeds):
        if feed.shadows is not None:
            continue
        models = [firsts[k] for k in (i, *shadows[i])]
        score = feed.score
        if score is not None:
            looks += [Look([row + n for row in models], id_, score.top) for n, id_ in enumerate(score.targets)]
            owners += [i] * len(score.targets)
        token = made[i].token
        if i in seeing and token is not None:
            looks.append(Look([row + feed.wanted - 1 for row in models], token, _top(feed) or 0))
            owners.append(i)
    if looks:
        _tell(made, feeds, shadows, owners, look(logits, looks))
    return made


def _chosen(logits: Tensor, rows: list[int], feeds: Sequence[Feed], keep: bool) -> list[Outcome]:
    """Draw from `rows`; with `keep` the logits stay as they are, else the sampler may write into them."""
    if not rows:
        return []
    every = len(rows) == logits.shape[0]
    picked = logits if every and not keep else logits.clone() if every else logits[rows]
    return choose(picked, [feed.draw for feed in feeds if feed.draw])


def _tell(
    made: list[Outcome],
    feeds: Sequence[Feed],
    shadows: Sequence[Sequence[int]],
    owners: Sequence[int],
    found: Sequence[Seen | Unsound],
) -> None:
    """Put what was found into the outcomes of its feeds; numbers that are none fail the feed whose they are."""
    known: dict[int, list[Seen]] = {}
    for i, seen in zip(owners, found, strict=True):
        if isinstance(seen, Unsound):
            made[(i, *shadows[i])[seen.model]] = Outcome(error=_BAD)
        else:
            known.setdefault(i, []).append(seen)
    for i, several in known.items():
        if made[i].error is None:
            count = len(score.targets) if (score := feeds[i].score) is not None else 0
            last = several[count] if len(several) > count else None
            made[i] = replace(made[i], seen=last, scored=tuple(several[:count]))


def _firsts(feeds: Sequence[Feed]) -> list[int]:
    """The row of logits at which each feed's begin, and their number."""
    firsts = [0]
    for feed in feeds:
        firsts.append(firsts[-1] + feed.wanted)
    return firsts


def _top(feed: Feed) -> int | None:
    return feed.draw.used.top_logprobs if feed.draw else None


def _check(shadow: Feed, feed: Feed) -> None:
    if feed.shadows is not None or shadow.wanted != feed.wanted or shadow.start != feed.start:
        raise ValueError("a shadow must read the same ids at the same positions as the row that it shadows")
