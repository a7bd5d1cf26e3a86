"""Draws follow exactly the distribution that the settings describe: chi-square against numpy in float64.

The oracle below is written from the definitions, sorts where the sampler does not, and shares no code with it. Seeds
are given, so a test that passes always passes; each p-value is above 1e-4, which honest draws miss once in 10,000.
"""

from array import array
from typing import Any

import numpy as np
import pytest
import torch

from models_backend.protocol.params import Used
from models_backend.text import sampler
from models_backend.text.contract import Draw, Rules
from models_backend.text.defaults import NEUTRAL

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 36
DRAWS = 3000
LEAST_P = 1e-4
PROMPT = [7, 7, 15, 20]
ANSWER = [34, 34, 34, 11, 8]


class Only:
    """A form that allows some ids, wherever."""

    def __init__(self, *ids: int) -> None:
        self.ids = ids

    def allowed(self, ids: object) -> bytes:
        return sum(1 << token for token in self.ids).to_bytes(5, "little")

    def complete(self, ids: object) -> bool:
        return False


def exact(logits: np.ndarray, one: Used, rules: Rules) -> np.ndarray:
    """Probabilities of all tokens, by the definitions in their documented order."""
    x = logits.astype(np.float64)
    if rules.form is not None:
        x[[i for i in range(VOCABULARY) if not rules.form.allowed([])[i // 8] >> (i % 8) & 1]] = -np.inf
    for token, bias in one.logit_bias.items():
        x[token] += bias
    x[list(rules.banned)] = -np.inf
    for before, last in (pair for pairs in rules.banned_after.values() for pair in pairs):
        if [*PROMPT, *ANSWER][-len(before) :] == list(before):
            x[last] = -np.inf
    if len(ANSWER) < one.min_tokens:
        x[list(rules.ends)] = -np.inf
    for token in {*PROMPT, *ANSWER}:
        x[token] *= one.repetition_penalty if x[token] < 0 else 1 / one.repetition_penalty
    for token in set(ANSWER):
        x[token] -= ANSWER.count(token) * one.frequency_penalty + one.presence_penalty
    x /= one.temperature
    p = np.exp(x - x.max())
    p /= p.sum()
    if one.top_k:
        p[p < np.sort(p)[-one.top_k]] = 0
    for share, nearness in ((one.top_p, lambda q: q), (None, None), (one.typical_p, typicality)):
        if nearness is None:
            p[p < one.min_p * p.max()] = 0
        elif share < 1:
            p /= p.sum()
            order = np.argsort(-nearness(p), kind="stable")
            needed = int((np.cumsum(p[order]) < share).sum()) + 1
            p[order[needed:]] = 0
        p /= p.sum()
    return p


def typicality(p: np.ndarray) -> np.ndarray:
    information = -np.log(p, out=np.full_like(p, -np.inf), where=p > 0)
    entropy = float((p[p > 0] * information[p > 0]).sum())
    return np.where(p > 0, -np.abs(information - entropy), -np.inf)


def p_value(counts: np.ndarray, p: np.ndarray) -> float:
    """Of a chi-square test; what is expected less than 5 times is taken together."""
    expected = p * counts.sum()
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 1:
        counts, expected = counts[:-1], expected[:-1]
    if len(expected) == 1:
        return 1.0
    chi = float(((counts - expected) ** 2 / expected).sum())
    return float(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), torch.tensor(chi / 2)).double())


def drawn(logits: np.ndarray, values: dict[str, Any], rules: Rules, first: int = 0) -> np.ndarray:
    """How often each token comes in DRAWS draws, each with a seed of its own, in one call."""
    draws = [Draw(used(**values, seed=first + n), PROMPT, ANSWER, rules) for n in range(DRAWS)]
    outcomes = sampler.choose(torch.from_numpy(logits).expand(DRAWS, -1).clone(), draws)
    assert all(outcome.error is None for outcome in outcomes)
    return np.bincount([outcome.token for outcome in outcomes], minlength=VOCABULARY)


def used(**values: Any) -> Used:
    return Used(**{**NEUTRAL, "seed": 1, **values})


LOGITS = np.random.default_rng(7).normal(0, 1.7, VOCABULARY).astype(np.float32)
BIAS = {2: 3.0, 5: -1.5, 30: 100.0 - 97.5}
CASES: dict[str, tuple[dict[str, Any], Rules]] = {
    "nothing": ({}, Rules()),
    "temperature below 1": ({"temperature": 0.4}, Rules()),
    "temperature above 1": ({"temperature": 1.8}, Rules()),
    "top_k": ({"top_k": 5}, Rules()),
    "top_p": ({"top_p": 0.8}, Rules()),
    "min_p": ({"min_p": 0.1}, Rules()),
    "typical_p": ({"typical_p": 0.7}, Rules()),
    "repetition penalty": ({"repetition_penalty": 1.6}, Rules()),
    "repetition reward": ({"repetition_penalty": 0.6}, Rules(seen=array("q", [7, 15, 20]))),
    "frequency penalty": ({"frequency_penalty": 0.7}, Rules()),
    "presence penalty": ({"presence_penalty": -1.3}, Rules()),
    "bias": ({"logit_bias": BIAS}, Rules(biases=(array("q", BIAS), array("d", BIAS.values())))),
    "banned": ({}, Rules(banned=array("q", [int(LOGITS.argmax())]), banned_after={8: [((11, 8), 4), ((5, 8), 6)]})),
    "min_tokens": ({"min_tokens": 6}, Rules(ends=frozenset({int(LOGITS.argmax()), 1}))),
    "min_tokens reached": ({"min_tokens": 5}, Rules(ends=frozenset({int(LOGITS.argmax()), 1}))),
    "form": ({}, Rules(form=Only(1, 4, 9, 16, 25, 35))),
    "all filters": ({"temperature": 1.3, "top_k": 20, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.9}, Rules()),
    "filters and penalties": (
        {"top_p": 0.9, "typical_p": 0.8, "repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.4},
        Rules(),
    ),
    "everything": (
        {
            "temperature": 0.8, "top_k": 12, "top_p": 0.97, "min_p": 0.01, "typical_p": 0.95, "logit_bias": BIAS,
            "repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.1, "min_tokens": 9,
        },
        Rules(
            ends=frozenset({4}), biases=(array("q", BIAS), array("d", BIAS.values())), banned=array("q", [9]),
            form=Only(1, 2, 4, 5, 9, 11, 16, 20, 25, 30, 31, 35),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_draws_follow_the_exact_distribution(case: str) -> None:
    values, rules = CASES[case]
    expected = exact(LOGITS, used(**values), rules)
    counts = drawn(LOGITS, values, rules)
    assert counts[expected == 0].sum() == 0
    assert p_value(counts, expected) > LEAST_P


@pytest.mark.parametrize("case", CASES)
def test_each_case_changes_what_is_drawn(case: str) -> None:
    """Or the tests above would pass whatever the setting does."""
    values, rules = CASES[case]
    plain = exact(LOGITS, used(), Rules())
    changed = exact(LOGITS, used(**values), rules)
    same = case in ("nothing", "min_tokens reached")
    assert (p_value(np.round(changed * DRAWS), plain) > LEAST_P) == same


def test_a_slightly_wrong_distribution_is_noticed() -> None:
    counts = drawn(LOGITS, {"temperature": 1.2}, Rules())
    assert p_value(counts, exact(LOGITS, used(temperature=1.0), Rules())) < LEAST_P
    counts = drawn(LOGITS, {"top_k": 9}, Rules())
    assert counts[exact(LOGITS, used(top_k=8), Rules()) == 0].sum() > 0


def test_a_wide_vocabulary_is_drawn_from_as_exactly() -> None:
    """More tokens than the window and than are sorted: by blocks of equal probability."""
    blocks = np.repeat(np.arange(8), 400)
    logits = (np.random.default_rng(1).permutation(blocks) * 0.4).astype(np.float32)
    level = np.round(logits / 0.4).astype(int)
    for values in ({}, {"top_p": 0.9}, {"typical_p": 0.6}, {"top_p": 0.97, "typical_p": 0.9, "min_p": 0.1}):
        draws = [Draw(used(**values, seed=n), [], [0]) for n in range(600)]
        found = sampler.choose(torch.from_numpy(logits).expand(600, -1).clone(), draws)
        counts = np.bincount(level[[outcome.token for outcome in found]], minlength=8)
        kept = whole_blocks(logits, used(**values))
        expected = np.bincount(level, weights=kept, minlength=8)
        assert counts[expected == 0].sum() == 0
        assert p_value(counts, expected) > LEAST_P


def whole_blocks(logits: np.ndarray, one: Used) -> np.ndarray:
    """As `exact`, for a few values that many tokens share: equals are kept or left out together."""
    p = np.exp(logits.astype(np.float64))
    p /= p.sum()
    for share, nearness in ((one.top_p, lambda q: q), (None, None), (one.typical_p, typicality)):
        if nearness is None:
            p[p < one.min_p * p.max() * (1 - 1e-9)] = 0
        elif share < 1:
            near = np.round(nearness(p), 9)
            order = np.sort(np.unique(near[p > 0]))[::-1]
            reached = np.cumsum([p[near == value].sum() for value in order])
            p[near < order[int((reached < share).sum())]] = 0
        p /= p.sum()
    return p
