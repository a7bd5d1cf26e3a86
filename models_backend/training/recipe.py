"""A recipe: every number of one fine-tuning, read from recipes/<name>.toml. Plain facts, no torch."""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent / "recipes"
DATA = Path(__file__).parent / "data"


class BadRecipe(ValueError):
    """A recipe that cannot be followed. The text names the field and what it may be."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained on what, and how. Learning rate is the peak; it warms up linearly and falls as a cosine."""

    name: str
    title: str
    description: str
    base: str
    train: str
    valid: str
    measure: str
    """How an answer is judged: a name in evaluate.MEASURES."""
    seed: int
    rank: int
    alpha: int
    targets: tuple[str, ...]
    epochs: int
    batch_rows: int
    learning_rate: float
    warmup: float
    """Share of the steps in which the learning rate rises."""
    clip: float
    """Largest norm of the gradient."""
    max_tokens: int
    """Longest row, prompt and answer together; longer ones are refused, not cut."""
    answer_tokens: int
    """Most tokens that an answer gets when the adapter is evaluated."""

    @property
    def train_file(self) -> Path:
        return DATA / self.train

    @property
    def valid_file(self) -> Path:
        return DATA / self.valid

    def facts(self) -> dict[str, Any]:
        """The recipe as JSON-ready facts, for the card of the adapter."""
        return {**asdict(self), "targets": list(self.targets)}


BOUNDS = {
    "rank": (1, 256), "alpha": (1, 1024), "epochs": (1, 100), "batch_rows": (1, 1024), "learning_rate": (1e-7, 1.0),
    "warmup": (0.0, 0.5), "clip": (0.01, 100.0), "max_tokens": (8, 131_072), "answer_tokens": (1, 8192),
    "seed": (0, 2**32 - 1),
}  # fmt: skip


def read(name: str, folder: Path = RECIPES) -> Recipe:
    """Read recipes/<name>.toml. Raises BadRecipe when there is none or a field is unknown, missing or out of bounds."""
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise BadRecipe(f'No recipe is called "{name}". There are: {", ".join(known)}.')
    return parse(tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8")) | {"name": name})


def parse(facts: dict[str, Any]) -> Recipe:
    names = {field.name for field in fields(Recipe)}
    if wrong := sorted(facts.keys() ^ names):
        raise BadRecipe(f"Unknown or missing in the recipe: {', '.join(wrong)}.")
    for name, (low, high) in BOUNDS.items():
        if isinstance(facts[name], bool) or not isinstance(facts[name], int | float) or not low <= facts[name] <= high:
            raise BadRecipe(f"{name} must be a number from {low} to {high}, not {facts[name]!r}.")
    if not facts["targets"]:
        raise BadRecipe("targets must name at least one linear layer, such as q_proj.")
    return Recipe(**{**facts, "targets": tuple(facts["targets"])})
