"""Insight is what torch's own functions say of the raw logits, whatever the block, the batch and the draw."""

import math

import pytest
import torch
from torch.nn import functional

from models_backend.protocol.params import Used
from models_backend.text import draw as drawing
from models_backend.text import insight
from models_backend.text.contract import Draw, Feed, Outcome, Score
from models_backend.text.insight import FLOOR, Look, Unsound, look, top

PLAIN = Used(0.0, 1.0, 8, 0, 0.0, 1.0, 0.0, 0.0, (), 1)


def used(top_logprobs: int | None, **values: object) -> Used:
    import msgspec

    return msgspec.structs.replace(PLAIN, top_logprobs=top_logprobs, **values)


def logits(rows: int, vocabulary: int = 1000, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 4


@pytest.mark.parametrize("vocabulary", [3, 211, 4097])
def test_numbers_are_those_of_log_softmax(vocabulary: int) -> None:
    scores = logits(5, vocabulary)
    expected = scores.double().log_softmax(-1)
    for row, seen in enumerate(look(scores, [Look([row], row % 3, 20) for row in range(5)])):
        assert not isinstance(seen, Unsound)
        assert seen.logprob == pytest.approx(float(expected[row, row % 3]), abs=1e-5)
        assert seen.rank == 1 + sorted(expected[row].tolist(), reverse=True).index(float(expected[row, row % 3]))
        assert seen.entropy == pytest.approx(
            float(torch.distributions.Categorical(logits=scores[row]).entropy()), abs=1e-4
        )
        best = expected[row].topk(min(20, vocabulary))
        assert [id_ for id_, _ in seen.top] == best.indices.tolist()
        assert [value for _, value in seen.top] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert (seen.kl, seen.reverse_kl, seen.shades) == (0, 0, ())


def test_the_distance_of_shadows_is_torchs_kl_div_both_ways() -> None:
    scores = logits(4)
    [seen] = look(scores, [Look([2, 0, 3], 7, 2)])
    assert not isinstance(seen, Unsound)
    own, *others = (scores[row].double().log_softmax(-1) for row in (2, 0, 3))
    for shade, other in zip(seen.shades, others, strict=True):
        # torch's kl_div(input, target) is KL(target || input)
        assert shade.kl == pytest.approx(
            float(functional.kl_div(other, own, log_target=True, reduction="sum")), rel=1e-4
        )
        assert shade.reverse_kl == pytest.approx(
            float(functional.kl_div(own, other, log_target=True, reduction="sum")), rel=1e-4
        )
        assert shade.logprob == pytest.approx(float(other[7]), abs=1e-5)
        assert (shade.id, len(shade.top)) == (7, 2)


def test_a_distribution_is_at_exactly_no_distance_from_itself() -> None:
    scores = logits(1).expand(2, -1)
    [seen] = look(scores, [Look([0, 1], 7, 0)])
    assert not isinstance(seen, Unsound)
    assert (seen.shades[0].kl, seen.shades[0].reverse_kl) == (0, 0)


def test_many_looks_in_small_blocks_say_what_each_says_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = logits(9)
    looks = [
        Look(rows, id_, k)
        for rows, id_, k in [([0, 1], 3, 2), ([2], 4, 0), ([3, 4, 5], 5, 9), ([6, 7], 1, 5), ([8], 0, 1)]
    ]
    alone = [look(scores, [one])[0] for one in looks]
    monkeypatch.setattr(insight, "BLOCK_VALUES", 4000)
    assert look(scores, looks) == alone
    assert [len(one.top) for one in alone if not isinstance(one, Unsound)] == [2, 0, 9, 5, 1]


@pytest.mark.parametrize("length", [64, 5000, 49_152])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_the_best_are_found_as_topk_finds_them(length: int, count: int) -> None:
    values = torch.stack(
        [torch.randperm(length, generator=torch.Generator().manual_seed(seed)).float() for seed in (1, 2)]
    )
    best, places = top(values, count)
    assert torch.equal(best, values.topk(count).values)
    assert torch.equal(places, values.topk(count).indices)


def test_what_cannot_be_said_is_a_number_all_the_same() -> None:
    scores = logits(2, 100)
    scores[0, :40] = -math.inf
    scores[1, 50:] = -math.inf
    [seen] = look(scores, [Look([0, 1], 3, 20)])
    assert not isinstance(seen, Unsound)
    assert (seen.logprob, seen.rank) == (FLOOR, 61)
    shade = seen.shades[0]
    assert shade.logprob > FLOOR
    assert 0 < shade.kl < -FLOOR
    assert 0 < shade.reverse_kl < -FLOOR
    assert math.isfinite(seen.entropy)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_numbers_that_are_none_are_not_shown_and_their_model_is_known(broken: float) -> None:
    scores = logits(4)
    scores[2, 17] = broken
    found = look(scores, [Look([0, 1], 5, 3), Look([0, 2], 5, 3), Look([2, 3], 5, 3)])
    assert [isinstance(one, Unsound) for one in found] == [False, True, True]
    assert found[1:] == [Unsound(1), Unsound(0)]


def test_a_row_of_nothing_but_minus_infinity_is_no_distribution() -> None:
    assert look(torch.full((1, 9), -math.inf), [Look([0], 0, 1)]) == [Unsound(0)]


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    for id_ in (-1, 1000):
        with pytest.raises(IndexError, match="1000"):
            look(logits(1), [Look([0], id_, 1)])


# From logits to outcomes ----------------------------------------------------------------------------------------------


def feed(slot: int, count: int, top_logprobs: int | None = None, draws: bool = True, **values: object) -> Feed:
    wants = Draw(used(top_logprobs), [1, 2], []) if draws else None
    return Feed(slot, None, 0, [0] * count, wants, **values)  # type: ignore[arg-type]


def test_each_feed_gets_its_own_rows_in_the_order_of_the_feeds() -> None:
    scores = logits(8)
    best = scores.argmax(-1).tolist()
    score = Score([4, 5], 3)
    feeds = [
        feed(0, 1),
        feed(1, 5, draws=False),  # a part of a prompt: no row
        feed(2, 3, 2, score=score),
        feed(3, 3, 2, score=score, shadows=2),
        feed(4, 1, 0),
    ]
    assert [one.wanted for one in feeds] == [1, 0, 3, 3, 1]
    plain, part, scored, shadow, seen = drawing.outcomes(scores.clone(), feeds)
    assert plain == Outcome(token=best[0])
    assert part == shadow == Outcome()
    assert scored.token == best[3]
    assert [scored.seen, *scored.scored] == look(
        scores, [Look([3, 6], best[3], 2), Look([1, 4], 4, 3), Look([2, 5], 5, 3)]
    )
    assert seen == Outcome(token=best[7], seen=look(scores, [Look([7], best[7], 0)])[0])  # type: ignore[arg-type]


def test_insight_is_of_the_logits_before_penalties() -> None:
    scores = logits(1)
    best = int(scores.argmax())
    wants = Draw(used(1, frequency_penalty=2.0, presence_penalty=2.0, repetition_penalty=2.0), [best], [best] * 9)
    [outcome] = drawing.outcomes(scores.clone(), [Feed(0, None, 9, [best], wants)])
    assert outcome.token != best
    assert outcome.seen is not None
    assert outcome.seen.rank > 1
    assert outcome.seen.top[0][0] == best
    assert outcome.seen.logprob == pytest.approx(float(scores.log_softmax(-1)[0, outcome.token]), abs=1e-5)


def test_who_wants_no_insight_has_none_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nobody asked")

    monkeypatch.setattr(drawing, "look", never)
    assert all(one.seen is None for one in drawing.outcomes(logits(3), [feed(slot, 1) for slot in range(3)]))


def test_broken_numbers_fail_the_feed_whose_they_are() -> None:
    scores = logits(6)
    scores[1, 3] = scores[4, 3] = math.nan
    feeds = [feed(0, 1, 1), feed(1, 1, 1, shadows=0), feed(2, 1), feed(3, 1), feed(4, 1, 1), feed(5, 1, 1, shadows=3)]
    led, shadow, plain, other, broken, last = drawing.outcomes(scores, feeds)
    assert (led.error, plain.error, other.error, last.error) == (None, None, None, None)
    assert shadow.error is not None and broken.error is not None
    assert {shadow.error.code, broken.error.code} == {"invalid_logits"}


def test_a_shadow_that_is_not_in_step_is_a_mistake() -> None:
    for wrong in (feed(1, 1, shadows=0, draws=False), feed(1, 1, 1, shadows=1)):
        with pytest.raises(ValueError, match="shadow"):
            drawing.outcomes(logits(2)[: 1 + wrong.wanted], [feed(0, 1), wrong])


def test_too_few_rows_of_logits_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 are wanted"):
        drawing.outcomes(logits(1), [feed(0, 1), feed(1, 1)])
