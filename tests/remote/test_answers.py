"""Answers of each kind of server, over real HTTP."""

import pytest

from models_backend.protocol.events import LaneDone, LaneScored, LaneStarted, LaneStopped, LaneToken
from models_backend.protocol.runs import Chat, Message, ToolCall

from .conftest import CHAT, PLAIN, count_of, request, text_of, used_of
from .upstream import TEXT, TUNED, WORDS

KINDS = {
    "openai": "big",
    "vllm": "meta/base",
    "sglang": "meta/base",
    "llamacpp": "small.gguf",
    "ollama": "llama3:8b",
    "transformers": "org/small",
}


@pytest.mark.parametrize(("kind", "model"), KINDS.items())
def test_each_kind_is_found_out_and_answers_a_chat_whole(house, kind, model):
    engine = house.ready(house.engine(house.server(kind).url))
    assert engine.device == f"remote ({kind})"
    events = house.ask(engine, model, max_tokens=50)
    assert isinstance(events[0], LaneStarted) and isinstance(events[-1], LaneDone)
    assert (text_of(events), events[-1].finish) == (TEXT, "stop")
    assert count_of(events) == events[-1].figures.completion_tokens == len(WORDS)
    assert events[-1].figures.prompt_tokens == 7


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ollama"])
def test_plain_text_is_gone_on_with(house, kind):
    server = house.server(kind)
    engine = house.ready(house.engine(server.url))
    events = house.ask(engine, KINDS[kind], PLAIN, max_tokens=4)
    assert (text_of(events), events[-1].finish) == ("".join(WORDS[:4]), "length")
    assert server.asked[-1].path == "/v1/completions"
    assert server.asked[-1].body["prompt"] == "Tell me:|"


def test_ids_are_those_of_the_server_and_none_are_made_up(house):
    known, unknown = house.server("vllm"), house.server("ollama")
    events = house.ask(house.ready(house.engine(known.url)), "meta/base")
    said = [event for event in events if isinstance(event, LaneToken)]
    assert [event.ids for event in said] == [(100 + i,) for i in range(len(WORDS))]
    assert [event.index for event in said] == list(range(len(WORDS)))
    events = house.ask(house.ready(house.engine(unknown.url)), "llama3:8b")
    said = [event for event in events if isinstance(event, LaneToken)]
    assert [(event.index, event.ids) for event in said] == [(i + 1, ()) for i in range(len(WORDS))]


def test_an_adapter_is_a_fine_tuned_model_of_its_base_and_asked_for_by_name(house):
    for kind, sent in (("vllm", TUNED), ("sglang", f"meta/base:{TUNED}")):
        server = house.server(kind)
        engine = house.ready(house.engine(server.url, prefix="gpu/"))
        base, tuned = engine.models()
        assert (base.id, base.base, base.context) == ("gpu/meta/base", None, 4096)
        assert (tuned.id, tuned.base, tuned.queue) == (f"gpu/{TUNED}", "gpu/meta/base", "gpu/meta/base")
        assert tuned.proof is None and tuned.sha256 is None
        assert "word" in tuned.cannot["proof"] and "proof" not in base.cannot
        assert text_of(house.ask(engine, tuned.id)) == TEXT
        assert server.asked[-1].body["model"] == sent


def test_what_is_off_is_not_sent_and_what_the_server_keeps_to_itself_is_unknown(house):
    server = house.server("vllm")
    events = house.ask(house.ready(house.engine(server.url)), "meta/base")
    sent = server.asked[-1].body
    assert set(sent) == {"model", "stream", "stream_options", "messages", "return_token_ids", "max_tokens", "seed"}
    used = used_of(events)
    assert (used.temperature, used.top_p, used.top_k, used.repetition_penalty) == (None, None, None, None)
    assert (used.max_tokens, used.seed, used.dice) == (sent["max_tokens"], sent["seed"], "own") == (256, 3, "own")


def test_settings_that_a_server_tells_are_shown(house):
    events = house.ask(house.ready(house.engine(house.server("llamacpp").url)), "small.gguf", top_k=7)
    assert (used_of(events).temperature, used_of(events).top_k) == (0.8, 7)


def test_messages_are_sent_as_they_are_with_earlier_calls_of_tools(house):
    server = house.server("vllm")
    call = ToolCall("c1", "weather", '{"place": "Oslo"}')
    prompt = Chat(
        (
            Message("system", "Be brief."),
            Message("user", "Weather?"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "rain", tool_call_id="c1"),
        )
    )
    house.ask(house.ready(house.engine(server.url)), "meta/base", prompt)
    assert server.asked[-1].body["messages"][2:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
    ]


def test_a_message_that_is_begun_is_continued_where_the_server_can(house):
    prompt = Chat((Message("user", "Go on."), Message("assistant", "The river")), continue_final=True)
    for kind, flags in (("vllm", True), ("llamacpp", False)):
        server = house.server(kind)
        events = house.ask(house.ready(house.engine(server.url)), KINDS[kind], prompt)
        assert text_of(events) == "".join(WORDS[2:])
        assert (server.asked[-1].body.get("continue_final_message") is True) == flags
        assert (server.asked[-1].body.get("add_generation_prompt") is False) == flags


@pytest.mark.parametrize("kind", ["openai", "vllm", "sglang", "llamacpp", "ollama"])
def test_log_probabilities_become_insight_and_the_unknown_stays_unknown(house, kind):
    engine = house.ready(house.engine(house.server(kind).url))
    for prompt in [CHAT, PLAIN] if kind != "ollama" else [CHAT]:
        events = house.ask(engine, KINDS[kind], prompt, top_logprobs=2)
        said = [event for event in events if isinstance(event, LaneToken)]
        assert [len(event.insight) for event in said] == [1] * len(WORDS)
        seen = said[1].insight[0]
        assert (seen.text, seen.logprob, seen.rank, seen.entropy) == (" river", -0.25, 1, None)
        assert [(each.text, each.logprob) for each in seen.top] == [(" river", -0.25), (" other", -1.5)]
        assert seen.id == (101 if kind in ("llamacpp", "vllm", "sglang") else None)
        assert count_of(events) == len(WORDS)


def test_without_alternatives_a_rank_is_unknown(house):
    engine = house.ready(house.engine(house.server("llamacpp").url))
    events = house.ask(engine, "small.gguf", top_logprobs=0)
    seen = next(event for event in events if isinstance(event, LaneToken)).insight[0]
    assert (seen.logprob, seen.rank, seen.top) == (-0.25, None, ())


def test_vllm_scores_a_prompt(house):
    events = house.ask(house.ready(house.engine(house.server("vllm").url)), "meta/base", prompt_logprobs=1)
    (scored,) = [event for event in events if isinstance(event, LaneScored)]
    first, second = scored.insight
    assert (scored.index, first.id, first.text, first.logprob, first.rank) == (1, 5, " b", -2.0, 3)
    assert [(each.id, each.text) for each in first.top] == [(7, "x")]
    assert (second.id, second.rank, second.entropy) == (6, 1, None)
    assert text_of(events) == TEXT


def test_stop_leaves_the_server_and_keeps_the_text(house):
    server = house.server("vllm")
    server.endless = True
    engine = house.ready(house.engine(server.url))
    engine.submit(request("meta/base", max_tokens=8000))
    heard = []

    def some() -> bool:
        heard.extend(event for _, event in engine.step())
        return count_of(heard) >= 5

    house.until(some)
    engine.stop("a" * 32, 0)
    heard += house.hear(engine)
    assert isinstance(heard[-1], LaneStopped)
    assert heard[-1].figures.completion_tokens == count_of(heard)
    assert server.gone.wait(10), "the server never saw us leave"
    assert engine.running == 0
    engine.stop("a" * 32, 0)  # once more changes nothing
    assert text_of(house.ask(engine, "meta/base", lane=1, max_tokens=2)) == "The river"


def test_a_server_that_knows_no_end_is_cut_where_it_was_told_to_end(house):
    server = house.server("vllm")
    server.endless = True
    events = house.ask(house.ready(house.engine(server.url)), "meta/base", max_tokens=12)
    assert (count_of(events), events[-1].finish, events[-1].figures.completion_tokens) == (12, "length", 12)
    assert server.gone.wait(10)


def test_lanes_beyond_the_slots_wait_and_know_their_place(house):
    server = house.server("vllm")
    server.endless = True
    engine = house.ready(house.engine(server.url, slots=1))
    engine.submit(*(request("meta/base", lane=lane, max_tokens=8000) for lane in range(3)))
    house.until(lambda: engine.waiting == 2 and engine.running == 1 and engine.busy)
    engine.stop("a" * 32, 1)
    engine.stop("a" * 32, 0)
    house.until(lambda: engine.waiting == 0)
    engine.stop("a" * 32, 2)
    events = house.hear(engine, lanes=3)
    places = [(event.lane, event.position) for event in events if type(event).__name__ == "LaneQueued"]
    assert places == [(1, 1), (2, 2), (2, 1)]
    assert sorted(event.lane for event in events if isinstance(event, LaneStopped)) == [0, 1, 2]


def test_a_later_attempt_takes_the_place_of_the_earlier_one(house):
    server = house.server("vllm")
    server.endless = True
    engine = house.ready(house.engine(server.url))
    engine.submit(request("meta/base", max_tokens=8000))
    house.until(lambda: server.asked)
    server.endless = False
    engine.submit(request("meta/base", attempt=2, resume_text="The river", resume_tokens=2))
    events = house.hear(engine)
    later = events[[getattr(event, "attempt", 0) for event in events].index(2) :]
    assert text_of(later) == "".join(WORDS[2:])
    assert count_of(later) == len(WORDS)


def test_thinking_that_comes_apart_is_put_where_the_model_wrote_it(house):
    from .upstream import Fault, sse

    server = house.server("openai")

    def delta(**said):
        return sse({"model": "big", "choices": [{"index": 0, "delta": said, "finish_reason": None}]})

    end = sse({"model": "big", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    said = (delta(reasoning_content="Let me"), delta(reasoning=" see."), delta(content="Yes"), delta(content="."), end)
    server.faults.append(Fault(after=0, raw=said))
    events = house.ask(house.ready(house.engine(server.url)), "big")
    assert text_of(events) == "<think>\nLet me see.\n</think>\n\nYes."
