"""The sampler: the kept set of transformers, draws from exactly that distribution, noise that needs no state."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from models_backend.protocol.params import Used
from models_backend.text import noise, sampler
from models_backend.text.contract import Draw
from models_backend.text.defaults import NEUTRAL

VOCABULARY = 600  # more than the first window


def used(**values: object) -> Used:
    return Used(**{**NEUTRAL, "seed": 1, **values})


def draw(logits: torch.Tensor, place: int = 0, prompt: tuple[int, ...] = (), **values: object) -> int:
    [outcome] = sampler.choose(logits[None].clone(), [Draw(used(**values), prompt, [0] * place)])
    assert outcome.token is not None
    return outcome.token


def distribution(logits: torch.Tensor, prompt: list[int], one: Used) -> torch.Tensor:
    """Probabilities after transformers' own processors, in the order of its generate()."""
    steps = LogitsProcessorList()
    if one.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(one.repetition_penalty))
    if one.temperature != 1:
        steps.append(TemperatureLogitsWarper(one.temperature))
    if one.top_k:
        steps.append(TopKLogitsWarper(one.top_k))
    if one.top_p < 1:
        steps.append(TopPLogitsWarper(one.top_p))
    if one.min_p:
        steps.append(MinPLogitsWarper(one.min_p))
    return steps(torch.tensor([prompt]), logits[None].double())[0].softmax(-1)


def logits_for(seed: int, spread: float) -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * spread


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.01, 1.0, 4.0]),  # nearly flat: the window is too small; peaked: a few tokens hold all
    st.sampled_from([0.3, 1.0, 2.0]),
    st.sampled_from([0, 1, 7, 200]),
    st.sampled_from([0.0, 0.2, 0.9, 0.999, 1.0]),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from([1.0, 1.3, 0.7]),
)
def test_only_tokens_that_transformers_keeps_are_drawn_and_all_of_those_can_be(
    seed: int, spread: float, temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    values = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": penalty}
    logits, prompt = logits_for(seed, spread), [3, 3, 99, 500]
    kept = set(distribution(logits, prompt, used(**values)).nonzero()[:, 0].tolist())
    rows = 200
    outcomes = sampler.choose(
        logits.expand(rows, -1).clone(), [Draw(used(**values, seed=n), prompt, []) for n in range(rows)]
    )
    drawn = {outcome.token for outcome in outcomes}
    assert drawn <= kept
    if len(kept) <= 3:
        likely = {i for i in kept if float(distribution(logits, prompt, used(**values))[i]) > 0.05}
        assert likely <= drawn


@pytest.mark.parametrize(
    "values",
    [{}, {"top_p": 0.8}, {"top_k": 5}, {"min_p": 0.1}, {"temperature": 0.5, "top_k": 20, "top_p": 0.9, "min_p": 0.02}],
    ids=str,
)
def test_draws_follow_the_exact_distribution(values: dict[str, object]) -> None:
    logits = logits_for(1, 3.0)[:40]
    expected = distribution(logits, [0], used(**values))
    rows = 16_000
    draws = [Draw(used(**values, seed=n), [0], []) for n in range(rows)]
    counts = torch.zeros(40, dtype=torch.float64)
    for start in range(0, rows, 4000):
        batch = draws[start : start + 4000]
        tokens = [outcome.token for outcome in sampler.choose(logits.expand(len(batch), -1).clone(), batch)]
        counts += torch.bincount(torch.tensor(tokens), minlength=40)
    common = expected * rows >= 5
    assert counts[expected == 0].sum() == 0
    chi = float(((counts - expected * rows)[common] ** 2 / (expected * rows)[common]).sum())
    freedom = int(common.sum()) - 1
    # Wilson-Hilferty: the cube root of chi2/freedom is nearly normal; 4 standard deviations is 1 in 30,000.
    spread = 2 / (9 * freedom)
    assert ((chi / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread) < 4


def test_noise_is_known_for_all_time() -> None:
    """The first numbers of the generator. If they change, a run that is continued after an update breaks in two."""
    assert noise.key(0, 0) == 0
    assert noise.key(1, 0) != noise.key(0, 1)
    reference = noise.mix((noise.key(42, 7) + 5 * 0x9E3779B97F4A7C15) & (2**64 - 1))
    uniform = ((reference >> 12) + 0.5) * 2.0**-52
    found = noise.gumbel(torch.tensor([[noise.key(42, 7)]]), torch.tensor([[5]]))
    assert float(found) == pytest.approx(-math.log(-math.log(uniform)), rel=1e-12)
    assert float(found) == pytest.approx(0.6143944382613401, rel=1e-12)


def test_noise_of_neighbouring_places_and_seeds_is_unrelated() -> None:
    ids = torch.arange(4000)[None]
    rows = torch.cat([noise.gumbel(torch.tensor([[noise.key(s, p)]]), ids) for s in range(4) for p in range(4)])
    off = torch.corrcoef(rows) - torch.eye(16, dtype=torch.float64)
    assert float(off.abs().max()) < 0.07  # 4.4 standard deviations at 4000 numbers
    assert float(rows.mean()) == pytest.approx(0.5772, abs=0.02)


def test_a_row_draws_the_same_token_in_any_company() -> None:
    rows = [logits_for(n, 2.0) for n in range(6)]
    kinds = [{}, {"top_p": 0.9}, {"top_k": 3}, {"temperature": 0.0}, {"min_p": 0.2}, {"presence_penalty": 1.0}]
    draws = [Draw(used(**kind, seed=n), [1], [2, 3]) for n, kind in enumerate(kinds)]
    alone = [sampler.choose(row[None].clone(), [one])[0] for row, one in zip(rows, draws, strict=True)]
    assert sampler.choose(torch.stack(rows), draws) == alone
    assert sampler.choose(torch.stack(rows[::-1]), draws[::-1]) == alone[::-1]


def test_lanes_with_one_seed_throw_the_same_dice() -> None:
    logits = logits_for(5, 0.5)
    assert len({draw(logits, place=9, seed=7) for _ in range(3)}) == 1
    assert len({draw(logits, place=place, seed=7) for place in range(20)}) > 10
    assert len({draw(logits, place=9, seed=seed) for seed in range(20)}) > 10


def test_temperature_zero_is_the_best_token_whatever_the_seed_and_the_other_settings() -> None:
    logits = logits_for(2, 1.0)
    best = int(logits.argmax())
    assert {draw(logits, temperature=0.0, seed=seed, top_k=50, top_p=0.5) for seed in range(5)} == {best}


def test_frequency_and_presence_count_the_answer_alone() -> None:
    logits = torch.zeros(5)
    logits[2], logits[3] = 1.0, 0.5
    greedy = {"temperature": 0.0}
    one = Draw(used(**greedy, presence_penalty=0.6), [3, 3, 3], [2])
    assert sampler.choose(logits[None].clone(), [one])[0].token == 3
    one = Draw(used(**greedy, frequency_penalty=0.2), [2, 2, 2], [2, 2])
    assert sampler.choose(logits[None].clone(), [one])[0].token == 2
    one = Draw(used(**greedy, frequency_penalty=0.2), [], [2, 2, 2])
    assert sampler.choose(logits[None].clone(), [one])[0].token == 3


def test_a_row_that_is_not_finite_has_no_token_and_the_others_do() -> None:
    rows = torch.stack([logits_for(1, 1.0) for _ in range(4)])
    rows[1, 5], rows[2, 5], rows[3, :] = float("nan"), float("inf"), float("-inf")
    outcomes = sampler.choose(rows, [Draw(used(top_p=0.9), [], []) for _ in range(4)])
    assert [outcome.token is None for outcome in outcomes] == [False, True, True, True]
    assert {outcome.error.code for outcome in outcomes[1:] if outcome.error} == {"invalid_logits"}


def test_tokens_that_a_model_rules_out_are_never_drawn() -> None:
    logits = torch.full((VOCABULARY,), float("-inf"))
    logits[[7, 9]] = 1.0
    for values in ({}, {"top_p": 0.99}, {"top_k": 50}, {"min_p": 0.01}):
        assert {draw(logits, seed=seed, **values) for seed in range(30)} == {7, 9}
