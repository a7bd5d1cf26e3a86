"""Sampling parameters of a lane: what may be asked for, and what was used.

The bounds below are the only ones: sliders, doors and workers all read them.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "max_tokens": (1, 8192),
    "top_k": (1, 200),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.5, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "seed": (0, 2**53 - 1),  # every number that JavaScript can hold exactly
}
MAX_STOPS = 4
MAX_STOP_CHARS = 200


def _bounded(name: str) -> Meta:
    low, high = BOUNDS[name]
    return Meta(ge=low, le=high)


StopString = Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARS)]


class Params(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Parameters as sent. None means "not sent": the model's own default holds, else the neutral value."""

    temperature: Annotated[float, _bounded("temperature")] | None = None
    top_p: Annotated[float, _bounded("top_p")] | None = None
    max_tokens: Annotated[int, _bounded("max_tokens")] | None = None
    top_k: Annotated[int, _bounded("top_k")] | None = None
    min_p: Annotated[float, _bounded("min_p")] | None = None
    repetition_penalty: Annotated[float, _bounded("repetition_penalty")] | None = None
    frequency_penalty: Annotated[float, _bounded("frequency_penalty")] | None = None
    presence_penalty: Annotated[float, _bounded("presence_penalty")] | None = None
    stop: Annotated[tuple[StopString, ...], Meta(max_length=MAX_STOPS)] | None = None
    seed: Annotated[int, _bounded("seed")] | None = None


class Used(Struct, frozen=True):
    """Parameters as the worker really used them; every one has a value. `top_k` 0 means no limit."""

    temperature: float
    top_p: float
    max_tokens: int
    top_k: int
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    stop: tuple[str, ...]
    seed: int


def merge(shared: Params, overrides: dict[str, Any]) -> Params:
    """Return the parameters of one lane: `overrides` win over `shared`; an override of None turns one off.

    Raises msgspec.ValidationError, which names the field, if a value is out of bounds or unknown.
    """
    values = {**msgspec.to_builtins(shared), **overrides}
    return msgspec.convert({name: value for name, value in values.items() if value is not None}, Params)
