"""Ids of models, and the one way from an id to the name of a folder.

An id comes from clients, so it is matched as a whole against a strict pattern before anything else sees it: no
slash but the one between a hub's owner and name, no dot at a start, no "..", no "--" (which stands for the slash
on disk, so two ids never share a folder).
"""

import re
from dataclasses import dataclass

from models_backend.registry.errors import BadId

WORD = r"(?!.*(?:\.\.|--))[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
NAME = re.compile(WORD)
BASE = re.compile(rf"{WORD}(?:/{WORD})?")
FINE_TUNED = "ft:"
CHECKPOINT = re.compile(r"step-(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class ModelId:
    """A checked id: a base, or a base with the name of an adapter, or with that and one of its checkpoints."""

    base: str
    adapter: str | None = None
    checkpoint: str | None = None

    def __str__(self) -> str:
        if self.adapter is None:
            return self.base
        return ":".join([f"{FINE_TUNED}{self.base}", self.adapter, *([self.checkpoint] if self.checkpoint else [])])

    @property
    def on_hub(self) -> bool:
        return "/" in self.base

    @property
    def folder(self) -> str:
        """The name of the base's folder under models/. Safe by construction: see the pattern."""
        return self.base.replace("/", "--")


def parse(text: str) -> ModelId:
    """Check an id as a client wrote it. Raises BadId."""
    if text.startswith(FINE_TUNED):
        base, _, rest = text[len(FINE_TUNED) :].partition(":")
        name, colon, step = rest.partition(":")
        if BASE.fullmatch(base) and NAME.fullmatch(name) and (not colon or CHECKPOINT.fullmatch(step)):
            return ModelId(base, name, step or None)
    elif BASE.fullmatch(text):
        return ModelId(text)
    raise BadId(
        f"{text[:100]!a} is not a model id. Ids look like smollm2-135m-instruct, owner/name (on the hub), "
        "ft:smollm2-135m-instruct:tickets, or ft:smollm2-135m-instruct:tickets:step-120 for a checkpoint."
    )
