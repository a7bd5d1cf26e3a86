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


@dataclass(frozen=True, slots=True)
class ModelId:
    """A checked id: a base, or a base with the name of an adapter."""

    base: str
    adapter: str | None = None

    def __str__(self) -> str:
        return self.base if self.adapter is None else f"{FINE_TUNED}{self.base}:{self.adapter}"

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
        base, _, name = text[len(FINE_TUNED) :].rpartition(":")
        if BASE.fullmatch(base) and NAME.fullmatch(name):
            return ModelId(base, name)
    elif BASE.fullmatch(text):
        return ModelId(text)
    raise BadId(
        f"{text[:100]!a} is not a model id. Ids look like smollm2-135m-instruct, owner/name (on the hub) or "
        "ft:smollm2-135m-instruct:tickets."
    )
