"""Chats with tools, and messages that go on: read as transformers writes them, or refused by name."""

import json
from typing import Any

import msgspec
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from models_backend.protocol.conversation import trouble
from models_backend.protocol.runs import Chat, Message, Tool, ToolCall
from models_backend.text.chat import turns
from models_backend.text.contract import EngineError
from models_backend.text.dialect import TokenizerDialect
from models_backend.text.template import ChatTemplate, takes_tools

from .byte_tokens import tokenizer

PLAIN = """{%- for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '</s>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"""
TRIMMING = PLAIN.replace("m['content']", "m['content'] | trim")
TOOLED = """{% if tools is not none %}<tools>{% for t in tools %}{{ t | tojson }}
{% endfor %}</tools>{% endif %}{% for m in messages %}
{%- if m.role == 'tool' %}<answer of {{ m.name }} to {{ m.tool_call_id }}>{{ m.content }}</s>
{%- elif m.tool_calls %}<assistant>{{ m.content }}
{%- for call in m.tool_calls %}{% set f = call.function %}<call {{ call.type }}>{{ f.name }}(
{%- for k, v in f.arguments.items() %}{{ k }}={{ v | tojson }},{% endfor %}){% endfor %}</s>
{%- else %}<{{ m.role }}>{{ m.content }}</s>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""
WEATHER = Tool("weather", "Of a place.", '{"type": "object", "properties": {"place": {"type": "string"}}}')
TALK = (
    Message("user", "Rain?"),
    Message("assistant", "", (ToolCall("c1", "weather", '{"place": "Zürich", "days": [1, 2]}'),)),
    Message("tool", '{"rain": true}', tool_call_id="c1"),
)


def as_transformers(chat: Chat, source: str) -> str:
    """The same chat by transformers' own function and conventions."""
    names = {call.id: call.name for message in chat.messages for call in message.tool_calls}
    messages = []
    for message in chat.messages:
        made: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            calls = [
                (call.id, {"name": call.name, "arguments": json.loads(call.arguments)}) for call in message.tool_calls
            ]
            made["tool_calls"] = [{"type": "function", "id": one, "function": function} for one, function in calls]
        if message.tool_call_id:
            made |= {"tool_call_id": message.tool_call_id, "name": names[message.tool_call_id]}
        messages.append(made)
    tools = [
        {
            "type": "function",
            "function": {"name": one.name, "description": one.description, "parameters": json.loads(one.parameters)},
        }
        for one in chat.tools
    ]
    [text], _ = render_jinja_template(
        [messages],
        tools=tools or None,
        chat_template=source,
        add_generation_prompt=not chat.continue_final,
        continue_final_message=chat.continue_final,
    )
    return text


@pytest.mark.parametrize("tools", [(), (WEATHER,), (WEATHER, Tool("clock"))])
@pytest.mark.parametrize("messages", [TALK[:1], TALK[:2], TALK])
def test_tools_and_calls_read_as_transformers_writes_them(
    messages: tuple[Message, ...], tools: tuple[Tool, ...]
) -> None:
    chat = Chat(messages, tools)
    assert turns(chat, ChatTemplate(TOOLED, {})) == as_transformers(chat, TOOLED)


@pytest.mark.parametrize("source", [PLAIN, TRIMMING, TOOLED], ids=["plain", "trimming", "tooled"])
@pytest.mark.parametrize("final", ["Once upon", "Once upon ", "  Once\n upon \n\n", "", " ", "<assistant>", "a</s>\n"])
def test_a_message_that_goes_on_reads_as_transformers_writes_it(source: str, final: str) -> None:
    chat = Chat((Message("user", "Go on."), Message("assistant", final)), continue_final=True)
    text = turns(chat, ChatTemplate(source, {}))
    assert text == as_transformers(chat, source)
    assert text.endswith(final.strip() if source is TRIMMING else final)


def test_a_message_that_speaks_of_the_mark_is_gone_on_with_at_its_end() -> None:
    final = "DIPTYCH_CONTINUES_HERE and more DIPTYCH_CONTINUES_HERE"
    chat = Chat((Message("user", final), Message("assistant", final)), continue_final=True)
    assert turns(chat, ChatTemplate(PLAIN, {})) == f"<user>{final}</s>\n<assistant>{final}"


@pytest.mark.parametrize("source", ["{{ messages[0].content }}", "{{ messages[-1].content | upper }}", "fixed"])
def test_a_template_that_changes_the_last_message_cannot_go_on_with_it(source: str) -> None:
    chat = Chat((Message("user", "Go on."), Message("assistant", "Once")), continue_final=True)
    with pytest.raises(EngineError, match="cannot be continued") as refusal:
        turns(chat, ChatTemplate(source, {}))
    assert (refusal.value.code, refusal.value.field) == ("template_refused", "continue_final")


@pytest.mark.parametrize(
    ("chat", "field", "words"),
    [
        (Chat(TALK[:1], (WEATHER,)), "tools", "This model's template has no place for tools."),
        (Chat(TALK[:2]), "messages[1].tool_calls", "no place for calls of tools"),
    ],
)
def test_a_template_that_knows_no_tools_is_told_by_name(chat: Chat, field: str, words: str) -> None:
    with pytest.raises(EngineError, match=words) as refusal:
        turns(chat, ChatTemplate(PLAIN, {}))
    assert (refusal.value.code, refusal.value.field) == ("unsupported", field)


def test_an_answer_of_a_tool_that_a_template_leaves_out_is_told_by_name() -> None:
    dropping = "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.content }}{% endfor %}"
    chat = Chat((Message("user", "a"), Message("tool", "42 degrees")))
    with pytest.raises(EngineError, match="no place for answers") as refusal:
        turns(chat, ChatTemplate(dropping, {}))
    assert refusal.value.field == "messages[1]"
    assert "42 degrees" in turns(chat, ChatTemplate(PLAIN, {}))


@pytest.mark.parametrize(
    ("chat", "field"),
    [
        (Chat((Message("user", "a", TALK[1].tool_calls),)), "messages[0].tool_calls"),
        (Chat((Message("user", "a", tool_call_id="c1"),)), "messages[0].tool_call_id"),
        (Chat((*TALK[:2], Message("tool", "a", tool_call_id="c2"))), "messages[2].tool_call_id"),
        (Chat((TALK[2], *TALK[:2])), "messages[0].tool_call_id"),
        (Chat((Message("assistant", "", (ToolCall("c", "f", "[1]"),)),)), "messages[0].tool_calls[0].arguments"),
        (Chat((Message("assistant", "", (ToolCall("c", "f", "{"),)),)), "messages[0].tool_calls[0].arguments"),
        (Chat((Message("assistant", "", (ToolCall("c", "f", '{"a": NaN}'),)),)), "messages[0].tool_calls[0].arguments"),
        (Chat(TALK[:1], (Tool("f", parameters='{"a":' * 500 + "1" + "}" * 500),)), "tools[0].parameters"),
        (Chat(TALK[:1], (Tool("f", parameters="[" * 100_000),)), "tools[0].parameters"),
        (Chat(TALK[:1], (Tool("f", parameters="true"),)), "tools[0].parameters"),
        (Chat(TALK[:1], (WEATHER, Tool("f"), WEATHER)), "tools[2].name"),
        (Chat(TALK[:1], continue_final=True), "continue_final"),
        (Chat(TALK[:2], continue_final=True), "continue_final"),
        (Chat(TALK, continue_final=True), "continue_final"),
    ],
)
def test_what_does_not_hang_together_is_refused_by_the_name_of_its_field(chat: Chat, field: str) -> None:
    found = trouble(chat)
    assert found is not None
    assert found[0] == field
    assert found[1].startswith(field)
    with pytest.raises(EngineError) as refusal:
        turns(chat, ChatTemplate(TOOLED, {}))
    assert refusal.value.field == field


def test_chats_that_hang_together_are_no_trouble() -> None:
    assert trouble(Chat(TALK, (WEATHER,))) is None
    assert trouble(Chat((*TALK, Message("assistant", "It r")), (WEATHER,), continue_final=True)) is None
    assert trouble(msgspec.convert({"messages": [{"role": "user", "content": ""}]}, Chat)) is None


def test_what_a_tool_or_a_person_wrote_is_never_run_as_a_template() -> None:
    evil = "{{ 7*7 }}{% for x in range(9) %}"
    chat = Chat((Message("user", evil), Message("assistant", evil)), (Tool("f", evil),), continue_final=True)
    text = turns(chat, ChatTemplate(TOOLED, {}))
    assert text.count("{{ 7*7 }}") == 3


@pytest.mark.parametrize(
    ("source", "takes"),
    [(TOOLED, True), (PLAIN, False), ("{% if not tools is defined %}{% endif %}", True), ("a comment: tools", False),
     ("{# tools #}", False), ("{% for %}", False), ("{% set x = 'no tools' %}", False)],
)  # fmt: skip
def test_whether_a_template_takes_tools_is_read_from_what_it_computes(source: str, takes: bool) -> None:
    assert takes_tools(source) == takes


def test_a_model_with_a_template_of_its_own_for_tools_uses_that() -> None:
    made = tokenizer()
    made.chat_template = {"default": PLAIN, "tool_use": TOOLED}
    dialect = TokenizerDialect(made, frozenset({made.eos_token_id}))
    assert "<tools>" in dialect.decode(dialect.encode(Chat(TALK[:1], (WEATHER,))))
    assert dialect.decode(dialect.encode(Chat(TALK[:1]))) == "<user>Rain?</s>\n<assistant>"


def test_words_are_spelt_with_and_without_a_space_once_each() -> None:
    made = tokenizer()
    dialect = TokenizerDialect(made, frozenset({made.eos_token_id}))
    spelt = [dialect.decode(ids) for ids in dialect.spellings("yes")]
    assert spelt == ["yes", " yes"]
    assert dialect.spellings(" yes") == dialect.spellings("yes")
    assert [dialect.decode(ids) for ids in dialect.spellings("  ")] == ["  "]
    assert [dialect.decode(ids) for ids in dialect.spellings("\n")] == ["\n", " \n"]
