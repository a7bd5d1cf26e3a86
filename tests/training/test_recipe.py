import tomllib

import pytest

from models_backend.training import recipe
from models_backend.training.evaluate import MEASURES
from models_backend.training.recipe import RECIPES, BadRecipe

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_recipe_names_files_and_a_measure_that_exist(name: str) -> None:
    plan = recipe.read(name)
    assert plan.train_file.is_file() and plan.valid_file.is_file() and plan.measure in MEASURES
    assert plan.rank <= 16


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadRecipe, match="pirate, tickets"):
        recipe.read("../recipes/tickets")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rank": 0}, "rank must be"),
        ({"learning_rate": "fast"}, "learning_rate must be"),
        ({"epochs": True}, "epochs must be"),
        ({"targets": []}, "targets"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_recipe_out_of_bounds_is_refused_by_field(change: dict[str, object], why: str) -> None:
    facts = tomllib.loads((RECIPES / "tickets.toml").read_text()) | {"name": "x"} | change
    with pytest.raises(BadRecipe, match=why):
        recipe.parse(facts)


def test_a_recipe_without_a_field_is_refused_by_field() -> None:
    facts = tomllib.loads((RECIPES / "tickets.toml").read_text())
    with pytest.raises(BadRecipe, match="name"):
        recipe.parse(facts)
