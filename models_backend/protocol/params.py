"""Parameters of a lane: what may be asked for, and what was used.

The bounds below are the only ones: sliders, doors and workers all read them.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "max_tokens": (0, 8192),
    "min_tokens": (0, 8192),
    "top_k": (1, 200),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "repetition_penalty": (0.5, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "seed": (0, 2**53 - 1),  # every number that JavaScript can hold exactly
    "top_logprobs": (0, 20),
    "prompt_logprobs": (0, 20),
}
MAX_STOPS = 4
MAX_STOP_CHARS = 200
MAX_BAD_WORDS = 64
MAX_BIASES = 1024
MAX_BIAS = 100.0  # either way; as in OpenAI's API this bans a token, or takes it always
MAX_TOKEN_ID = 2**31 - 1
MAX_CONSTRAINT_CHARS = 65_536
MAX_CHOICES = 256


def _bounded(name: str) -> Meta:
    low, high = BOUNDS[name]
    return Meta(ge=low, le=high)


StopString = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARS)]
TokenId = Annotated[int, Meta(ge=0, le=MAX_TOKEN_ID)]
Bias = Annotated[float, Meta(ge=-MAX_BIAS, le=MAX_BIAS)]
Dice = Literal["same", "own"]  # lanes of one seed draw with the same noise, or each with its own
_Text = Annotated[str, Meta(min_length=1, max_length=MAX_CONSTRAINT_CHARS)]


class _Constraint(Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """What an answer must look like; every token that could not lead there is left out before the draw."""


class JsonObject(_Constraint, frozen=True, tag="json_object"):
    """Any JSON object."""


class JsonSchema(_Constraint, frozen=True, tag="json_schema"):
    """JSON that obeys `schema`, itself JSON text."""

    schema: _Text


class Regex(_Constraint, frozen=True, tag="regex"):
    pattern: _Text


class Choice(_Constraint, frozen=True, tag="choice"):
    options: Annotated[tuple[StopString, ...], Meta(min_length=1, max_length=MAX_CHOICES)]


class Grammar(_Constraint, frozen=True, tag="grammar"):
    """A context-free grammar in Lark's notation."""

    lark: _Text


Constraint = JsonObject | JsonSchema | Regex | Choice | Grammar


class Params(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Parameters as sent. None means "not sent": the model's own default holds, else the neutral value."""

    temperature: Annotated[float, _bounded("temperature")] | None = None
    top_p: Annotated[float, _bounded("top_p")] | None = None
    max_tokens: Annotated[int, _bounded("max_tokens")] | None = None
    min_tokens: Annotated[int, _bounded("min_tokens")] | None = None
    top_k: Annotated[int, _bounded("top_k")] | None = None
    min_p: Annotated[float, _bounded("min_p")] | None = None
    typical_p: Annotated[float, _bounded("typical_p")] | None = None
    repetition_penalty: Annotated[float, _bounded("repetition_penalty")] | None = None
    frequency_penalty: Annotated[float, _bounded("frequency_penalty")] | None = None
    presence_penalty: Annotated[float, _bounded("presence_penalty")] | None = None
    stop: Annotated[tuple[StopString, ...], Meta(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[tuple[TokenId, ...], Meta(max_length=MAX_BAD_WORDS)] | None = None
    bad_words: Annotated[tuple[StopString, ...], Meta(max_length=MAX_BAD_WORDS)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=MAX_BIASES)] | None = None
    constraint: Constraint | None = None
    seed: Annotated[int, _bounded("seed")] | None = None
    dice: Dice | None = None
    top_logprobs: Annotated[int, _bounded("top_logprobs")] | None = None
    prompt_logprobs: Annotated[int, _bounded("prompt_logprobs")] | None = None


class Used(Struct, frozen=True, omit_defaults=True):
    """Parameters as the worker really used them. `top_k` 0 means no limit.

    Every one has a value, save those of a remote model that were not sent: its server uses what it likes and does not
    tell, and None says so.

    `seed` is the one drawn with: with `dice` "own" it already differs from lane to lane. `top_logprobs` None: no
    insight is computed; 0: the chosen token's own figures, without alternatives.
    """

    temperature: float | None
    top_p: float | None
    max_tokens: int
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    stop: tuple[str, ...]
    seed: int
    min_tokens: int = 0
    typical_p: float = 1.0
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    logit_bias: dict[int, float] = {}
    constraint: Constraint | None = None
    dice: Dice = "same"
    top_logprobs: int | None = None
    prompt_logprobs: int | None = None


def merge(shared: Params, overrides: dict[str, Any]) -> Params:
    """Return the parameters of one lane: `overrides` win over `shared`; an override of None turns one off.

    Raises msgspec.ValidationError, which names the field, if a value is out of bounds or unknown.
    """
    values = {**msgspec.to_builtins(shared), **overrides}
    given = {name: value for name, value in values.items() if value is not None}
    return msgspec.convert(given, Params, str_keys=True)  # JSON has no other keys for the ids of logit_bias
