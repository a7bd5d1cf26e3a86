"""The committed rows: made by the generators as they are now, and held out in truth."""

import json
from collections import Counter
from pathlib import Path

import pytest

from models_backend.training import pirate, tickets
from models_backend.training.generate import GENERATORS, generate
from models_backend.training.recipe import DATA
from models_backend.training.rows import answer, questions, read

KEYS = {"product", "problem", "urgency", "wants"}


def test_the_committed_files_are_what_the_generators_make(tmp_path: Path) -> None:
    for path in generate(tmp_path):
        assert path.read_bytes() == (DATA / path.name).read_bytes(), (
            f"run models_backend.training.generate: {path.name}"
        )
        assert path.stat().st_size < 1_000_000


def test_another_seed_makes_other_rows() -> None:
    for make in (tickets.generate, pirate.generate):
        assert make(1) == make(1) != make(2)


@pytest.mark.parametrize("name", GENERATORS)
def test_no_held_out_question_is_in_the_training_rows(name: str) -> None:
    train, valid = (read(DATA / f"{name}.{part}.jsonl") for part in ("train", "valid"))
    assert not questions(train) & questions(valid)


def test_two_hundred_tickets_are_held_out_and_a_quarter_of_them_name_a_product_never_trained_on() -> None:
    train, valid = (read(DATA / f"tickets.{part}.jsonl") for part in ("train", "valid"))
    assert len(valid) == 200
    known = {json.loads(answer(row))["product"] for row in train}
    unseen = [row for row in valid if json.loads(answer(row))["product"] not in known]
    assert 30 < len(unseen) < 70


def test_each_ticket_has_the_four_keys_and_each_label_is_common_enough_to_matter() -> None:
    facts = [json.loads(answer(row)) for row in read(DATA / "tickets.valid.jsonl")]
    assert all(fact.keys() == KEYS for fact in facts)
    for key, labels in (("problem", tickets.PROBLEMS), ("urgency", tickets.URGENCIES), ("wants", tickets.WANTS)):
        counts = Counter(fact[key] for fact in facts)
        assert counts.keys() == labels.keys() and min(counts.values()) >= 10


def test_a_message_says_its_product_and_no_slot_is_left_open() -> None:
    for row in read(DATA / "tickets.train.jsonl"):
        text = row["messages"][1]["content"]
        assert json.loads(answer(row))["product"] in text.lower() and "{" not in text


@pytest.mark.parametrize(
    ("said", "right"),
    [('{"a": 1, "b": 2}', True), ('{ "b":2,"a":1}\n', True), ('{"a": 1}', False), ("a: 1", False), ("[1, 2]", False)],
)
def test_a_ticket_matches_when_its_json_is_equal(said: str, right: bool) -> None:
    assert tickets.matches(said, '{"a": 1, "b": 2}') is right


def test_pirates_speak_with_their_own_words() -> None:
    assert pirate.speak("You and your friends are sailing over there.") == "Ye an' yer mateys be sailin' o'er thar."
    assert pirate.matches("Ahoy! Fish be in th' sea, savvy?", "")
    assert not pirate.matches("You and your friends are sailing over there.", "")


def test_every_pirate_row_is_pirate_speech() -> None:
    assert all(pirate.matches(answer(row), "") for part in pirate.generate() for row in part)
