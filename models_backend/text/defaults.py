"""From the parameters that were sent to those that are used: sent, else the model's own, else neutral, else clipped."""

from typing import Any

from models_backend.protocol.params import BOUNDS, Params, Used

NEUTRAL: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "max_tokens": 256,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "stop": (),
}
_OWN = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def model_defaults(generation_config: dict[str, Any]) -> dict[str, Any]:
    """The sampling values that a generation config names, if they lie within the bounds.

    `do_sample` is left out of account: a config that says nothing of temperature gets the neutral one, as the
    parameter panel shows it, not silent greedy decoding.
    """
    found = {}
    for name in _OWN:
        value = generation_config.get(name)
        low, high = BOUNDS[name]
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            found[name] = int(value) if name == "top_k" else float(value)
    return found


def resolve(params: Params, defaults: dict[str, Any], seed: int, room: int) -> Used:
    """Give every parameter its value. `room` is how many tokens still fit behind the prompt; max_tokens obeys it."""
    values = {**NEUTRAL, **defaults, "seed": seed}
    for name in (*NEUTRAL, "seed"):
        sent = getattr(params, name)
        if sent is not None:
            values[name] = sent
    values["max_tokens"] = min(values["max_tokens"], room)
    return Used(**values)
