"""Control of the default model's answers: forms, bans, lengths and messages that go on, with the real tokenizer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from transformers import AutoTokenizer

from models_backend import registry
from models_backend.config import DEFAULT_MODEL, Settings
from models_backend.protocol.events import LaneDone, LaneFailed
from models_backend.protocol.params import Choice, Grammar, JsonObject, JsonSchema, Params, Regex
from models_backend.protocol.runs import Chat, Message, Tool
from models_backend.text.contract import Request
from models_backend.text.engine import Engine
from models_backend.text.open import open_engines

from .tiny import answer

pytestmark = pytest.mark.model

TICKETS = f"ft:{DEFAULT_MODEL}:tickets"
QUESTION = Chat((Message("user", "What is the capital of France?"),))
COMPLAINT = Chat((Message("user", "My radio arrived broken, order 4711, and nobody answers. I want my money back!"),))
SCHEMA = """{"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}, "inhabitants":
{"type": "integer", "minimum": 0, "maximum": 99999999}, "capital": {"type": "boolean"}},
"required": ["city", "inhabitants", "capital"], "additionalProperties": false}"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    ready = open_engines(Settings(engine="torch", device="cpu", precision="float32", threads=1), "w")[DEFAULT_MODEL]
    ready.load()
    yield ready


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    [folder] = {entry.folder for entry in registry.models(Settings().home) if entry.id == DEFAULT_MODEL}
    return AutoTokenizer.from_pretrained(folder)


def ask(lane: int = 0, prompt: Chat = QUESTION, model: str = DEFAULT_MODEL, **params: Any) -> Request:
    return Request("r", lane, model, prompt, Params(**{"max_tokens": 60, **params}), seed=3)


def test_lanes_of_base_and_adapter_obey_their_own_forms_in_one_batch(engine: Engine) -> None:
    forms: list[Any] = [
        JsonSchema(SCHEMA),
        JsonObject(),
        Regex(r"[A-Z][a-z]{1,12}, (18|19|20)\d\d"),
        Choice(("Paris", "Lyon", "Marseille")),
        Grammar('start: "The answer is " WORD "."\nWORD: /[A-Z][a-z]{2,8}/'),
    ]
    requests = [
        ask(lane, COMPLAINT if model == TICKETS else QUESTION, model, constraint=form, max_tokens=90)
        for lane, (form, model) in enumerate((form, model) for form in forms for model in (DEFAULT_MODEL, TICKETS))
    ]
    heard = answer(engine, *requests)
    for one, request in zip(heard, requests, strict=True):
        assert isinstance(one.end, LaneDone)
        if request.params.constraint != JsonObject():  # that may be longer than it was allowed to be
            assert one.end.finish == "stop", one.text
    for one in heard[:2]:
        assert set(json.loads(one.text)) == {"city", "inhabitants", "capital"}
    for one in heard[2:4]:
        assert one.text.startswith("{") and "\n" not in one.text and "  " not in one.text
    assert all(one.text in ("Paris", "Lyon", "Marseille") for one in heard[6:8])
    assert all(one.text.startswith("The answer is ") and one.text.endswith(".") for one in heard[8:])


def test_what_the_adapter_writes_anyway_it_writes_under_a_form(engine: Engine) -> None:
    free, bound = answer(
        engine,
        ask(0, COMPLAINT, TICKETS, temperature=0.0, max_tokens=120),
        ask(1, COMPLAINT, TICKETS, temperature=0.0, max_tokens=120, constraint=JsonObject()),
    )
    assert json.loads(bound.text) == json.loads(free.text)


def test_a_message_goes_on_as_transformers_prompts_it(engine: Engine, tokenizer: Any) -> None:
    messages = [("user", "Name a fruit."), ("assistant", "My favourite fruit is the ")]
    chat = Chat(tuple(Message(role, text) for role, text in messages), continue_final=True)
    expected = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in messages],
        continue_final_message=True,
        tokenize=True,
        return_dict=True,
    )["input_ids"]
    assert engine._backend is not None
    assert engine._backend.dialect.encode(chat) == expected


def test_a_banned_word_is_not_written(engine: Engine) -> None:
    free, banned = answer(
        engine, ask(0, temperature=0.0, max_tokens=20), ask(1, temperature=0.0, max_tokens=20, bad_words=("Paris",))
    )
    assert "Paris" in free.text
    assert "Paris" not in banned.text


def test_a_banned_end_keeps_the_model_talking_and_a_stop_id_ends_it_unseen(engine: Engine, tokenizer: Any) -> None:
    free, longer = answer(
        engine, ask(0, temperature=0.0, max_tokens=80), ask(1, temperature=0.0, max_tokens=80, min_tokens=60)
    )
    assert len(free.ids) < 60 <= len(longer.ids)
    assert longer.ids[: len(free.ids) - 1] == free.ids[:-1]
    stop = free.ids[3]
    [ended] = answer(engine, ask(temperature=0.0, stop_token_ids=(stop,)))
    assert ended.ids == free.ids[:4]
    assert ended.text == tokenizer.decode(free.ids[:3])


def test_a_bias_of_a_hundred_says_one_word(engine: Engine, tokenizer: Any) -> None:
    [word] = tokenizer(" tea", add_special_tokens=False).input_ids
    [one] = answer(engine, ask(max_tokens=3, logit_bias={word: 100.0}))
    assert one.text == " tea tea tea"


def test_tools_are_refused_by_name_where_the_template_has_no_place_for_them(engine: Engine) -> None:
    assert all("template has no place" in info.cannot["tools"] for info in engine.models())
    [one] = answer(engine, ask(prompt=Chat(QUESTION.messages, (Tool("weather"),))))
    assert isinstance(one.end, LaneFailed) and one.end.error.field == "tools"
