"""From the parameters that were sent to those that are used: sent, else the model's own, else neutral, else clipped."""

from typing import Any

from models_backend.protocol.params import BOUNDS, Params, Used

from .contract import EngineError

NEUTRAL: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "max_tokens": 256,
    "min_tokens": 0,
    "top_k": 0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "stop": (),
    "stop_token_ids": (),
    "bad_words": (),
    "logit_bias": {},
    "constraint": None,
    "dice": "same",
    "top_logprobs": None,
    "prompt_logprobs": None,
}
_OWN = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty")
_MASK = (1 << 64) - 1


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


def resolve(params: Params, defaults: dict[str, Any], seed: int, room: int, lane: int = 0) -> Used:
    """Give every parameter its value. `room` is how many tokens still fit behind the prompt; max_tokens obeys it.

    Raises EngineError where two parameters that were sent exclude each other.
    """
    values = {**NEUTRAL, **defaults, "seed": seed}
    for name in (*NEUTRAL, "seed"):
        sent = getattr(params, name)
        if sent is not None:
            values[name] = sent
    if values["min_tokens"] > values["max_tokens"]:
        raise EngineError(
            "bad_parameter",
            f"min_tokens is {values['min_tokens']}, which is more than max_tokens, {values['max_tokens']}: such an "
            "answer can never be complete.",
            "min_tokens",
        )
    values["max_tokens"] = min(values["max_tokens"], room)
    if values["dice"] == "own":
        values["seed"] = own_seed(values["seed"], lane)
    return Used(**values)


def own_seed(seed: int, lane: int) -> int:
    """The seed that lane number `lane` of a run draws with when its dice are its own; that of lane 0 is `seed` itself.

    Sent as `seed` with the dice "same" it gives the same answer again. Within the bounds of a seed.
    """
    if lane == 0:
        return seed
    x = (seed * 0x9E3779B97F4A7C15 + lane * 0xD1B54A32D192ED03) & _MASK
    for shift, multiplier in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64's way to mix
        x = ((x ^ (x >> shift)) * multiplier) & _MASK
    return (x ^ (x >> 31)) & int(BOUNDS["seed"][1])
