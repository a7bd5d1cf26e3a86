"""The adapters that come with Diptych: their cards tell the truth about the files, and the figures hold."""

import json
from pathlib import Path

import pytest

from models_backend.config import Settings
from models_backend.registry import entries, find
from models_backend.registry.manifest import digest
from models_backend.registry.sources import known
from models_backend.training import recipe
from models_backend.training.recipe import DATA
from models_backend.training.rows import answer, read

FOLDERS = {folder.parent.name: folder.parent for folder in entries.COMMITTED.glob("*/card.json")}
ROWS = 20  # of the held-out ones: enough to notice a wrong adapter, few enough to wait for


def test_there_are_two_and_one_is_tickets() -> None:
    assert {"tickets", "pirate"} <= FOLDERS.keys()


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_card_names_the_files_as_they_are(name: str) -> None:
    folder = FOLDERS[name]
    card = json.loads((folder / "card.json").read_text())
    assert card["adapter_sha256"] == digest(folder / "adapter_model.safetensors")
    assert card["base_sha256"] == known()[card["base"]].sha256
    assert card["recipe"] == recipe.read(name).facts()
    assert {file: facts["sha256"] for file, facts in card["data"].items()} == {
        f"{name}.{part}.jsonl": digest(DATA / f"{name}.{part}.jsonl") for part in ("train", "valid")
    }
    assert card["licence"] == "Apache-2.0" and card["adapter_sha256"] in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_an_adapter_is_a_few_megabytes_of_safetensors_and_nothing_else(name: str) -> None:
    files = {path.name: path.stat().st_size for path in FOLDERS[name].iterdir()}
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "card.json", "README.md"}
    assert sum(files.values()) < 6_000_000


def test_the_figures_of_tickets_are_what_was_asked_for() -> None:
    figures = json.loads((FOLDERS["tickets"] / "card.json").read_text())["figures"]
    assert figures["rows"] == 200 and figures["exact_match_tuned"] >= 0.90 and figures["exact_match_base"] <= 0.20


@pytest.fixture(scope="module")
def base() -> Path:
    folder = find(Settings().model, Settings().home).folder
    assert folder, f"this test needs the model: python -m models_backend pull {Settings().model}"
    return folder


@pytest.mark.model
@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_the_tuned_model_does_on_held_out_rows_what_its_base_does_not(name: str, base: Path) -> None:
    from models_backend.training.evaluate import evaluate

    plan = recipe.read(name)
    report = evaluate(plan, read(plan.valid_file)[:ROWS], base, FOLDERS[name], lambda count: None)
    assert report.tuned >= 0.8 and report.base <= 0.2
    assert len(report.tuned_answers) == ROWS


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_card_shows_what_both_models_said_to_held_out_rows(name: str) -> None:
    expected = {answer(row) for row in read(DATA / f"{name}.valid.jsonl")}
    examples = json.loads((FOLDERS[name] / "card.json").read_text())["examples"]
    assert examples and all(example["expected"] in expected for example in examples)
    assert all(example["tuned"] != example["base"] for example in examples)
