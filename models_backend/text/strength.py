"""How much of an adapter a row carries: 1 as it was trained, 0 as its base, below 0 away from it."""

from models_backend.protocol.runs import STRENGTHS
from models_backend.protocol.workers import ModelInfo

from .contract import EngineError

NO_ADAPTER = "It is a base model: there is no adapter whose strength could be set."
DORA = "It is a DoRA adapter: beside its deltas it sets the lengths of the base's weights, which does not scale."


def strength_of(info: ModelInfo, strength: float | None) -> float:
    """The strength for a row or a shadow of this model; None is 1. Raises EngineError, code `strength_refused`."""
    if strength is None or strength == 1:
        return 1.0
    reason = info.cannot.get("strength")
    if reason is None and not STRENGTHS[0] <= strength <= STRENGTHS[1]:
        reason = f"It is {strength:g}, not a number from {STRENGTHS[0]:g} to {STRENGTHS[1]:g}."
    if reason is not None:
        raise EngineError("strength_refused", f"{info.id} cannot be given a strength. {reason}", "strength")
    return float(strength)
