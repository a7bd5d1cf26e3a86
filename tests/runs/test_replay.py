"""The meaning of a log: the sample that the browser's reducer is held to as well, and laws over all logs."""

import json
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from models_backend.protocol import events
from models_backend.protocol.events import Error, Figures, LaneAdded, LaneToken, RunCreated, encode
from models_backend.protocol.params import Used
from models_backend.protocol.runs import Completion, LaneSpec, RunSpec
from playground.runs import replay

SAMPLE = json.loads((Path(__file__).parent.parent / "protocol" / "sample.json").read_text())
LANES = 3
RUN = "c" * 32
USED = Used(1, 1, 10, 0, 0, 1, 0, 0, (), 1)


def raw(event):
    """An event of the sample as the log holds it: without its number."""
    return json.dumps({key: value for key, value in event.items() if key != "n"}).encode()


def test_the_sample_holds_each_event_at_least_once():
    types = {event["type"] for event in SAMPLE["events"]}
    assert types == {kind.__struct_config__.tag for kind in events.Event.__args__}


def test_the_sample_replays_to_the_state_that_it_states_after_every_event():
    state = replay.RunState(lanes=[])
    for event, prefix in zip(SAMPLE["events"], SAMPLE["prefixes"], strict=True):
        state = replay.replay([(event["n"], raw(event))], state)
        assert state.last == prefix["after"]
        assert [[lane.state, lane.tokens, lane.text] for lane in state.lanes] == prefix["lanes"]
    assert json.loads(replay.as_json(state)) == SAMPLE["state"]


def test_the_sample_is_what_the_protocol_writes():
    for event in SAMPLE["events"]:
        assert json.loads(encode(events.decode(raw(event)))) == json.loads(raw(event))


@st.composite
def logs(draw):
    """A log as workers may leave it: lanes interleaved, tokens cut anywhere, an attempt that goes on for a dead one."""
    lanes = [LaneSpec("m") for _ in range(LANES)]
    log = [RunCreated(RUN, RunSpec(Completion("x"), tuple(lanes)), 1.0)]
    counts = [0] * LANES
    ended = [False] * LANES
    for _ in range(draw(st.integers(0, 40))):
        lane = draw(st.integers(0, len(counts) - 1))
        kind = draw(st.sampled_from(["token", "token", "token", "tail", "start", "end", "add"]))
        if kind == "add" and len(counts) < 6:
            log.append(LaneAdded(len(counts), LaneSpec("m"), lane, 1.0))
            counts.append(0)
            ended.append(False)
        elif ended[lane]:
            continue
        elif kind == "token":
            ids = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
            log.append(LaneToken(lane, counts[lane], ids, draw(st.text(max_size=4)), 1.0))
            counts[lane] += len(ids)
        elif kind == "tail":
            log.append(LaneToken(lane, counts[lane], (), draw(st.text(max_size=4)), 1.0))
        elif kind == "start":
            log.append(events.LaneStarted(lane, 1, "w", "m", "m", None, "cpu", 3, USED, 1.0))
        else:
            ended[lane] = True
            end = [
                events.LaneDone(lane, "stop", Figures(), 1.0),
                events.LaneStopped(lane, Figures(), 1.0),
                events.LaneFailed(lane, Error("x", "y"), Figures(), 1.0),
            ]
            log.append(draw(st.sampled_from(end)))
    return [(number, encode(event)) for number, event in enumerate(log, 1)]


@given(logs(), st.data())
def test_a_prefix_and_the_rest_are_the_whole_even_if_they_overlap(log, data):
    cut = data.draw(st.integers(0, len(log)))
    again = data.draw(st.integers(0, cut))
    whole = replay.replay(log)
    in_two = replay.replay(log[again:], replay.replay(log[:cut]))
    assert msgspec.json.encode(in_two) == msgspec.json.encode(whole)


@given(logs())
def test_text_and_ids_are_those_of_the_token_events_in_order(log):
    decoded = [events.decode(raw) for _, raw in log]
    for lane in replay.replay(log).lanes:
        tokens = [event for event in decoded if isinstance(event, LaneToken) and event.lane == lane.lane]
        assert lane.text == "".join(event.text for event in tokens)
        assert replay.token_ids(log, lane.lane) == tuple(id_ for event in tokens for id_ in event.ids)


def test_tokens_that_are_there_already_are_not_doubled():
    log = [RunCreated(RUN, RunSpec(Completion("x"), (LaneSpec("m"),)), 1.0)]
    log += [LaneToken(0, 0, (1, 2), "ab", 1.0), LaneToken(0, 1, (2,), "b", 1.0), LaneToken(0, 2, (3,), "c", 1.0)]
    entries = [(number, encode(event)) for number, event in enumerate(log, 1)]
    assert replay.replay(entries).lanes[0].text == "abc"
    assert replay.token_ids(entries, 0) == (1, 2, 3)


def _entries(*said):
    log = [RunCreated(RUN, RunSpec(Completion("x"), (LaneSpec("m"),)), 1.0), *said]
    return [(number, encode(event)) for number, event in enumerate(log, 1)]


def test_text_without_ids_counts_by_its_index_and_leaves_no_ids():
    entries = _entries(LaneToken(0, 2, (), "ab", 1.0), LaneToken(0, 3, (), "c", 1.0), LaneToken(0, 5, (), "", 1.0))
    (lane,) = replay.replay(entries).lanes
    assert (lane.text, lane.tokens) == ("abc", 5)
    assert replay.token_ids(entries, 0) == ()


def test_ids_with_a_hole_are_no_ids():
    entries = _entries(LaneToken(0, 1, (), "a", 1.0), LaneToken(0, 1, (7,), "b", 1.0))
    assert replay.replay(entries).lanes[0].tokens == 2
    assert replay.token_ids(entries, 0) == ()


def test_insight_into_tokens_without_ids_ends_at_the_index():
    seen = [events.Insight(None, text, -1.0, None, None) for text in "abc"]
    entries = _entries(LaneToken(0, 2, (), "ab", 1.0, tuple(seen[:2])), LaneToken(0, 3, (), "c", 1.0, (seen[2],)))
    assert replay.replay(entries).lanes[0].insight == seen
