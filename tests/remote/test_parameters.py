"""Each parameter under the server's own name, or refused by ours."""

import json

import pytest

from models_backend.engine import EngineError
from models_backend.protocol.events import LaneFailed
from models_backend.protocol.params import BOUNDS, Choice, Grammar, JsonObject, JsonSchema, Params, Regex
from models_backend.protocol.runs import Chat, Message, Tool, Variant
from models_backend.remote import body
from models_backend.remote.kinds import KINDS

from .conftest import CHAT, PLAIN, request

VALUES = {
    "temperature": 0.5, "top_p": 0.9, "max_tokens": 20, "min_tokens": 5, "top_k": 7, "min_p": 0.1, "typical_p": 0.9,
    "repetition_penalty": 1.25, "frequency_penalty": 0.5, "presence_penalty": -0.5, "stop": ("\n",), "seed": 11,
    "stop_token_ids": (2,), "bad_words": ("no",), "logit_bias": {5: -100.0}, "constraint": JsonObject(), "dice": "same",
    "top_logprobs": 3, "prompt_logprobs": 1,
}  # fmt: skip
SENT = {
    "openai": {"temperature": 0.5, "frequency_penalty": 0.5, "presence_penalty": -0.5, "stop": ("\n",), "seed": 11,
               "logit_bias": {"5": -100.0}, "top_logprobs": 3, "logprobs": True,
               "response_format": {"type": "json_object"}},
    "vllm": {"top_k": 7, "min_p": 0.1, "min_tokens": 5, "repetition_penalty": 1.25, "stop_token_ids": (2,),
             "bad_words": ("no",), "logit_bias": {"5": -100.0}, "top_logprobs": 3,
             "structured_outputs": {"json_object": True}},
    "sglang": {"top_k": 7, "min_p": 0.1, "min_tokens": 5, "repetition_penalty": 1.25, "stop_token_ids": (2,),
               "response_format": {"type": "json_object"}},
    "llamacpp": {"top_k": 7, "min_p": 0.1, "typical_p": 0.9, "repeat_penalty": 1.25, "repeat_last_n": -1,
                 "logit_bias": {"5": -100.0}, "logprobs": True, "top_logprobs": 3},
    "ollama": {"temperature": 0.5, "top_p": 0.9, "max_tokens": 20, "stop": ("\n",), "seed": 11},
    "transformers": {"temperature": 0.5, "top_p": 0.9, "max_tokens": 20, "seed": 11},
}  # fmt: skip


def build(kind, prompt=CHAT, said="", count=0, **params):
    asked = request("m", prompt, **params)
    body.check(asked, KINDS[kind])
    return body.build(asked, "m", KINDS[kind], body.used(asked, {}), said, count)


def able(kind):
    return {name: value for name, value in VALUES.items() if name not in KINDS[kind].cannot(tuned=False)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_sends_or_refuses_every_parameter_there_is(kind):
    assert set(VALUES) == set(Params.__struct_fields__), "a new parameter needs its row in kinds.py"
    sent, cannot = build(kind, **able(kind)), KINDS[kind].cannot(tuned=False)
    assert sent.items() >= SENT[kind].items()
    told = json.dumps(sent)
    spoken = {name: (field.rpartition(".")[2],) for name, field in KINDS[kind].fields.items()}
    spoken["constraint"] = ("structured_outputs", "response_format")
    spoken["top_logprobs"] = ("logprobs",)
    for name in set(VALUES) - {"prompt_logprobs"}:  # those are asked for apart
        there = any(f'"{word}"' in told or f'\\"{word}\\"' in told for word in spoken.get(name, (name,)))
        assert there != (name in cannot), name
    assert ("prompt_logprobs" in cannot) == (kind != "vllm")
    assert all(reason.endswith(".") and "{" not in reason for reason in cannot.values())


def test_transformers_gets_what_it_has_no_names_for_as_its_own_settings():
    sent = build("transformers", **able("transformers"))
    assert json.loads(sent["generation_config"]) == {
        "top_k": 7, "min_p": 0.1, "typical_p": 0.9, "repetition_penalty": 1.25, "min_new_tokens": 5, "do_sample": True,
    }  # fmt: skip
    assert "stream_options" not in sent
    assert json.loads(build("transformers", temperature=0.0)["generation_config"]) == {"do_sample": False}


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(("kind", "constraint", "prompt", "sent"), [
    ("vllm", JsonSchema(json.dumps(SCHEMA)), CHAT, {"structured_outputs": {"json": SCHEMA}}),
    ("vllm", Regex("a+"), PLAIN, {"structured_outputs": {"regex": "a+"}}),
    ("vllm", Choice(("yes", "no")), CHAT, {"structured_outputs": {"choice": ["yes", "no"]}}),
    ("vllm", Grammar('start: "a"'), CHAT, {"structured_outputs": {"grammar": 'start: "a"'}}),
    ("sglang", Regex("a+"), CHAT, {"regex": "a+"}),
    ("sglang", Choice(("a.b", "c")), CHAT, {"regex": "(a\\.b|c)"}),
    ("llamacpp", Choice(('say "é"', "no")), CHAT, {"grammar": 'root ::= "say \\"é\\"" | "no"'}),
    ("llamacpp", JsonSchema(json.dumps(SCHEMA)), PLAIN, {"json_schema": SCHEMA}),
    ("llamacpp", JsonObject(), PLAIN, {"json_schema": {"type": "object"}}),
    ("ollama", JsonSchema(json.dumps(SCHEMA)), CHAT,
     {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}}),
])  # fmt: skip
def test_a_constraint_in_the_servers_words(kind, constraint, prompt, sent):
    assert build(kind, prompt, constraint=constraint).items() >= sent.items()


@pytest.mark.parametrize("schema", ["{", "[]", "7", '"x"'])
def test_a_schema_that_is_none_is_refused_by_name(schema):
    with pytest.raises(EngineError) as caught:
        build("vllm", constraint=JsonSchema(schema))
    assert (caught.value.code, caught.value.field) == ("invalid_value", "constraint")


@pytest.mark.parametrize(("kind", "prompt", "params", "field"), [
    ("llamacpp", CHAT, {"seed": 2**32 - 1}, "seed"),
    ("openai", PLAIN, {"constraint": JsonObject()}, "constraint"),
    ("openai", PLAIN, {"top_logprobs": 6}, "top_logprobs"),
])  # fmt: skip
def test_values_that_a_server_would_not_take_are_refused_by_name(kind, prompt, params, field):
    with pytest.raises(EngineError) as caught:
        build(kind, prompt, **params)
    assert (caught.value.code, caught.value.field) == ("unsupported", field)


def test_bounds_shrink_by_what_was_said_already():
    sent = build("vllm", PLAIN, "abc", 6, max_tokens=20, min_tokens=4)
    assert (sent["prompt"], sent["max_tokens"], sent["min_tokens"]) == ("Tell me:|abc", 14, 0)


def test_seeds_are_sent_always_and_differ_between_lanes_with_dice_of_their_own():
    assert build("vllm", seed=int(BOUNDS["seed"][1]))["seed"] == 2**53 - 1
    same = [build("vllm", seed_of_run=2**32 - 1)["seed"] for _ in range(2)]
    assert same[0] == same[1] < 2**31
    lanes = [request("m", CHAT, lane, dice="own") for lane in range(8)]
    assert len({body.used(lane, {}).seed for lane in lanes}) == 8


@pytest.mark.parametrize(("facts", "prompt", "field"), [
    ({"strength": 0.5}, CHAT, "strength"),
    ({"prefix": (1, 2)}, CHAT, "prefix"),
    ({"shadows": (Variant("meta/base"),)}, CHAT, "shadows"),
    ({"typical_p": 0.5}, CHAT, "typical_p"),
    ({"dice": "same"}, CHAT, "dice"),
    ({}, Chat((Message("user", "x"),), (Tool("f"),)), "tools"),
])  # fmt: skip
def test_the_engine_refuses_by_name_what_no_door_has_caught(house, facts, prompt, field):
    server = house.server("vllm")
    events = house.ask(house.ready(house.engine(server.url)), "meta/base", prompt, **facts)
    assert isinstance(events[-1], LaneFailed)
    assert (events[-1].error.code, events[-1].error.field) == ("unsupported", field)
    assert "vLLM" in events[-1].error.message
    assert server.asked == []


def test_an_old_ollama_says_that_it_gives_no_log_probabilities(house):
    server = house.server("ollama")
    server.pages["/api/version"] = {"version": "0.12.10-rc1"}
    engine = house.ready(house.engine(server.url))
    assert "this version of Ollama" in engine.models()[0].cannot["top_logprobs"]
    assert "completion" in engine.models()[0].cannot
