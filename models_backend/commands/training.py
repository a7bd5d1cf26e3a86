"""train and evaluate: follow a recipe, measure what came out, and write both down beside the weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from models_backend.commands.screen import console, print_table, screen
from models_backend.registry import RegistryError, entries, manifest
from models_backend.registry.progress import Progress
from models_backend.training import card, recipe
from models_backend.training.recipe import Recipe
from models_backend.training.rows import read

if TYPE_CHECKING:
    from models_backend.training.lora import Step

EXAMPLES = 2  # held-out rows whose answers are shown in the card


def train(name: str, home: Path, threads: int | None, publish: bool) -> None:
    """Train the adapter of recipes/<name>.toml from its base and its committed rows."""
    plan = recipe.read(name)
    base, base_sha256 = _base(plan, home)
    _use(threads)
    from models_backend.training import lora

    losses: list[float] = []
    seconds = 0.0

    def on_step(step: "Step") -> None:
        nonlocal seconds
        losses.append(step.loss)
        seconds = step.seconds
        console.print(
            f"step {step.number}/{step.steps}  loss {step.loss:.4f}  rate {step.learning_rate:.1e}  "
            f"gradient {step.gradient:.2f}  {step.tokens} tokens  {step.remaining:.0f} s left",
            highlight=False,
        )

    model = lora.train(plan, read(plan.train_file), base, on_step)
    folder = _folder(name, home, publish)
    lora.save(model, folder)
    card.write_card(folder, card.of_training(plan, base_sha256, folder, seconds / 60, losses[-1]))
    console.print(f"The adapter is in {folder}. Measure it: python -m models_backend evaluate {name}", soft_wrap=True)


def evaluate(name: str, home: Path, threads: int | None, publish: bool) -> None:
    """Measure a trained adapter and its base on the held-out rows; print a table and complete the card."""
    plan = recipe.read(name)
    base, _ = _base(plan, home)
    folder = _folder(name, home, publish)
    if not (folder / card.WEIGHTS).is_file():
        raise RegistryError(f"There is no adapter in {folder} yet: python -m models_backend train {name}")
    _use(threads)
    from models_backend.training import evaluate as evaluating

    rows = read(plan.valid_file)
    done = 0
    with screen() as watch:

        def on_rows(count: int) -> None:
            nonlocal done
            done += count
            watch(Progress("answering held-out rows, tuned and base", done, 2 * len(rows), "rows"))

        report = evaluating.evaluate(plan, rows, base, folder, on_rows)
    shown = [
        card.example(row, tuned, untuned)
        for row, tuned, untuned in zip(rows, report.tuned_answers, report.base_answers, strict=True)
    ][:EXAMPLES]
    filled = card.with_figures(card.read_card(folder), report.measure, report.tuned, report.base, shown, len(rows))
    card.write_card(folder, filled)
    print_table(
        [
            ("model", report.measure, "rows"),
            (plan.base, f"{report.base:.3f}", str(len(rows))),
            (f"{plan.base} + {name}", f"{report.tuned:.3f}", str(len(rows))),
        ]
    )


def _base(plan: Recipe, home: Path) -> tuple[Path, str | None]:
    """The pulled base of a recipe and its checksum: of the source where there is one, as ours is a conversion of it."""
    entry = entries.find(plan.base, home)
    if entry.folder is None:
        raise RegistryError(f"{plan.base} is not here yet: python -m models_backend pull {plan.base}")
    note = manifest.read(entry.folder)
    return entry.folder, note.source_sha256 or note.sha256


def _folder(name: str, home: Path, publish: bool) -> Path:
    return (entries.COMMITTED if publish else home / "training") / name


def _use(threads: int | None) -> None:
    """Load torch, which takes seconds, and give it no more cores than it was granted."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
