"""The parameters a person can set: the one table that sliders, forms, docs and the API read.

Bounds come from the protocol, so a slider cannot offer what a worker refuses.
"""

from dataclasses import dataclass
from typing import Literal

from models_backend.protocol.params import BOUNDS, MAX_STOPS

Kind = Literal["number", "integer", "strings"]


@dataclass(frozen=True)
class Parameter:
    """`start` is where the slider stands when it is first switched on; `on` is whether it begins switched on.

    `slider` narrows the slider alone (the number box takes the full range of `low`..`high`). `neutral` is what a worker
    uses when the parameter is off and the model brings no default of its own.
    """

    name: str
    label: str
    help: str
    kind: Kind
    start: float | None
    step: float
    neutral: str
    on: bool = False
    more: bool = True
    slider: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        return BOUNDS[self.name][0]

    @property
    def high(self) -> float:
        return BOUNDS[self.name][1]

    @property
    def slider_low(self) -> float:
        return (self.slider or BOUNDS[self.name])[0]

    @property
    def slider_high(self) -> float:
        return (self.slider or BOUNDS[self.name])[1]


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "temperature", "Temperature", "How freely tokens are drawn. 0 always takes the likeliest one.",
        "number", 0.7, 0.01, "1", on=False, more=False,
    ),
    Parameter(
        "top_p", "Top P", "Draw only from the likeliest tokens that together reach this share. "
        "Change this or temperature, not both.",
        "number", 0.95, 0.01, "1", on=False, more=False,
    ),
    Parameter(
        "max_tokens", "Max tokens", "The answer ends after this many tokens.",
        "integer", 256, 1, "256", on=True, more=False, slider=(1, 2048),
    ),
    Parameter("top_k", "Top K", "Draw only from this many of the likeliest tokens.", "integer", 50, 1, "no limit"),
    Parameter(
        "min_p", "Min P", "Leave out tokens less likely than this share of the likeliest one.",
        "number", 0.05, 0.01, "0",
    ),
    Parameter(
        "repetition_penalty", "Repetition penalty", "Above 1, tokens of the prompt and the answer become less likely.",
        "number", 1.1, 0.01, "1",
    ),
    Parameter(
        "frequency_penalty", "Frequency penalty", "Lowers a token each time it has been used in the answer.",
        "number", 0.5, 0.1, "0",
    ),
    Parameter(
        "presence_penalty", "Presence penalty", "Lowers a token once it has been used in the answer.",
        "number", 0.5, 0.1, "0",
    ),
    Parameter(
        "stop", "Stop sequences", f"The answer ends before any of these, at most {MAX_STOPS}.",
        "strings", None, 0, "none",
    ),
    Parameter(
        "seed", "Seed", "Lanes with the same seed draw with the same dice. "
        "Off: a new one for each run, shown under the answer.",
        "integer", 20260, 1, "new for each run", slider=(0, 99999),
    ),
)  # fmt: skip
