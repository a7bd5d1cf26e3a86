"""The share dialog."""

from typing import Any

import pytest
from django.test import Client

from playground.models import Preset, Run
from playground.presets import share

HTMX = {"HX-Request": "true"}


@pytest.mark.parametrize("kind", ["preset", "run"])
def test_a_link_is_made_narrowed_and_revoked(alice: Any, alices: Client, preset: Preset, run: Run, kind: str) -> None:
    id_ = {"preset": preset, "run": run}[kind].pk
    address = f"/share/{kind}/{id_}"
    html = alices.post(address, {"level": "anyone"}, headers=HTMX).content.decode()
    link = share.current(alice, kind, id_)
    assert link
    assert f"http://testserver{link.url}" in html
    assert Client().get(link.url).status_code == 200
    alices.post(address, {"level": "signed_in"}, headers=HTMX)
    assert Client().get(link.url).status_code == 404
    alices.post(f"{address}/revoke", headers=HTMX)
    assert share.current(alice, kind, id_) is None
    assert alices.get(link.url).status_code == 404


def test_a_level_that_is_none_is_refused(alices: Client, preset: Preset) -> None:
    answer = alices.post(f"/share/preset/{preset.pk}", {"level": "world"}, headers=HTMX)
    assert answer.status_code == 400
    assert "must be one of private, signed_in, anyone" in answer.content.decode()


def test_only_the_owner_shares(bobs: Client, preset: Preset, run: Run) -> None:
    for address in (f"/share/preset/{preset.pk}", f"/share/run/{run.pk}"):
        assert bobs.get(address).status_code == 404
        assert bobs.post(address, {"level": "anyone"}).status_code == 404


def test_every_wrong_token_gets_the_same_answer(alice: Any, preset: Preset) -> None:
    link = share.share(alice, "preset", preset.pk, "private")
    answers = [Client().get(f"/s/{token}") for token in (link.token, "nothing", "x" * 500, "%00")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
