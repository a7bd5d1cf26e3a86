"""The card of an adapter: card.json for programs and README.md for people, beside the weights.

Says from what, with what and how it was trained, and what was measured. Knows nothing about how that is done.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models_backend.registry.manifest import digest
from models_backend.training.recipe import Recipe
from models_backend.training.rows import Row, answer, prompt, read

FILE, WEIGHTS = "card.json", "adapter_model.safetensors"
LICENCE = "Apache-2.0"
LIBRARIES = ("torch", "transformers", "peft", "safetensors")
MEASURES = {
    "exact_match": "answers that are JSON and equal to the expected JSON",
    "pirate_speech": "answers with at least two different words that only a pirate uses",
}


def of_training(recipe: Recipe, base_sha256: str | None, folder: Path, minutes: float, loss: float) -> dict[str, Any]:
    """The card of a freshly trained adapter: everything but the figures, which an evaluation adds."""
    return {
        "name": recipe.name,
        "title": recipe.title,
        "description": recipe.description,
        "base": recipe.base,
        "base_sha256": base_sha256,
        "adapter_sha256": digest(folder / WEIGHTS),
        "licence": LICENCE,
        "seed": recipe.seed,
        "recipe": recipe.facts(),
        "data": {
            path.name: {"sha256": digest(path), "rows": len(read(path))}
            for path in (recipe.train_file, recipe.valid_file)
        },
        "training": {"minutes": round(minutes, 1), "last_loss": round(loss, 4)},
        "versions": {name: version(name).split("+")[0] for name in LIBRARIES},
        "figures": {},
        "examples": [],
    }


def with_figures(
    card: dict[str, Any], measure: str, tuned: float, base: float, examples: list[dict[str, Any]], rows: int
) -> dict[str, Any]:
    """The card with what an evaluation found: shares from 0 to 1 of held-out rows, and some answers."""
    figures = {f"{measure}_tuned": round(tuned, 4), f"{measure}_base": round(base, 4), "rows": rows, "measure": measure}
    return card | {"figures": figures, "examples": examples}


def example(row: Row, tuned: str, base: str) -> dict[str, Any]:
    return {"messages": prompt(row), "expected": answer(row), "tuned": tuned, "base": base}


def read_card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return card


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write card.json and the README.md that says the same in words."""
    (folder / FILE).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(card), encoding="utf-8")


def _readme(card: dict[str, Any]) -> str:
    recipe, files = card["recipe"], card["data"]
    data = "\n".join(f"- `{name}`: {facts['rows']} rows, sha256 `{facts['sha256']}`" for name, facts in files.items())
    versions = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    return f"""---
license: {card["licence"].lower()}
library_name: peft
---
# {card["title"]} (`ft:{card["base"]}:{card["name"]}`)

{card["description"]}

A LoRA adapter of rank {recipe["rank"]} (alpha {recipe["alpha"]}) on {", ".join(recipe["targets"])} of `{card["base"]}`,
trained for {recipe["epochs"]} epoch(s) at a peak learning rate of {recipe["learning_rate"]:g} with seed {card["seed"]};
{card["training"]["minutes"]} minutes on a small CPU. All rows are made by a seeded generator in
`models_backend/training/{card["name"]}.py`, no person's data is in them. Licence: {card["licence"]}, as its base.

{_figures(card)}
## Made from
{data}
- base: sha256 `{card["base_sha256"]}`
- this adapter: sha256 `{card["adapter_sha256"]}`
- {versions}

## Do it again
    python -m models_backend pull {card["base"]}
    python -m models_backend train {card["name"]}
    python -m models_backend evaluate {card["name"]}
"""


def _figures(card: dict[str, Any]) -> str:
    figures = card["figures"]
    if not figures:
        return "Not evaluated yet.\n"
    measure = figures["measure"]
    shown = "\n".join(
        f"> {example['messages'][-1]['content']}\n\n- base: `{_line(example['base'])}`\n"
        f"- tuned: `{_line(example['tuned'])}`\n"
        for example in card["examples"]
    )
    return f"""## Measured
On {figures["rows"]} held-out rows, greedy decoding, the adapter as stored here; share of {MEASURES[measure]}:

| | {measure} |
| --- | --- |
| tuned | {figures[f"{measure}_tuned"]:.3f} |
| base, same prompt | {figures[f"{measure}_base"]:.3f} |

{shown}"""


def _line(text: str) -> str:
    """A model's answer as one line of code: what it wrote is data, so nothing in it may end the code span."""
    return " ".join(text.replace("`", "'").split())[:300]
