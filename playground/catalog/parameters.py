"""The parameters a person can set: the one table that sliders, forms, docs and the API read.

Bounds come from the protocol, so a slider cannot offer what a worker refuses.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from models_backend.protocol.params import BOUNDS, MAX_BAD_WORDS, MAX_BIAS, MAX_BIASES, MAX_STOPS, Dice

Kind = Literal["number", "integer", "strings", "ids", "choice", "biases", "constraint"]


@dataclass(frozen=True)
class Parameter:
    """`start` is where the control stands when it is first switched on; `on` is whether it begins switched on.

    `slider` narrows the slider alone (the number box takes the full range of `low`..`high`). `neutral` is what a worker
    uses when the parameter is off and the model brings no default of its own.

    Numbers and integers have `bounds`; a choice has `options`; `most` is how many entries strings, ids and biases may
    have. Biases are an object of token id to number, each from -MAX_BIAS to MAX_BIAS; a constraint is an object whose
    `kind` and fields are those of `protocol.params.Constraint`. What is a list or an object has no `start`: it begins
    empty.
    """

    name: str
    label: str
    help: str
    kind: Kind
    start: float | str | None
    step: float
    neutral: str
    on: bool = False
    more: bool = True
    slider: tuple[float, float] | None = None
    options: tuple[str, ...] = ()
    most: int | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        return BOUNDS.get(self.name)

    @property
    def low(self) -> float | None:
        return self.bounds[0] if self.bounds else None

    @property
    def high(self) -> float | None:
        return self.bounds[1] if self.bounds else None

    @property
    def slider_low(self) -> float | None:
        return self.slider[0] if self.slider else self.low

    @property
    def slider_high(self) -> float | None:
        return self.slider[1] if self.slider else self.high

    @property
    def range(self) -> str:
        """In words, what it may be."""
        if self.bounds:
            low, high = self.bounds
            return f"{low:g} to {int(high) if high > 1e6 else f'{high:g}'}"
        return {
            "strings": f"up to {self.most} texts",
            "ids": f"up to {self.most} token ids",
            "biases": f"up to {self.most} token ids, each with -{MAX_BIAS:g} to {MAX_BIAS:g}",
            "constraint": "a JSON schema, a JSON object, a regular expression, a list of choices, or a grammar",
            "choice": " or ".join(self.options),
        }[self.kind]


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
        "typical_p", "Typical P", "Draw only from the tokens whose surprise is nearest to the expected one, "
        "as many as together reach this share.",
        "number", 0.95, 0.01, "1",
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
        "logit_bias", "Token bias", f"Adds a number to the score of a token: -{MAX_BIAS:g} bans it, {MAX_BIAS:g} takes "
        "it always.",
        "biases", None, 0.5, "none", most=MAX_BIASES,
    ),
    Parameter(
        "bad_words", "Banned words", "The answer never writes these, neither with nor without a space before them.",
        "strings", None, 0, "none", most=MAX_BAD_WORDS,
    ),
    Parameter(
        "constraint", "Format", "The answer can only be what this allows: tokens that do not lead there are left out.",
        "constraint", None, 0, "none",
    ),
    Parameter(
        "min_tokens", "Min tokens", "The answer does not end before it has this many tokens.",
        "integer", 16, 1, "0", slider=(0, 512),
    ),
    Parameter(
        "stop", "Stop sequences", f"The answer ends before any of these, at most {MAX_STOPS}.",
        "strings", None, 0, "none", most=MAX_STOPS,
    ),
    Parameter(
        "stop_token_ids", "Stop tokens", "The answer ends at any of these token ids, which are not shown.",
        "ids", None, 0, "none", most=MAX_BAD_WORDS,
    ),
    Parameter(
        "seed", "Seed", "Lanes with the same seed draw with the same dice. "
        "Off: a new one for each run, shown under the answer.",
        "integer", 20260, 1, "new for each run", slider=(0, 99999),
    ),
    Parameter(
        "dice", "Dice", "same: lanes of one seed differ only where the models do. own: each lane draws for itself.",
        "choice", "same", 0, "same", options=get_args(Dice),
    ),
    Parameter(
        "top_logprobs", "Insight", "How sure the model was of each token, and this many alternatives to it.",
        "integer", 5, 1, "no insight",
    ),
    Parameter(
        "prompt_logprobs", "Prompt insight", "The same for the tokens of the prompt, before the answer begins.",
        "integer", 5, 1, "no insight",
    ),
)  # fmt: skip
