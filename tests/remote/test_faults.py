"""What goes wrong between us and a server: nothing said is lost or doubled, and no end is made up."""

import json

import pytest

from models_backend.protocol.events import LaneDone, LaneFailed, LaneStarted, LaneToken
from models_backend.protocol.runs import Chat, Completion, Message

from .conftest import CHAT, PLAIN, count_of, text_of
from .upstream import TEXT, TUNED, WORDS, Fault, sse

KEY = "sk-very-secret-1234567890"


def error_of(events):
    assert isinstance(events[-1], LaneFailed), events[-1]
    return events[-1].error


@pytest.mark.parametrize("prompt", [CHAT, PLAIN], ids=["chat", "plain"])
@pytest.mark.parametrize(("kind", "model"), [("vllm", "meta/base"), ("llamacpp", "small.gguf")])
def test_a_stream_that_breaks_is_gone_on_with(house, kind, model, prompt):
    server = house.server(kind)
    server.faults += [Fault(after=4, cut=True), Fault(after=1, cut=True)]
    events = house.ask(house.ready(house.engine(server.url)), model, prompt, max_tokens=50)
    assert isinstance(events[-1], LaneDone)
    assert (text_of(events), count_of(events)) == (TEXT, len(WORDS))
    assert events[-1].figures.completion_tokens == len(WORDS)
    assert [seen.body["max_tokens"] for seen in server.asked] == [50, 46, 45]
    assert sum(isinstance(event, LaneStarted) for event in events) == 1


def test_white_space_that_a_template_cuts_is_not_said_twice(house):
    server = house.server("vllm")
    server.words = ["One", " ", " two", "\n", "\n", "three"]
    for after, sent in ((2, "One"), (4, "One  two"), (5, "One  two")):
        server.faults.append(Fault(after=after, cut=True))
        whole = "".join(server.words)
        server.rest = lambda body, chat, whole=whole: _behind(whole, body["messages"][-1])
        events = house.ask(house.ready(house.engine(server.url)), "meta/base")
        assert server.asked[-1].body["messages"][-1] == {"role": "assistant", "content": sent}
        assert text_of(events) == whole


def _behind(whole, last):
    """What a model says behind a message whose white space at the end was cut, in one piece."""
    rest = whole[len(last["content"]) :] if last["role"] == "assistant" else None
    return ["One", " ", " two", "\n", "\n", "three"] if rest is None else [rest]


def test_a_chat_that_cannot_be_gone_on_with_fails_and_keeps_its_text(house):
    server = house.server("openai")
    server.faults.append(Fault(after=4, cut=True))
    events = house.ask(house.ready(house.engine(server.url)), "big")
    assert text_of(events) == "".join(WORDS[:4])
    assert error_of(events).code == "upstream_cut" and "cannot go on" in error_of(events).message
    assert events[-1].figures.completion_tokens == 4
    assert len(server.asked) == 1
    server.faults.append(Fault(after=0, cut=True))  # nothing was said yet: it is simply asked again
    assert text_of(house.ask(house.ready(house.engine(server.url)), "big")) == TEXT


def test_an_answer_of_a_lost_worker_goes_on_behind_its_text_or_says_that_it_cannot(house):
    said = {"resume_text": "".join(WORDS[:3]), "resume_tokens": 3, "attempt": 2}
    vllm, openai = (house.ready(house.engine(house.server(kind).url)) for kind in ("vllm", "openai"))
    events = house.ask(vllm, "meta/base", max_tokens=8, **said)
    assert (text_of(events), count_of(events)) == ("".join(WORDS[3:8]), 8)
    assert events[-1].figures.decode_ms is None, "two workers' time is nobody's speed"
    assert error_of(house.ask(openai, "big", **said)).code == "upstream_cut"
    assert text_of(house.ask(openai, "big", Completion("Tell me:|"), **said)) == "".join(WORDS[3:])
    events = house.ask(vllm, "meta/base", max_tokens=3, **said)
    assert (text_of(events), events[-1].finish) == ("", "length")


@pytest.mark.parametrize("fault", [
    Fault(after=3),  # closed politely, without a reason for the end
    Fault(after=3, raw=(b"data: [DONE]\n\n",)),
    Fault(after=3, raw=(sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]}),)),
], ids=["closed", "done", "aborted"])  # fmt: skip
def test_a_truncation_never_looks_like_success(house, fault):
    server = house.server("openai")
    server.faults.append(fault)
    events = house.ask(house.ready(house.engine(server.url)), "big")
    assert error_of(events).code == "upstream_cut"
    assert text_of(events) == "".join(WORDS[:3])


def test_an_end_without_the_last_mark_is_an_end(house):
    server = house.server("openai")
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
    for raw in ((end + b"\n\n",), (end,), (end + b"\r\n\r\n", b": bye\r\n"), (end + b"\n\n", b"data: {garb")):
        server.faults.append(Fault(after=2, raw=raw))
        events = house.ask(house.ready(house.engine(server.url)), "big")
        assert (text_of(events), events[-1].finish) == ("The river", "stop")


@pytest.mark.parametrize(("said", "words"), [
    ({"error": {"message": "CUDA out of memory", "code": 400}}, "CUDA out of memory"),
    ({"error": "plain words"}, "plain words"),
    ({"object": "error", "message": "the old form", "code": 400}, "the old form"),
    ({"error": {}}, "no reason was given"),
])  # fmt: skip
def test_an_error_inside_the_stream_ends_the_lane_with_the_servers_words(house, said, words):
    server = house.server("vllm")
    server.faults.append(Fault(after=2, raw=(sse(said),)))
    events = house.ask(house.ready(house.engine(server.url)), "meta/base")
    assert (error_of(events).code, text_of(events)) == ("upstream_error", "The river")
    assert words in error_of(events).message


def test_a_server_that_breaks_down_inside_the_stream_is_asked_again(house):
    server = house.server("vllm")
    server.faults.append(Fault(after=2, raw=(sse({"error": {"message": "EngineDead", "code": 500}}),)))
    assert text_of(house.ask(house.ready(house.engine(server.url)), "meta/base")) == TEXT


@pytest.mark.parametrize("raw", [
    b"data: {\n\n", b"data: [1]\n\n", b'data: "x"\n\n', b"data: " + b"[" * 100_000 + b"\n\n", b"data: \xff\xfe\n\n",
])  # fmt: skip
def test_garbage_ends_the_lane_and_keeps_the_text(house, raw):
    server = house.server("vllm")
    server.faults.append(Fault(after=2, raw=(raw,)))
    events = house.ask(house.ready(house.engine(server.url)), "meta/base")
    assert (error_of(events).code, text_of(events)) == ("upstream_garbage", "The river")


def test_fields_of_the_wrong_kind_are_unknown_and_harm_nobody(house):
    server = house.server("vllm")
    strange = [
        {"choices": None}, {"choices": []}, {"choices": [7]}, {"choices": [{"delta": 5, "text": ["x"]}]},
        {"choices": [{"delta": {"content": 7}, "token_ids": ["a"], "logprobs": [1], "finish_reason": 5}]},
        {"choices": [{"delta": {"content": "!"}, "token_ids": [-1], "logprobs": {"content": [{"logprob": "x"}]}}]},
        {"usage": {"completion_tokens": -5, "prompt_tokens": "many", "prompt_tokens_details": 3}, "model": 5},
        {"choices": [{"delta": {"content": "\\ud83d?"}, "logprobs": {"content": [{"token": "a", "logprob": None}]}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None},
    ]  # fmt: skip
    raw = tuple(sse(event).replace(b"\\\\ud83d", b"\\ud83d") for event in strange)
    server.faults.append(Fault(after=1, raw=raw))
    events = house.ask(house.ready(house.engine(server.url)), "meta/base", top_logprobs=2)
    assert isinstance(events[-1], LaneDone)
    assert text_of(events) == "The!\ufffd?"
    json.dumps([event.text for event in events if isinstance(event, LaneToken)]).encode()


def test_an_event_without_end_is_bounded(house):
    server = house.server("vllm")
    server.faults.append(Fault(after=2, raw=(b"data: " + b"x" * 65536, *([b"x" * 65536] * 80))))
    events = house.ask(house.ready(house.engine(server.url)), "meta/base")
    assert error_of(events).code == "upstream_garbage" and "4,194,304" in error_of(events).message


def test_pieces_may_be_cut_anywhere(house):
    server = house.server("openai")
    whole = b"\xef\xbb\xbf: hello\r\n\r\n" + b"".join(
        server.chunk("big", True, word).replace(b"\n", b"\r\n") for word in WORDS
    )
    whole += sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    server.pages = {}
    server.faults.append(Fault(after=0, raw=tuple(whole[i : i + 7] for i in range(0, len(whole), 7))))
    server.chunk, first = (lambda *args, **facts: b""), server.chunk
    events = house.ask(house.ready(house.engine(server.url)), "big")
    server.chunk = first
    assert text_of(events) == TEXT


@pytest.mark.parametrize("status", [429, 503, 502, 504])
def test_a_busy_server_is_asked_again_before_the_first_token(house, status):
    server = house.server("openai")
    busy = Fault(status, {"retry-after": "1"}, b'{"error": {"message": "busy"}}')
    server.faults += [busy, busy]
    assert text_of(house.ask(house.ready(house.engine(server.url)), "big")) == TEXT
    assert len(server.asked) == 3
    server.faults += [busy] * 4
    events = house.ask(house.ready(house.engine(server.url)), "big")
    assert "busy" in error_of(events).message
    assert len(server.asked) == 7, "one try and three more"


def test_a_pause_that_is_asked_for_is_kept_and_one_that_is_too_long_is_told(house):
    server = house.server("openai")
    engine = house.ready(house.engine(server.url))
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    engine._clocks = type(engine._clocks)(engine._clocks.wall, engine._clocks.steady, sleep)
    server.faults.append(Fault(429, {"retry-after": "7"}, b"{}"))
    assert text_of(house.ask(engine, "big")) == TEXT
    assert slept == [7.0]
    for after in ("3600", "Fri, 31 Dec 2100 23:59:59 GMT"):
        server.faults.append(Fault(429, {"retry-after": after}, b"{}"))
        events = house.ask(engine, "big")
        assert error_of(events).code == "upstream_busy" and "come again in" in error_of(events).message
    for after in ("-1", "soon", "9" * 40, "Fri, 31 Dec 1999 23:59:59 GMT"):
        server.faults.append(Fault(429, {"retry-after": after}, b"{}"))
        assert text_of(house.ask(engine, "big")) == TEXT


@pytest.mark.parametrize(("fault", "code", "words"), [
    (Fault(302, {"location": "http://127.0.0.1:1/v1/chat/completions"}, b""), "upstream_redirects", "302"),
    (Fault(200, {"content-type": "text/html"}, b"<html>login</html>"), "upstream_garbage", "text/html"),
    (Fault(200, {"content-type": ""}, b"data: {}"), "upstream_garbage", "no type"),
    (Fault(200, {}, b'{"error": {"message": "not streamed"}}'), "upstream_error", "not streamed"),
    (Fault(200, {"content-type": "text/event-stream", "content-encoding": "gzip"}, b"x"), "upstream_garbage", "compr"),
    (Fault(400, {}, b'{"error": {"message": "top_k must be"}}'), "upstream_refused", "top_k must be"),
    (Fault(422, {}, b'{"detail": "Unexpected fields"}'), "upstream_refused", "Unexpected fields"),
    (Fault(400, {}, b"<html>"), "upstream_refused", "400"),
    (Fault(400, {}, b'{"error": {"message": "long", "code": "context_length_exceeded"}}'),
     "context_length_exceeded", "long"),
    (Fault(500, {}, b'{"error": {"message": "broken"}}'), "upstream_error", "broken"),
    (Fault(404, {}, b'{"error": "model not found"}'), "model_not_found", "model not found"),
    (Fault(401, {}, b'{"error": {"message": "Incorrect API key provided: %s"}}' % KEY.encode()),
     "upstream_refused_key", "401"),
    (Fault(400, {}, b'{"error": {"message": "%s' % (b"x" * 70_000) + b'"}}'), "upstream_refused", "400"),
])  # fmt: skip
def test_refusals_are_told_in_words_once_and_without_the_key(house, fault, code, words, caplog):
    server = house.server("openai")
    server.faults.append(fault)
    events = house.ask(house.ready(house.engine(server.url, key=KEY)), "big")
    assert error_of(events).code == code and words in error_of(events).message
    assert error_of(events).message.startswith("remote: ")
    assert len(error_of(events).message) < 500
    assert len(server.asked) == 1
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(events) + caplog.text


def test_a_server_that_repeats_the_key_does_not_make_us_tell_it(house):
    server = house.server("openai")
    server.faults.append(Fault(400, {}, json.dumps({"error": {"message": f"bad header Bearer {KEY}"}}).encode()))
    engine = house.ready(house.engine(server.url, key=KEY))
    message = error_of(house.ask(engine, "big")).message
    assert "[key]" in message and KEY not in message
    assert KEY not in repr(engine._remote) + repr(engine.models()) + engine.trouble + engine.device


def test_an_unknown_adapter_that_comes_back_as_its_base_is_not_taken(house):
    for kind in ("vllm", "sglang", "openai"):
        server = house.server("vllm" if kind == "openai" else kind)
        server.faults.append(Fault(model="meta/base"))
        events = house.ask(house.ready(house.engine(server.url, kind=kind)), TUNED)
        assert (error_of(events).code, text_of(events)) == ("upstream_wrong_model", "")
    server.faults.append(Fault(model=TUNED))
    events = house.ask(house.ready(house.engine(server.url)), "meta/base")
    assert error_of(events).code == "upstream_wrong_model"
    server.faults.append(Fault(model="meta/base-2026-01-01"))  # a base may have further names
    assert text_of(house.ask(house.ready(house.engine(server.url)), "meta/base")) == TEXT


def test_a_model_that_the_server_has_lost_is_not_found(house):
    server = house.server("vllm")
    engine = house.ready(house.engine(server.url))
    server.models = server.models[:1]
    assert error_of(house.ask(engine, TUNED)).code == "model_not_found"
    assert error_of(house.ask(engine, "never/was")).code == "model_not_found"


def test_silence_is_bounded_before_the_first_token_and_between_two(house):
    server = house.server("vllm")
    engine = house.ready(house.engine(server.url, first_seconds=0.2, between_seconds=0.2, retries=1))
    server.faults += [Fault(after=0, hang=True), Fault(after=3, hang=True)]
    events = house.ask(engine, "meta/base")
    assert error_of(events).code == "upstream_silent"
    assert text_of(events) == "".join(WORDS[:3])
    assert server.gone.wait(5), "a server that hangs is left"
    server.faults.append(Fault(after=3, hang=True))
    assert text_of(house.ask(engine, "meta/base")) == TEXT


def test_a_filter_that_ends_an_answer_is_no_success(house):
    server = house.server("openai")
    server.faults.append(Fault(after=2, raw=(sse({"choices": [{"delta": {}, "finish_reason": "content_filter"}]}),)))
    assert error_of(house.ask(house.ready(house.engine(server.url)), "big")).code == "content_filter"


def test_a_server_that_knows_the_bound_by_another_name_is_given_that(house):
    server = house.server("openai")
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.faults.append(Fault(400, {}, json.dumps({"error": {"message": message}}).encode()))
    assert text_of(house.ask(house.ready(house.engine(server.url)), "big", max_tokens=3)) == "".join(WORDS[:3])
    assert server.asked[-1].body["max_completion_tokens"] == 3 and "max_tokens" not in server.asked[-1].body


def test_lanes_that_fail_leave_the_others_alone(house):
    from .conftest import request

    server = house.server("vllm")
    server.faults += [Fault(400, {}, b"{}")]
    engine = house.ready(house.engine(server.url))
    engine.submit(request("meta/base", lane=0), request("never", lane=1))
    house.until(lambda: server.asked)
    engine.submit(request("meta/base", Chat((Message("user", "x"),)), lane=2))
    events = house.hear(engine, lanes=3)
    assert text_of([event for event in events if event.lane == 2]) == TEXT
    assert {event.lane for event in events if isinstance(event, LaneFailed)} == {0, 1}
