"""Events out of bytes that are cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_backend.remote.errors import UpstreamError, told
from models_backend.remote.sse import EventStream


def read(*pieces, limit=10_000):
    stream = EventStream(limit)
    events = [event for piece in pieces for event in stream.feed(piece)]
    return events, stream.rest()


@pytest.mark.parametrize(("raw", "events"), [
    (b"data: a\n\n", ["a"]),
    (b"data:a\n\ndata: b\n\n", ["a", "b"]),
    (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", ["a", "b", "c"]),
    (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
    (b": comment\n\n: more\ndata: a\n\n", ["a"]),
    (b"event: x\nid: 5\nretry: 10\ndata: a\nunknown\n\n", ["a"]),
    (b"data: a\ndata: b\n\n", ["a\nb"]),
    (b"data\n\n", [""]),
    (b"data:  two spaces\n\n", [" two spaces"]),
    (b"dataset: no\n\n\n\n", []),
    ("data: café 👩🏽‍🚀\n\n".encode(), ["café 👩🏽‍🚀"]),
    (b"data: \xff\n\n", ["\ufffd"]),
])  # fmt: skip
def test_events_are_read_as_the_standard_says(raw, events):
    assert read(raw) == (events, [])
    assert read(*(raw[i : i + 1] for i in range(len(raw)))) == (events, [])


def test_an_end_without_an_empty_line_is_forgiven():
    assert read(b"data: a\n\ndata: b\n") == (["a"], ["b"])
    assert read(b"data: a\n\ndata: b") == (["a"], ["b"])
    assert read(b"data: a\n\n: comment") == (["a"], [])


lines = st.lists(
    st.text(st.characters(exclude_characters="\r\n\ufeff", exclude_categories=("Cs",)), max_size=8),
    min_size=1,
    max_size=3,
)


@given(st.lists(lines, max_size=4), st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 200), max_size=6))
def test_wherever_the_bytes_are_cut_the_events_are_the_same(events, ending, cuts):
    raw = "".join("".join(f"data: {line}{ending}" for line in event) + ending for event in events).encode()
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    pieces = [raw[start:end] for start, end in pairwise(places)]
    assert read(*pieces) == (["\n".join(event) for event in events], [])


def test_what_is_too_long_is_not_kept():
    for raw in (b"data: " + b"x" * 200, b"data: x\n" * 40, b"x" * 200):
        with pytest.raises(UpstreamError, match="more than 100 bytes"):
            read(raw, limit=100)
    assert read(*([b": keep-alive comment\n"] * 1000), b"data: a\n\n", limit=100) == (["a"], [])


def test_a_servers_words_are_short_plain_and_without_the_key():
    text = told("line\none\u202e \x00 " + "x" * 9000 + " key-123", "key-123")
    assert text.startswith("line one x") and len(text) == 300 and text.endswith("…")
    assert told("my key-123!", "key-123") == "my [key]!"
    assert told(None, "k") == told(["x"], "k") == told({}, "") == ""
