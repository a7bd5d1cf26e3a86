"""Whether the messages of a chat hang together: tool calls and their answers, and a last message that goes on.

The web's doors and the engines both ask here, so that the same thing is refused in the same words on either side.
"""

import json
from typing import Any

from .runs import Chat

MAX_DEPTH = 100  # of JSON in tools and arguments


def trouble(chat: Chat) -> tuple[str, str] | None:
    """The first thing that is wrong: the name of its field, and a sentence for people; None when all is well."""
    names = [tool.name for tool in chat.tools]
    for number, tool in enumerate(chat.tools):
        if names.index(tool.name) != number:
            return f"tools[{number}].name", f"tools[{number}].name: there are two tools named {tool.name}."
        if json_object(tool.parameters) is None:
            field = f"tools[{number}].parameters"
            return field, f"{field} must be a JSON schema: the text of one JSON object."
    return _in_messages(chat) or _in_the_end(chat)


def json_object(text: str) -> dict[str, Any] | None:
    """The object that `text` is in JSON, or None if it is none, or one too deep or odd to be handed on."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _depth(value) <= MAX_DEPTH else None


def _in_messages(chat: Chat) -> tuple[str, str] | None:
    called: set[str] = set()
    for number, message in enumerate(chat.messages):
        place = f"messages[{number}]"
        if message.tool_calls and message.role != "assistant":
            return f"{place}.tool_calls", f"{place}.tool_calls: only an assistant's message calls tools."
        if message.tool_call_id is not None and message.role != "tool":
            return f"{place}.tool_call_id", f"{place}.tool_call_id: only a tool's message answers a call."
        if message.tool_call_id is not None and message.tool_call_id not in called:
            return f"{place}.tool_call_id", f"{place}.tool_call_id: no message before it has a call with this id."
        for index, call in enumerate(message.tool_calls):
            if json_object(call.arguments) is None:
                field = f"{place}.tool_calls[{index}].arguments"
                return field, f"{field} must be the text of one JSON object."
            called.add(call.id)
    return None


def _in_the_end(chat: Chat) -> tuple[str, str] | None:
    last = chat.messages[-1]
    if chat.continue_final and (last.role != "assistant" or last.tool_calls):
        return (
            "continue_final",
            "continue_final: the last message must be the assistant's own, and text, for the answer to go on with it.",
        )
    return None


def _depth(value: Any) -> int:
    """How many objects and lists stand in each other; stops to count a little above the bound."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        parts = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for part in parts for inner in part]
        depth += 1
    return depth


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
