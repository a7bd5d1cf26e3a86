"""The list of runs."""

from typing import Any

from django.test import Client

from playground.models import Run

HTMX = {"HX-Request": "true"}


def test_runs_are_found_by_what_was_asked(alices: Client, run: Run) -> None:
    assert run.pk in alices.get("/runs", {"q": "ASKED alice"}, headers=HTMX).content.decode()
    assert "No run matches" in alices.get("/runs", {"q": "never"}, headers=HTMX).content.decode()


def test_runs_of_others_are_not_listed(bobs: Client, run: Run) -> None:
    assert "No runs yet." in bobs.get("/runs").content.decode()


def test_the_list_goes_on_where_it_ended(alices: Client, alice: Any, run: Run) -> None:
    for number in range(30):
        Run.objects.create(
            id=f"{number:032x}", owner=alice, client_id=f"{number}", spec_json=run.spec_json,
            title=f"Later {number}", search="", created_at=run.created_at.replace(year=2100, second=number),
        )  # fmt: skip
    first = alices.get("/runs", headers=HTMX)
    assert run.pk not in first.content.decode()
    rest = alices.get("/runs", {"before": first.context["before"]}, headers=HTMX).content.decode()
    assert run.pk in rest
    assert rest.count('class="item"') == 1


def test_a_moment_that_is_none_is_refused(alices: Client, run: Run) -> None:
    for before in ("yesterday", "2026-01-01T00:00:00", "\x00"):
        assert alices.get("/runs", {"before": before}).status_code == 400
