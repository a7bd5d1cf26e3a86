"""Doors of presets: what they take, what they refuse, and what they tell the page."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from playground.models import Preset
from playground.presets import service

HTMX = {"HX-Request": "true"}


def told(answer: Any) -> dict[str, Any]:
    return json.loads(answer["HX-Trigger-After-Swap"])


def form(asked: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "New", "description": "", "note": "", "spec": json.dumps(asked), **fields}


def test_saving_makes_a_preset_and_tells_the_page_where_it_is(alice: Any, alices: Client, spec: Any) -> None:
    answer = alices.post("/presets", form(spec(), name="Größe ✓", note="n"), headers=HTMX)
    (preset,) = service.listing(alice)
    saved = told(answer)["preset:saved"]
    assert (saved["name"], saved["number"], saved["url"]) == ("Größe ✓", 1, f"/presets/{preset.pk}")
    assert "Größe ✓" in answer.content.decode()


def test_without_htmx_saving_leads_to_the_preset(alice: Any, alices: Client, spec: Any) -> None:
    answer = alices.post("/presets", form(spec()))
    (preset,) = service.listing(alice)
    assert (answer.status_code, answer["Location"]) == (302, f"/presets/{preset.pk}")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "Give the preset a name."),
        ("name", "n" * 121, "121 characters; at most 120"),
        ("name", "bell\x07", "cannot be shown"),
        ("description", "d" * 2001, "longer than 2000"),
        ("note", "n" * 501, "at most 500"),
        ("spec", "", "cannot be saved"),
        ("spec", "{", "cannot be saved"),
        ("spec", '{"prompt": {"mode": "chat", "messages": []}, "lanes": []}', "cannot be saved"),
    ],
)
def test_a_bad_field_comes_back_with_its_reason_and_what_was_typed(
    alice: Any, alices: Client, spec: Any, field: str, value: str, words: str
) -> None:
    answer = alices.post("/presets", form(spec(), **({"description": "typed"} | {field: value})), headers=HTMX)
    assert answer.status_code == 422
    assert answer["HX-Retarget"] == "#dialog-body"
    html = answer.content.decode()
    assert words in html
    assert field == "description" or "typed" in html
    assert service.listing(alice) == []


def test_markup_in_names_is_escaped_everywhere(alice: Any, alices: Client, spec: Any) -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    preset = service.create(alice, hostile, hostile, spec(), hostile)
    for path in ("", "/rename", "/versions", "/save"):
        html = alices.get(f"/presets/{preset.pk}{path}", headers=HTMX).content.decode()
        assert "<img" not in html
    assert "<img" not in alices.get("/presets", {"q": hostile}).content.decode()


def test_a_version_that_somebody_else_was_quicker_to_save_is_a_conflict(
    alice: Any, alices: Client, preset: Preset, spec: Any
) -> None:
    service.save_version(alice, preset.pk, spec("Elsewhere"), "", 1)
    answer = alices.post(f"/presets/{preset.pk}/versions", form(spec("Mine"), expected="1"), headers=HTMX)
    assert answer.status_code == 422
    html = answer.content.decode()
    assert "Version 2 was saved in the meantime" in html
    assert 'name="expected" value="2"' in html  # pressing again saves on top


def test_versions_are_listed_newest_first_with_their_notes(
    alice: Any, alices: Client, preset: Preset, spec: Any
) -> None:
    service.save_version(alice, preset.pk, spec("Two"), "second")
    html = alices.get(f"/presets/{preset.pk}/versions", headers=HTMX).content.decode()
    assert html.index("second") < html.index("first")


def test_deleting_is_undone(alice: Any, alices: Client, preset: Preset) -> None:
    answer = alices.post(f"/presets/{preset.pk}/delete", headers=HTMX)
    assert service.listing(alice) == []
    alices.post(told(answer)["toast"]["undo"], headers=HTMX)
    assert service.listing(alice) == [preset]


def test_search_finds_all_words_in_any_case(alice: Any, alices: Client, preset: Preset, spec: Any) -> None:
    service.create(alice, "Other", "", spec())
    html = alices.get("/presets", {"q": "JSON tick"}, headers=HTMX).content.decode()
    assert "Tickets" in html
    assert "Other" not in html


@pytest.mark.parametrize("action", ["rename", "duplicate", "delete", "restore", "versions"])
def test_nobody_acts_on_what_is_not_theirs(bobs: Client, preset: Preset, spec: Any, action: str) -> None:
    mine = bobs.post(f"/presets/{preset.pk}/{action}", form(spec()), headers=HTMX)
    none = bobs.post(f"/presets/{uuid4()}/{action}", form(spec()), headers=HTMX)
    assert (mine.status_code, mine.content) == (none.status_code, none.content) == (404, none.content)
    preset.refresh_from_db()
    assert (preset.name, preset.deleted_at, preset.versions.count()) == ("Tickets", None, 1)


@pytest.mark.parametrize("path", ["delete", "restore", "duplicate"])
def test_reading_changes_nothing(alices: Client, preset: Preset, path: str) -> None:
    assert alices.get(f"/presets/{preset.pk}/{path}").status_code == 405


def test_a_form_without_its_token_is_refused_calmly(alice: Any, preset: Preset) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    answer = client.post(f"/presets/{preset.pk}/delete")
    assert answer.status_code == 403
    assert "This form is too old" in answer.content.decode()


@pytest.mark.parametrize("number", ["x", "-1", "1" * 30, "²"])
def test_a_number_that_is_none_is_refused(alices: Client, preset: Preset, number: str) -> None:
    answer = alices.post(f"/presets/{preset.pk}/duplicate", {"number": number}, headers=HTMX)
    assert (answer.status_code, answer.content.decode()) == (400, "number must be a whole number.")
