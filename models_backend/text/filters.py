"""What top_k, top_p, min_p and typical_p keep, each over what the one before it kept.

A share of the probability (top_p, typical_p) is reached by the fewest tokens in falling order, and by all those that
are equal to the last of them. Typical sampling: Meister et al. 2023, as in transformers' TypicalLogitsWarper.
"""

import math

import torch
from torch import Tensor

from models_backend.protocol.params import Used

BINS = 4096
SORTABLE = 2048  # so few are sorted; more are counted into bins first


def kept_among(
    best: Tensor, total: Tensor, top_k: Tensor, top_p: Tensor, log_min_p: Tensor, typical_p: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Which of `best` [rows, n] are kept, as bools; and for which rows [rows] that may be too few to tell.

    `best` are each row's n highest scores in falling order, `total` [rows, 1] the logsumexp of all. The settings are
    [rows, 1], `typical_p` None if no row has one. A row whose n-th is still kept by the filters before typical_p may
    have more to keep, unless n are all there are.
    """
    limited = top_k > 0
    last = best.gather(-1, top_k.clamp(1, best.shape[-1]) - 1)
    keep = (best > -torch.inf) & (~limited | (best >= last))
    total = torch.where(limited, best.masked_fill(~keep, -torch.inf).logsumexp(-1, keepdim=True), total)
    mass = (best - total).exp() * keep
    needed = (mass.cumsum(-1) - mass < top_p).sum(-1, keepdim=True).clamp_(min=1)
    keep &= (best >= best.gather(-1, needed - 1)) | (top_p >= 1)
    keep &= best >= best[:, :1] + log_min_p
    short = keep[:, -1]
    if typical_p is None:
        return keep, short
    logs = best - best.masked_fill(~keep, -torch.inf).logsumexp(-1, keepdim=True)
    mass = logs.exp() * keep
    surprise = _surprise(logs, mass, keep)
    ordered, order = surprise.sort(-1)
    needed = (mass.gather(-1, order).cumsum(-1) < typical_p).sum(-1, keepdim=True).clamp_(max=best.shape[-1] - 1)
    return keep & ((surprise <= ordered.gather(-1, needed)) | (typical_p >= 1)), short


def keep_only(scores: Tensor, used: Used) -> Tensor:
    """Lower what is not kept of one row's `scores` [vocabulary] to -inf, in place; without a sort of all of them."""
    if 0 < used.top_k < len(scores):
        _cut(scores, scores, scores.topk(used.top_k).values[-1])
    if used.top_p < 1:
        _cut(scores, scores, _edge(scores, scores.softmax(-1), used.top_p))
    if used.min_p:
        _cut(scores, scores, scores.max() + math.log(used.min_p))
    if used.typical_p < 1:
        logs = scores.log_softmax(-1)
        mass = logs.exp()
        near = _surprise(logs, mass, scores > -torch.inf).neg_()
        _cut(scores, near, _edge(near, mass, used.typical_p))
    return scores


def _cut(scores: Tensor, order: Tensor, edge: Tensor) -> None:
    scores.masked_fill_(order < edge, -torch.inf)


def _surprise(logs: Tensor, mass: Tensor, keep: Tensor) -> Tensor:
    """How far each token's information is from the distribution's entropy; infinite where it is not kept."""
    entropy = -(mass * logs.masked_fill(~keep, 0.0)).sum(-1, keepdim=True)
    return (logs + entropy).abs_().masked_fill_(~keep, torch.inf)


def _edge(order: Tensor, mass: Tensor, share: float) -> Tensor:
    """The highest value at or above which `mass` [n] reaches `share`, going down in `order` [n]; -inf is no part of it.

    Exact, in a few passes over all: counted into bins, then the one bin in which the share is reached is looked at
    closer. Where rounding leaves all of `mass` a hair below `share`, everything is needed.
    """
    before = 0.0
    if order.min() == -torch.inf:
        order, mass = order[order > -torch.inf], mass[order > -torch.inf]
    while len(order) > SORTABLE:
        high, low = order.max(), order.min()
        if high == low:
            return high
        bins = (high - order).div_(high - low).mul_(BINS).clamp_(max=BINS - 1).long()
        sums = torch.bincount(bins, weights=mass, minlength=BINS).cumsum(0) + before
        at = min(int((sums < share).sum()), BINS - 1)
        inside = bins == at
        before = float(sums[at - 1]) if at else before
        order, mass = order[inside], mass[inside]
    order, index = order.sort(descending=True)
    return order[min(int((mass[index].cumsum(0) + before < share).sum()), len(order) - 1)]
