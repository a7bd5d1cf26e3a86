"""What a lane asks of its model, by name, and what the model refuses of it.

The web's doors and the engines both ask here, so that the same thing is refused in the same words on either side.
"""

from collections.abc import Sequence

import msgspec

from .params import Params
from .runs import Chat, Prompt, Variant
from .workers import ModelInfo


def asked(
    prompt: Prompt,
    params: Params,
    strength: float | None = None,
    prefix: Sequence[int] = (),
    shadows: Sequence[Variant] = (),
) -> list[str]:
    """Names of all that goes beyond an answer by the model's own defaults: the keys of `ModelInfo.cannot`.

    These are the parameters that were sent, `constraint.` with the kind of a constraint, `strength`, `prefix`,
    `shadows`, `tools`, `continue_final` and `completion`. A strength of 1 and dice of one's own ask for nothing: that
    is what any model does that can do nothing else.
    """
    sent = [name for name in params.__struct_fields__ if getattr(params, name) is not None]
    names = [name for name in sent if not (name == "dice" and params.dice == "own")]
    if params.constraint is not None:
        names.append(f"constraint.{msgspec.to_builtins(params.constraint)['kind']}")
    if strength is not None and strength != 1:
        names.append("strength")
    names += [name for name, there in (("prefix", prefix), ("shadows", shadows)) if there]
    if not isinstance(prompt, Chat):
        return [*names, "completion"]
    return names + [
        name for name, there in (("tools", prompt.tools), ("continue_final", prompt.continue_final)) if there
    ]


def refusal(model: ModelInfo, names: Sequence[str]) -> tuple[str, str] | None:
    """The first of `names` that `model` cannot do, with a sentence for people; None when it can do all of them."""
    for name in names:
        reason = model.cannot.get(name)
        if reason is not None:
            return name, f"{model.id} cannot do {name.replace('_', ' ')}: {reason}"
    return None
