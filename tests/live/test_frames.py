"""Frames that are wrong, and what is said of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_backend.protocol.events import LaneToken, encode
from playground.errors import BadParameter, DiptychError
from playground.live import frames
from tests.conftest import spec_of

ID = "0" * 32
START = {"type": "run.start", "client_id": ID, "spec": spec_of()}


def wrong(**changes):
    return json.dumps({**START, "spec": {**START["spec"], **changes}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"ping"',
        "{",
        "{}",
        '{"type":"nonsense"}',
        '{"type":7}',
        '{"type":"ping","t":NaN}',
        '{"type":"ping","t":1e999}',
        '{"type":"ping","t":"\\ud800"}',
        '{"type":"ping","extra":1}',
        '{"type":"ping"}{"type":"ping"}',
        '{"type":"ping","t":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"type":"ping","t":' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}",
        '{"type":"ping"}' + " " * frames.MAX_SMALL_FRAME,
        "\ufeff{}",
        "\x00",
    ],
)
def test_what_is_no_frame_is_refused_without_a_trace(text):
    with pytest.raises(DiptychError) as caught:
        frames.decode(text)
    assert "Traceback" not in caught.value.message and len(caught.value.message) < 300
    frames.ref(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (json.dumps({**START, "client_id": "x"}), "client_id"),
        (json.dumps({"type": "run.follow", "run": ID, "after": -1}), "after"),
        (json.dumps({"type": "run.follow", "run": ID, "after": 2**63}), "after"),
        (json.dumps({"type": "run.follow", "run": ID, "after": 2**53}), "after"),
        (json.dumps({"type": "run.follow", "run": ID, "after": 1.5}), "after"),
        (json.dumps({"type": "run.follow", "run": "../x"}), "run"),
        (json.dumps({"type": "lane.stop", "run": ID, "lane": 64}), "lane"),
        (json.dumps({"type": "lane.stop", "run": ID, "lane": -1}), "lane"),
        (json.dumps({"type": "lane.stop", "run": ID, "lane": True}), "lane"),
        (wrong(params={"temperature": 3}), "params.temperature"),
        (wrong(params={"seed": 2**70}), "params.seed"),
        (wrong(params={"max_tokens": 10**12}), "params.max_tokens"),
        (wrong(params={"stop": ["a"] * 5}), "params.stop"),
        (wrong(params={"n": 4}), "params.n"),
        (wrong(params={"logit_bias": {"-1": 1}}), "params.logit_bias"),
        (wrong(params={"stop_token_ids": [-1]}), "params.stop_token_ids[0]"),
        (wrong(params={"constraint": {"kind": "regex"}}), "params.constraint"),
        (wrong(lanes=[]), "lanes"),
        (wrong(lanes=[{"model": "m"}] * 17), "lanes"),
        (wrong(lanes=[{"model": "m", "api_base": "http://x"}]), "lanes[0].api_base"),
        (wrong(prompt={"mode": "chat", "messages": [{"role": "root", "content": ""}]}), "prompt.messages[0].role"),
        (wrong(prompt={"mode": "completion", "text": "x" * 200_001}), "prompt.text"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(text, field):
    with pytest.raises(BadParameter) as caught:
        frames.decode(text)
    assert caught.value.field == field
    assert caught.value.message.startswith(field)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5), st.data()
)
def test_any_json_is_a_frame_or_is_refused(value, data):
    kinds = ["run.start", "run.follow", "lane.stop", "lane.rerun", "ack", "ping"]
    names = ["run", "lane", "after", "client_id", "spec", "frame", "t", "params"]
    frame = {"type": data.draw(st.sampled_from(kinds)), data.draw(st.sampled_from(names)): value}
    text = json.dumps(frame, ensure_ascii=data.draw(st.booleans()))
    try:
        frames.decode(text)
    except DiptychError:
        frames.encode(frames.Failure("x", "y", None, frames.ref(text)))


@given(st.text())
def test_any_text_is_a_frame_or_is_refused(text):
    with pytest.raises(DiptychError):
        frames.decode(text)


def test_an_error_names_the_frame_that_it_answers_but_repeats_no_long_words():
    text = json.dumps({"type": "run.start", "client_id": ID, "run": "y" * 1000, "lane": [1]})
    assert json.loads(frames.encode(frames.Failure("c", "m", None, frames.ref(text))))["ref"] == {
        "type": "run.start",
        "client_id": ID,
    }


def test_a_prompt_of_the_longest_length_fits_into_a_frame_in_any_script():
    for character in ("x", "é", "語", "\U0001f44b"):
        spec = {**START["spec"], "prompt": {"mode": "completion", "text": character * 200_000}}
        text = json.dumps({**START, "spec": spec}, ensure_ascii=False)
        assert len(text.encode()) < frames.MAX_FRAME
        assert frames.decode(text).spec.prompt.text == character * 200_000


@given(st.text(), st.integers(1, frames.MAX_NUMBER))
def test_entries_pass_as_they_are_with_their_numbers_in_front(text, number):
    event = LaneToken(0, 0, (1,), text, 1.0)
    frame = json.loads(frames.events(3, ID, [(number, encode(event)), (number + 1, encode(event))]))
    assert (frame["frame"], frame["run"]) == (3, ID)
    assert [each.pop("n") for each in frame["events"]] == [number, number + 1]
    assert frame["events"] == [json.loads(encode(event))] * 2
