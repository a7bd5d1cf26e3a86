"""How sure a model was of a token, and how far another model's opinion lies from it: numbers over raw logits.

All in natural logarithms, in float32, over the distribution before any setting of the draw. Many positions at a time,
in blocks that keep what is made beside the logits small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .contract import Seen

FLOOR = -9999.0  # log-probability of what cannot be: a logit of minus infinity must not become a number that is none
BLOCK_VALUES = 1 << 22  # logits looked at together: some tens of MiB with all that is made of them
_PANE = 32  # neighbouring logits of which only the largest is ranked at first


@dataclass(frozen=True, slots=True)
class Look:
    """One token to look at. `rows` of the logits: the model's own, then those of its shadows. `top` alternatives."""

    rows: Sequence[int]
    id: int
    top: int


@dataclass(frozen=True, slots=True)
class Unsound:
    """Why there is nothing to see: the numbers of this model, by its place in `Look.rows`, are not finite."""

    model: int


@torch.inference_mode()
def look(logits: Tensor, looks: Sequence[Look]) -> list[Seen | Unsound]:
    """What the rows of `logits` [rows, vocabulary] say of each token.

    KL by its definition (Kullback, Leibler 1951), both ways; a difference is taken before it is weighed, so a
    distribution is at exactly 0 from itself. Raises IndexError for a token outside the vocabulary.
    """
    vocabulary = logits.shape[-1]
    if any(not 0 <= one.id < vocabulary for one in looks):
        raise IndexError(f"the vocabulary has {vocabulary} tokens")
    found: list[Seen | Unsound] = [Unsound(0)] * len(looks)
    for count in {len(one.rows) for one in looks}:
        group = [i for i, one in enumerate(looks) if len(one.rows) == count]
        size = max(1, BLOCK_VALUES // (vocabulary * count))
        for start in range(0, len(group), size):
            block = group[start : start + size]
            for i, seen in zip(block, _block(logits, [looks[i] for i in block]), strict=True):
                found[i] = seen
    return found


def top(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row and their places, in falling order: topk, but fast on long rows.

    The largest of a row lie in the panes with the largest maxima, and there are few of those.
    """
    length = values.shape[-1]
    panes = length // _PANE
    if not count or panes <= 2 * count:
        best = values.topk(count)
        return best.values, best.indices
    even = values[..., : panes * _PANE].unflatten(-1, (panes, _PANE))
    chosen = even.amax(-1).topk(count).indices
    places = (chosen[..., None] * _PANE + torch.arange(_PANE, device=values.device)).flatten(-2)
    rest = torch.arange(panes * _PANE, length, device=values.device)
    places = torch.cat([places, rest.expand(*places.shape[:-1], -1)], -1)
    best = values.gather(-1, places).topk(count)
    return best.values, places.gather(-1, best.indices)


def _block(logits: Tensor, looks: Sequence[Look]) -> list[Seen | Unsound]:
    device, vocabulary = logits.device, logits.shape[-1]
    most = min(max(one.top for one in looks), vocabulary)
    rows = torch.tensor([list(one.rows) for one in looks], device=device)
    ids = torch.tensor([one.id for one in looks], device=device)[:, None, None].expand(-1, rows.shape[1], 1)
    scores = logits[rows].float()  # [looks, models, vocabulary], a copy
    total = scores.logsumexp(-1, keepdim=True)
    scores -= total
    scores.clamp_(min=FLOOR)
    own = scores.gather(-1, ids)
    rank = (scores > own).sum(-1, keepdim=True) + 1
    best, places = top(scores, most)
    chance = scores.exp()
    entropy = -(chance * scores).sum(-1, keepdim=True)
    kl = reverse = torch.zeros_like(own)
    if rows.shape[1] > 1:
        apart = scores[:, :1] - scores
        kl, reverse = (chance[:, :1] * apart).sum(-1, keepdim=True), -(chance * apart).sum(-1, keepdim=True)
    sound = torch.isfinite(total)
    parts = [sound, own, rank, entropy, kl, reverse, best, places]
    # One way off the device for all of it; float32 holds every rank and id exactly, for vocabularies end below 2**24.
    table = torch.cat([part.float() for part in parts], -1).tolist()
    return [_seen(one, models, most) for one, models in zip(looks, table, strict=True)]


def _seen(look: Look, models: list[list[float]], most: int) -> Seen | Unsound:
    broken = next((model for model, numbers in enumerate(models) if not numbers[0]), None)
    if broken is not None:
        return Unsound(broken)
    shades = tuple(_one(look, numbers, most) for numbers in models[1:])
    return _one(look, models[0], most, shades)


def _one(look: Look, numbers: list[float], most: int, shades: Sequence[Seen] = ()) -> Seen:
    _, own, rank, entropy, kl, reverse, *rest = numbers
    best = tuple((int(place), value) for value, place in zip(rest[: min(look.top, most)], rest[most:], strict=False))
    # Sums of many small numbers may end a hair on the wrong side of zero.
    return Seen(look.id, min(own, 0.0), int(rank), max(entropy, 0.0), best, max(kl, 0.0), max(reverse, 0.0), shades)
