"""The sampler: the kept set of transformers in its order, rules that nothing overrules, rows that never mix."""

from array import array

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from models_backend.protocol.params import Used
from models_backend.text import sampler
from models_backend.text.contract import Draw, EngineError, Rules
from models_backend.text.defaults import NEUTRAL, own_seed

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 600  # more than the first window


def used(**values: object) -> Used:
    return Used(**{**NEUTRAL, "seed": 1, **values})


def draw(logits: torch.Tensor, place: int = 0, prompt: tuple[int, ...] = (), **values: object) -> int:
    [outcome] = sampler.choose(logits[None].clone(), [Draw(used(**values), prompt, [0] * place)])
    assert outcome.token is not None
    return outcome.token


def distribution(logits: torch.Tensor, prompt: list[int], one: Used, bad: list[list[int]], eos: int) -> torch.Tensor:
    """Probabilities after transformers' own processors, in the order of its generate()."""
    steps = LogitsProcessorList()
    if one.logit_bias:
        steps.append(SequenceBiasLogitsProcessor({(token,): bias for token, bias in one.logit_bias.items()}))
    if one.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(one.repetition_penalty))
    if bad:
        steps.append(NoBadWordsLogitsProcessor(bad))
    if one.min_tokens:
        steps.append(MinNewTokensLengthLogitsProcessor(len(prompt), one.min_tokens, eos))
    if one.temperature != 1:
        steps.append(TemperatureLogitsWarper(one.temperature))
    if one.top_k:
        steps.append(TopKLogitsWarper(one.top_k))
    if one.top_p < 1:
        steps.append(TopPLogitsWarper(one.top_p))
    if one.min_p:
        steps.append(MinPLogitsWarper(one.min_p))
    if one.typical_p < 1:
        steps.append(TypicalLogitsWarper(one.typical_p))
    return steps(torch.tensor([prompt]), logits[None].double())[0].softmax(-1)


def rules(one: Used, bad: list[list[int]], eos: int) -> Rules:
    return Rules(
        ends=frozenset({eos}),
        biases=(array("q", one.logit_bias), array("d", one.logit_bias.values())),
        banned=array("q", [word[0] for word in bad if len(word) == 1]),
        banned_after={500: [(word[:-1], word[-1]) for word in bad if len(word) > 1]},
    )


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
    st.sampled_from([0.3, 0.9, 1.0]),
    st.sampled_from([1.0, 1.3, 0.7]),
    st.dictionaries(st.integers(0, VOCABULARY - 1), st.sampled_from([-100.0, -1.0, 5.0]), max_size=5),
    st.integers(0, 2),
)
def test_only_tokens_that_transformers_keeps_are_drawn_and_all_of_those_can_be(
    seed: int,
    spread: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    typical_p: float,
    penalty: float,
    bias: dict[int, float],
    min_tokens: int,
) -> None:
    one = used(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p, repetition_penalty=penalty,
        logit_bias=bias, min_tokens=min_tokens,
    )  # fmt: skip
    logits, prompt = logits_for(seed, spread), [3, 3, 99, 500]
    best = logits.topk(3).indices.tolist()
    bad = [[best[0]], [99, 500, best[1]], [98, 500, best[2]]]
    expected = distribution(logits, prompt, one, bad, best[2])
    kept = set(expected.nonzero()[:, 0].tolist())
    rows = 60
    draws = [Draw(used(**{**fields(one), "seed": n}), prompt, [], rules(one, bad, best[2])) for n in range(rows)]
    drawn = {outcome.token for outcome in sampler.choose(logits.expand(rows, -1).clone(), draws)}
    assert drawn <= kept
    if len(kept) <= 3:
        assert {i for i in kept if float(expected[i]) > 0.2} <= drawn


def fields(one: Used) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_a_row_draws_the_same_token_in_any_company() -> None:
    bias = Rules(biases=(array("q", [4, 9]), array("d", [2.5, -100.0])), banned=array("q", [1, 2]))
    kinds: list[tuple[dict[str, object], Rules]] = [
        ({}, Rules()),
        ({"top_p": 0.9}, bias),
        ({"top_k": 3}, Rules(banned_after={3: [((2, 3), 7)]})),
        ({"temperature": 0.0}, bias),
        ({"min_p": 0.2}, Rules()),
        ({"presence_penalty": 1.0, "repetition_penalty": 1.5}, Rules(seen=array("q", [1]))),
        ({"typical_p": 0.4}, bias),
        ({"top_k": 40, "typical_p": 0.8, "min_tokens": 5}, Rules(ends=frozenset({0, 5}))),
        ({"frequency_penalty": -0.5, "repetition_penalty": 0.8}, Rules()),
        ({}, Rules(form=Evens())),
    ]
    rows = [logits_for(n, 2.0) for n in range(len(kinds))]
    draws = [Draw(used(**kind, seed=n), [1], [2, 3], each) for n, (kind, each) in enumerate(kinds)]
    alone = [sampler.choose(row[None].clone(), [one])[0] for row, one in zip(rows, draws, strict=True)]
    assert sampler.choose(torch.stack(rows), draws) == alone
    assert sampler.choose(torch.stack(rows[::-1]), draws[::-1]) == alone[::-1]
    assert sampler.choose(torch.stack(rows[::2]), draws[::2]) == alone[::2]


class Evens:
    """A form that allows the even ids below 400."""

    def allowed(self, ids: object) -> bytes:
        return bytes([0b01010101] * 50)

    def complete(self, ids: object) -> bool:
        return False


class Broken(Evens):
    def allowed(self, ids: object) -> bytes:
        raise EngineError("constraint_too_costly", "Too much.", "constraint")


def test_a_form_allows_nothing_but_its_bits_and_nothing_beyond_them() -> None:
    logits = torch.zeros(VOCABULARY)
    logits[401:] = 9.0
    logits[1::2] += 3.0
    draws = [Draw(used(seed=n), [], [], Rules(form=Evens())) for n in range(300)]
    drawn = {outcome.token for outcome in sampler.choose(logits.expand(300, -1).clone(), draws)}
    assert all(token is not None and token % 2 == 0 and token < 400 for token in drawn)
    assert len(drawn) > 100


def test_a_form_that_fails_fails_its_row_alone_and_by_name() -> None:
    draws = [Draw(used(), [], [], Rules(form=form)) for form in (None, Broken(), Evens())]
    outcomes = sampler.choose(torch.stack([logits_for(1, 1.0)] * 3), draws)
    assert [outcome.error.code if outcome.error else None for outcome in outcomes] == [
        None,
        "constraint_too_costly",
        None,
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_everything_is_ruled_out_the_row_fails_by_name_and_the_others_do_not(temperature: float) -> None:
    everything = Rules(form=Evens(), banned=array("q", range(0, 400, 2)))
    draws = [Draw(used(temperature=temperature), [], [], each) for each in (Rules(), everything, Rules(form=Evens()))]
    outcomes = sampler.choose(torch.stack([logits_for(1, 1.0)] * 3), draws)
    assert [outcome.error.code if outcome.error else None for outcome in outcomes] == [None, "no_token_left", None]


def test_what_is_ruled_out_stays_out_whatever_a_bias_says() -> None:
    each = Rules(ends=frozenset({3}), biases=(array("q", [3, 4, 5]), array("d", [100.0] * 3)), banned=array("q", [4]))
    one = used(min_tokens=1, presence_penalty=-2.0)
    outcomes = sampler.choose(torch.zeros(50, 8), [Draw(used(min_tokens=1, seed=n), [], [], each) for n in range(50)])
    assert {outcome.token for outcome in outcomes} == {5}
    assert sampler.choose(torch.zeros(1, 8), [Draw(one, [4], [4, 3], each)])[0].token in (3, 5)


def test_a_bias_of_a_hundred_takes_a_token_and_of_minus_a_hundred_leaves_it() -> None:
    logits = logits_for(3, 4.0)
    worst, best = int(logits.argmin()), int(logits.argmax())
    up, down = (Rules(biases=(array("q", [token]), array("d", [by]))) for token, by in ((worst, 100.0), (best, -100.0)))
    for temperature in (0.0, 1.0, 2.0):
        for n in range(10):
            one = used(temperature=temperature, seed=n)
            assert sampler.choose(logits[None].clone(), [Draw(one, [], [], up)])[0].token == worst
            assert sampler.choose(logits[None].clone(), [Draw(one, [], [], down)])[0].token != best


def test_a_banned_word_ends_with_what_was_said_in_the_prompt_and_the_answer_alike() -> None:
    logits = torch.zeros(8)
    logits[5] = 50.0
    each = Rules(banned_after={4: [((2, 3, 4), 5)]})

    def next_of(prompt: list[int], answer: list[int]) -> int | None:
        return sampler.choose(logits[None].clone(), [Draw(used(), prompt, answer, each)])[0].token

    for prompt, answer in (([0], [2, 3, 4]), ([0, 2], [3, 4]), ([2, 3, 4], []), ([], [2, 3, 4])):
        assert next_of(prompt, answer) != 5
    for prompt, answer in (([0], [1, 3, 4]), ([0], [4]), ([3, 4], []), ([], [4]), ([], []), ([4], [2, 3])):
        assert next_of(prompt, answer) == 5


def test_lanes_of_equal_distributions_say_the_same_with_one_seed_and_not_with_their_own() -> None:
    logits = logits_for(8, 0.5).expand(8, -1)
    for kind in ({}, {"top_p": 0.9}, {"typical_p": 0.9}, {"min_p": 0.01}):
        same = [Draw(used(**kind, seed=5), [1], [2]) for _ in range(8)]
        assert len({outcome.token for outcome in sampler.choose(logits.clone(), same)}) == 1
        own = [Draw(used(**kind, seed=own_seed(5, lane)), [1], [2]) for lane in range(8)]
        assert len({outcome.token for outcome in sampler.choose(logits.clone(), own)}) > 4


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
