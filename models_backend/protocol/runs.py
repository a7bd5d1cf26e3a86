"""A run as the browser or a program asks for it: one prompt, shared parameters, and the lanes that answer it."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .params import Params, TokenId, merge

MAX_MESSAGES = 200
MAX_PROMPT_CHARS = 200_000
MAX_LANES = 8  # columns that the page opens a run with
MAX_SAMPLES = 16  # lanes that a run may begin with: answers to one request of a program
MAX_TAKES = 64  # lanes of one run in all, repeated ones included
MAX_SHADOWS = 3
MAX_TOOLS = 64
MAX_TOOL_CALLS = 32
MAX_PREFIX = 8192  # ids
STRENGTHS = (-0.5, 2.0)

ModelId = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=MAX_PROMPT_CHARS)]
RunId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class ToolCall(Struct, frozen=True, forbid_unknown_fields=True):
    """An assistant's earlier call of a tool. `arguments` is JSON text, as in OpenAI's API."""

    id: Annotated[str, Meta(max_length=200)]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    arguments: Text


class Message(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`tool_calls` belong to an assistant's message, `tool_call_id` to the tool's that answers one of them."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text
    tool_calls: Annotated[tuple[ToolCall, ...], Meta(max_length=MAX_TOOL_CALLS)] = ()
    tool_call_id: Annotated[str, Meta(max_length=200)] | None = None


class Tool(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the model may ask for. `parameters` is a JSON schema, as JSON text."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    description: Text = ""
    parameters: Text = "{}"


class Chat(Struct, frozen=True, tag="chat", tag_field="mode", forbid_unknown_fields=True, omit_defaults=True):
    """Messages for the model's own chat template; the answer is the next assistant message.

    With `continue_final` the last message is the assistant's own, and the answer goes on with it.
    """

    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[tuple[Tool, ...], Meta(max_length=MAX_TOOLS)] = ()
    continue_final: bool = False


class Completion(Struct, frozen=True, tag="completion", tag_field="mode", forbid_unknown_fields=True):
    """Plain text that the model goes on with. No template."""

    text: Text


Prompt = Chat | Completion


Strength = Annotated[float, Meta(ge=STRENGTHS[0], le=STRENGTHS[1])]


class Variant(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model at a strength of its adapter: 1 as it was trained, 0 as its base, below 0 away from it."""

    model: ModelId
    strength: Strength | None = None


class LaneSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column: a model, and the parameters in which it differs from the run's (None = off in this lane).

    `prefix` are ids that the answer begins with, whatever the model would draw: a branch of an earlier answer.
    `shadows` read the same answer in lock-step and say what they would have thought of each token.
    """

    model: ModelId
    overrides: dict[str, Any] = {}
    strength: Strength | None = None
    prefix: Annotated[tuple[TokenId, ...], Meta(max_length=MAX_PREFIX)] = ()
    shadows: Annotated[tuple[Variant, ...], Meta(max_length=MAX_SHADOWS)] = ()


class RunSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked. Kept as it was, so that a run can be opened and run again."""

    prompt: Prompt
    lanes: Annotated[tuple[LaneSpec, ...], Meta(min_length=1, max_length=MAX_SAMPLES)]
    params: Params = Params()

    def lane_params(self, lane: LaneSpec) -> Params:
        return merge(self.params, lane.overrides)


def prompt_chars(prompt: Prompt) -> int:
    """Length of all the text in `prompt`; the bound is MAX_PROMPT_CHARS for the sum, not for each message."""
    if isinstance(prompt, Completion):
        return len(prompt.text)
    calls = sum(len(call.arguments) for message in prompt.messages for call in message.tool_calls)
    tools = sum(len(tool.description) + len(tool.parameters) for tool in prompt.tools)
    return sum(len(message.content) for message in prompt.messages) + calls + tools
