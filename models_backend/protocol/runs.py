"""A run as the browser or a program asks for it: one prompt, shared parameters, and the lanes that answer it."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .params import Params, merge

MAX_MESSAGES = 200
MAX_PROMPT_CHARS = 200_000
MAX_LANES = 8  # columns that one run may open with
MAX_TAKES = 64  # lanes of one run in all, repeated ones included

ModelId = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=MAX_PROMPT_CHARS)]
RunId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: Text


class Chat(Struct, frozen=True, tag="chat", tag_field="mode", forbid_unknown_fields=True):
    """Messages for the model's own chat template; the answer is the next assistant message."""

    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]


class Completion(Struct, frozen=True, tag="completion", tag_field="mode", forbid_unknown_fields=True):
    """Plain text that the model goes on with. No template."""

    text: Text


Prompt = Chat | Completion


class LaneSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One column: a model, and the parameters in which it differs from the run's (None = off in this lane)."""

    model: ModelId
    overrides: dict[str, Any] = {}


class RunSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked. Kept as it was, so that a run can be opened and run again."""

    prompt: Prompt
    lanes: Annotated[tuple[LaneSpec, ...], Meta(min_length=1, max_length=MAX_LANES)]
    params: Params = Params()

    def lane_params(self, lane: LaneSpec) -> Params:
        return merge(self.params, lane.overrides)


def prompt_chars(prompt: Prompt) -> int:
    """Length of all the text in `prompt`; the bound is MAX_PROMPT_CHARS for the sum, not for each message."""
    if isinstance(prompt, Completion):
        return len(prompt.text)
    return sum(len(message.content) for message in prompt.messages)
