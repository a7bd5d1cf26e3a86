"""Insight that is kept: what was shown is shown again, in bounded space."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_backend.protocol.events import Candidate, Insight, Shade
from playground.runs import insights
from playground.runs.insights import pack, unpack

numbers = st.floats(-60, 0).map(lambda number: round(number, insights.DIGITS))
texts = st.text(max_size=3)
# One text for an id, as a vocabulary has it.
candidates = st.integers(0, 50).flatmap(
    lambda id_: numbers.map(lambda logprob: Candidate(id_, f"\x00{id_}\u202e", logprob))
)
tops = st.lists(candidates, max_size=3).map(tuple)
shades = st.builds(Shade, numbers, st.integers(1, 50_000), numbers, numbers, numbers, tops)
seen = st.builds(
    Insight,
    st.integers(0, 50),
    texts,
    numbers,
    st.integers(1, 50_000),
    numbers,
    tops,
    st.lists(shades, max_size=3).map(tuple),
)
known = st.lists(st.none() | seen, max_size=6)


@given(known, known)
def test_what_is_kept_comes_back_as_it_was(insight, scored):
    if not any(insight) and not any(scored):
        assert pack(insight, scored) == ""
        return
    assert unpack(pack(insight, scored)) == (insight, scored)


def test_what_a_server_does_not_tell_stays_unknown():
    top = (Candidate(None, "yes", -0.1), Candidate(None, "no", -2.5), Candidate(7, "so", -3.0))
    insight = [Insight(None, "yes", -0.1, 1, None, top), Insight(None, "no", -0.5, None, None, top[:2])]
    assert unpack(pack(insight, [])) == (insight, [])


def test_what_is_too_long_loses_alternatives_and_never_a_token(monkeypatch):
    top = tuple(Candidate(id_, f" word {id_}", -1.25) for id_ in range(20))
    insight = [Insight(1, "a", -0.5, 1, 2.0, top, (Shade(-0.5, 1, 2.0, 0.1, 0.2, top),)) for _ in range(50)]
    whole = pack(insight, [])
    monkeypatch.setattr(insights, "MAX_CHARS", len(whole) // 2)
    some, _ = unpack(pack(insight, []))
    assert [len(seen.top) for seen in some] == [5] * 50 or [len(seen.top) for seen in some] == [10] * 50
    monkeypatch.setattr(insights, "MAX_CHARS", 10)
    none, _ = unpack(pack(insight, []))
    assert [(seen.logprob, seen.top, seen.shades[0].kl) for seen in none] == [(-0.5, (), 0.1)] * 50


@pytest.mark.parametrize("text", ["{", "[1,2]", '[{},[["x"]],[]]', '[{},[[1,"a",0,1,0,[7,0],[]]],[]]'])
def test_what_is_no_insight_is_refused(text):
    with pytest.raises((msgspec.MsgspecError, ValueError, KeyError)):
        unpack(text)
