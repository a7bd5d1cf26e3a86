"""The history of runs: newest first, in pages, and found by any word of prompt, answer or model."""

import msgspec
import pytest

from models_backend.protocol.runs import RunSpec
from playground.errors import NotFound
from playground.models import Lane
from playground.runs import history, records
from tests.conftest import BASE, TUNED, spec_of


@pytest.fixture
def asked(client_id):
    def ask(person, text, models=(BASE,)):
        spec = msgspec.convert(spec_of(text, models), RunSpec)
        return records.create(person, client_id(), spec, [BASE] * len(models))

    return ask


def titles(runs):
    return [run.title for run in runs]


def test_runs_are_listed_newest_first_and_page_by_page(alice, asked):
    for text in ("one", "two", "three"):
        asked(alice, text)
    first = history.listing(alice, limit=2)
    assert titles(first) == ["three", "two"]
    assert titles(history.listing(alice, before=first[-1].created_at)) == ["one"]


def test_nobody_sees_the_runs_of_another(alice, bob, asked):
    run = asked(alice, "secret")
    asked(bob, "mine")
    assert titles(history.listing(bob)) == ["mine"]
    assert history.listing(bob, "secret") == []
    with pytest.raises(NotFound):
        history.open(bob, run.id)
    assert history.open(alice, run.id).title == "secret"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("über", ["Der ÜBERGANG am Fluss"]),
        ("fluss übergang", ["Der ÜBERGANG am Fluss"]),
        ("SHOUT", ["Loud"]),
        ("écluse", ["Loud"]),
        ("100%", ["Give 100%"]),
        ("%", ["Give 100%"]),
        ("_", []),
        ("\x00loud\x00", ["Loud"]),
        ("x" * 10_000, []),
        ("", ["Give 100%", "Loud", "Der ÜBERGANG am Fluss"]),
    ],
)
def test_search_finds_words_in_prompts_answers_and_models_in_any_case(alice, asked, query, found):
    asked(alice, "Der ÜBERGANG am Fluss")
    loud = asked(alice, "Loud", (BASE, TUNED))
    asked(alice, "Give 100%")
    Lane.objects.filter(run=loud, index=1).update(text="Une Écluse", search="une écluse")
    assert titles(history.listing(alice, query)) == found


def test_the_title_is_the_last_question_cut_at_a_word_or_so(alice, asked):
    run = asked(alice, "  Line one\n\nline two " + "and more " * 50)
    assert run.title.startswith("Line one line two and more") and run.title.endswith("…") and len(run.title) <= 120


def test_the_state_of_a_run_is_the_worst_end_of_what_was_not_replaced(alice, asked):
    run = asked(alice, "x", (BASE, TUNED))
    assert history.open(alice, run.id).state == "open"
    Lane.objects.filter(run=run, index=0).update(state="failed")
    Lane.objects.filter(run=run, index=1).update(state="done")
    assert history.open(alice, run.id).state == "failed"
    again = records.append(run, "e" * 32, run.spec.lanes[0], BASE, replaces=0)
    Lane.objects.filter(pk=again.pk).update(state="stopped")
    assert history.open(alice, run.id).state == "stopped"


def test_ids_that_are_none_are_simply_not_there(alice):
    for bad in ("", "x", "../1", "a" * 31, "\x00" * 32, "A" * 32):
        with pytest.raises(NotFound):
            history.open(alice, bad)
