"""The compare page in its forms, and who gets which."""

from typing import Any

import pytest
from django.test import Client

from playground.catalog.welcome import SPEC
from playground.models import Preset, Run
from playground.presets import service, share
from tests.pages.start import start_of

GONE = "There is nothing here that you can open."


def test_a_first_visit_begins_with_the_welcome_prompt(alices: Client) -> None:
    start = start_of(alices.get("/"))
    assert start["spec"] == SPEC
    assert (start["preset"], start["run"], start["read_only"]) == (None, None, False)


def test_a_preset_opens_in_its_newest_version_and_in_older_ones(
    alice: Any, alices: Client, preset: Preset, spec: Any
) -> None:
    service.save_version(alice, preset.pk, spec("Version two"), "second")
    newest = start_of(alices.get(f"/presets/{preset.pk}"))
    older = start_of(alices.get(f"/presets/{preset.pk}/v/1"))
    assert [page["spec"]["prompt"]["messages"][-1]["content"] for page in (newest, older)] == [
        "Version two",
        "Version one",
    ]
    assert (older["preset"]["number"], older["preset"]["newest"]) == (1, 2)


def test_a_run_opens_with_what_was_asked(alices: Client, run: Run) -> None:
    start = start_of(alices.get(f"/runs/{run.pk}"))
    assert start["run"] == {"id": run.pk, "title": "Alice asked this"}
    assert start["spec"]["prompt"]["messages"][-1]["content"] == "Alice asked this"


def test_what_belongs_to_another_does_not_exist(bobs: Client, preset: Preset, run: Run) -> None:
    missing = bobs.get("/runs/" + "0" * 32)
    for address in (f"/presets/{preset.pk}", f"/presets/{preset.pk}/v/1", f"/runs/{run.pk}"):
        answer = bobs.get(address)
        assert answer.status_code == 404
        assert answer.content == missing.content
    assert GONE in missing.content.decode()


@pytest.mark.parametrize("address", ["/", "/runs", "/presets", "/runs/" + "0" * 32])
def test_a_guest_is_led_to_sign_in(db: None, address: str) -> None:
    answer = Client().get(address)
    assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/sign-in")


def test_a_guest_reads_what_is_open_to_anyone_and_cannot_write(alice: Any, preset: Preset) -> None:
    link = share.share(alice, "preset", preset.pk, "anyone")
    page = Client().get(link.url)
    start = start_of(page)
    assert (start["read_only"], start["share"]) == (True, link.token)
    html = page.content.decode()
    assert "Sign in to run it" in html
    assert 'data-do="run"' not in html
    assert Client().post(f"{link.url}/copy").status_code == 302  # to sign-in


def test_a_reader_takes_a_copy_of_a_shared_preset(alice: Any, bob: Any, bobs: Client, preset: Preset) -> None:
    link = share.share(alice, "preset", preset.pk, "signed_in")
    assert bobs.post(f"{link.url}/copy").status_code == 302
    (copy,) = service.listing(bob)
    assert (copy.name, copy.owner) == ("Tickets (copy)", bob)


def test_a_reader_takes_a_copy_of_a_shared_run(alice: Any, bob: Any, bobs: Client, run: Run) -> None:
    link = share.share(alice, "run", run.pk, "signed_in")
    bobs.post(f"{link.url}/copy")
    (copy,) = service.listing(bob)
    assert copy.name == "Alice asked this"


def test_pages_are_not_kept_by_caches_and_allow_no_inline_code(alices: Client) -> None:
    page = alices.get("/")
    assert "no-store" in page["Cache-Control"]
    policy = page["Content-Security-Policy"]
    assert "'unsafe-inline'" not in policy
    assert "'unsafe-eval'" not in policy
    html = page.content.decode()
    assert " style=" not in html
    assert " onclick=" not in html
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert f'<script type="importmap" nonce="{nonce}">' in html


def test_markup_in_a_prompt_cannot_leave_its_script_element(alice: Any, alices: Client, spec: Any) -> None:
    hostile = "</script><script>alert(1)</script><!--"
    preset = service.create(alice, hostile, hostile, spec(hostile))
    page = alices.get(f"/presets/{preset.pk}")
    assert "<script>alert" not in page.content.decode()
    assert start_of(page)["spec"]["prompt"]["messages"][-1]["content"] == hostile
