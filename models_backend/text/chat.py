"""A chat as chat templates expect it, by the conventions of transformers: tools as JSON schemas, calls as objects."""

from typing import Any

from models_backend.protocol.conversation import json_object, trouble
from models_backend.protocol.runs import Chat, Message

from .contract import EngineError
from .template import ChatTemplate


def turns(chat: Chat, template: ChatTemplate) -> str:
    """The text of `chat` up to where the answer begins. Raises EngineError, which names the field."""
    if wrong := trouble(chat):
        raise EngineError("bad_parameter", wrong[1], wrong[0])
    if chat.tools and not template.takes_tools:
        raise EngineError("unsupported", "This model's template has no place for tools.", "tools")
    for number, message in enumerate(chat.messages):
        if message.tool_calls and not template.takes_calls:
            field = f"messages[{number}].tool_calls"
            raise EngineError("unsupported", f"{field}: this model's template has no place for calls of tools.", field)
    names = {call.id: call.name for message in chat.messages for call in message.tool_calls}
    text = template.render(
        [_message(message, names) for message in chat.messages],
        [_tool(tool.name, tool.description, json_object(tool.parameters)) for tool in chat.tools],
        continues=chat.continue_final,
    )
    for number, message in enumerate(chat.messages):
        if message.role == "tool" and not template.takes_answers and message.content.strip() not in text:
            field = f"messages[{number}]"
            raise EngineError(
                "unsupported", f"{field}: this model's template has no place for answers of tools.", field
            )
    return text


def _message(message: Message, names: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": json_object(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        made |= {"tool_call_id": message.tool_call_id, "name": names[message.tool_call_id]}
    return made


def _tool(name: str, description: str, parameters: dict[str, Any] | None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
