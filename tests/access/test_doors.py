"""Laws of the house that can be read off its files: records come from `access.lookup` alone."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "playground"
DOORS = [path for room in ("live", "api", "pages", "management") for path in (ROOT / room).rglob("*.py")]
FETCHES = re.compile(r"\.objects\b|get_object_or_404|get_list_or_404|\b_default_manager\b|\.raw\(|connection\.cursor")


def test_there_are_doors_to_look_at():
    assert {path.parent.name for path in DOORS} >= {"live", "api", "pages", "commands"}


@pytest.mark.parametrize("path", DOORS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_door_fetches_a_record_by_itself(path):
    assert FETCHES.findall(path.read_text()) == []


def test_every_record_of_a_person_is_fetched_by_what_is_visible_to_that_person():
    text = (ROOT / "access" / "lookup.py").read_text()
    for model in ("Run", "Preset"):
        for use in re.findall(rf"\b{model}\.objects\.(\w+)", text):
            assert use in ("visible_to", "owned_by")
