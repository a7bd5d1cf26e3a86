"""The kept sets of top_k, top_p, min_p and typical_p, on both ways to find them, against transformers' warpers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from models_backend.protocol.params import Used
from models_backend.text import filters
from models_backend.text.defaults import NEUTRAL

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 2500  # more than what is sorted at once
TOP_K = st.sampled_from([0, 1, 7, 200])
TOP_P = st.sampled_from([0.0, 0.2, 0.9, 0.999, 1.0])
MIN_P = st.sampled_from([0.0, 0.05, 0.5, 1.0])
TYPICAL = st.sampled_from([0.05, 0.5, 0.95, 1.0])
SPREAD = st.sampled_from([0.01, 1.0, 4.0])  # nearly flat: almost all are needed; peaked: a few hold everything


def used(**values: object) -> Used:
    return Used(**{**NEUTRAL, "seed": 1, **values})


def scores_for(seed: int, spread: float) -> torch.Tensor:
    numbers = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers * spread


def oracle(scores: torch.Tensor, one: Used) -> torch.Tensor:
    """What transformers keeps, as bools, in the order of its generate()."""
    steps = LogitsProcessorList()
    if one.top_k:
        steps.append(TopKLogitsWarper(one.top_k))
    if one.top_p < 1:
        steps.append(TopPLogitsWarper(one.top_p))
    if one.min_p:
        steps.append(MinPLogitsWarper(one.min_p))
    if one.typical_p < 1:
        steps.append(TypicalLogitsWarper(one.typical_p))
    return steps(torch.zeros(1, 1, dtype=torch.int64), scores[None].clone())[0] > -torch.inf


def among(scores: torch.Tensor, one: Used, window: int) -> tuple[torch.Tensor, bool]:
    """The same by the window of the best, and whether that was wide enough."""
    best, ids = scores[None].topk(window)

    def column(value: float) -> torch.Tensor:
        return torch.tensor([[value]], dtype=torch.float64)

    keep, short = filters.kept_among(
        best,
        scores[None].logsumexp(-1, keepdim=True),
        torch.tensor([[one.top_k]]),
        column(one.top_p),
        column(one.min_p).log(),
        column(one.typical_p) if one.typical_p < 1 else None,
    )
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[ids[keep]] = True
    return kept, window == len(scores) or not bool(short)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), SPREAD, TOP_K, TOP_P, MIN_P, TYPICAL)
def test_both_ways_keep_exactly_what_transformers_keeps(
    seed: int, spread: float, top_k: int, top_p: float, min_p: float, typical_p: float
) -> None:
    scores, one = scores_for(seed, spread), used(top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p)
    expected = oracle(scores, one)
    assert torch.equal(filters.keep_only(scores.clone(), one) > -torch.inf, expected)
    for window in (256, VOCABULARY):
        found, wide_enough = among(scores, one, window)
        assert not wide_enough or torch.equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), TOP_P, TYPICAL, st.sampled_from([0, 1, 5]))
def test_tokens_of_equal_score_share_their_fate(levels: list[int], top_p: float, typical_p: float, top_k: int) -> None:
    scores = torch.tensor(levels, dtype=torch.float64)
    one = used(top_k=top_k, top_p=top_p, typical_p=typical_p)
    kept = filters.keep_only(scores.clone(), one) > -torch.inf
    assert bool(kept.any())
    for level in set(levels):
        assert len(set(kept[scores == level].tolist())) == 1
    assert torch.equal(among(scores, one, len(levels))[0], kept)


@pytest.mark.parametrize("values", [{"top_p": 0.9}, {"typical_p": 0.9}, {"top_p": 1e-12}, {"top_k": 3, "top_p": 0.9}])
def test_a_flat_distribution_is_no_trouble(values: dict[str, float]) -> None:
    scores = torch.full((VOCABULARY,), 2.5, dtype=torch.float64)
    assert bool((filters.keep_only(scores.clone(), used(**values)) == scores).all())


def test_ruled_out_tokens_are_no_part_of_a_share() -> None:
    scores = torch.full((VOCABULARY,), -torch.inf, dtype=torch.float64)
    scores[::2] = scores_for(3, 0.01)[::2]
    for values in ({"top_p": 0.999999}, {"typical_p": 0.99}, {"top_p": 0.5, "typical_p": 0.5, "min_p": 0.01}):
        kept = filters.keep_only(scores.clone(), used(**values)) > -torch.inf
        assert torch.equal(kept, oracle(scores, used(**values)))
        assert not kept[1::2].any()


def test_one_huge_gap_and_many_near_equals_are_told_apart() -> None:
    """Bins over the whole range hold nearly all in one: the second look must split it."""
    scores = torch.linspace(0, 1e-9, VOCABULARY, dtype=torch.float64)
    scores[0], scores[1] = -700.0, 1e-8
    expected = oracle(scores, used(top_p=0.25))
    found = filters.keep_only(scores.clone(), used(top_p=0.25)) > -torch.inf
    assert abs(int(found.sum()) - int(expected.sum())) <= 1
    assert bool(found[1])
    assert not found[0]


def test_a_top_p_of_nothing_keeps_the_best_one() -> None:
    scores = scores_for(1, 1.0)
    assert (filters.keep_only(scores.clone(), used(top_p=0.0)) > -torch.inf).nonzero()[:, 0].tolist() == [
        int(scores.argmax())
    ]
    assert int((filters.keep_only(scores.clone(), used(typical_p=0.0)) > -torch.inf).sum()) == 1
