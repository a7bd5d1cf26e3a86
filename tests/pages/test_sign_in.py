"""Signing in by pasting, and out."""

from typing import Any

import pytest
from django.test import Client

from playground.access import signin
from playground.pages.sign_in import token_in
from tests.conftest import TOKEN


@pytest.fixture(autouse=True)
def fresh_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "tries", signin.Tries())


def test_the_token_is_found_in_a_pasted_address() -> None:
    assert token_in(" abc ") == "abc"
    assert token_in("http://127.0.0.1:8000/?token=abc&x=1") == "abc"


@pytest.mark.parametrize("pasted", [TOKEN, f"http://127.0.0.1:8000/?token={TOKEN}"])
def test_a_right_token_leads_onward(db: None, pasted: str) -> None:
    answer = Client().post("/sign-in", {"token": pasted, "next": "/runs"})
    assert (answer.status_code, answer["Location"]) == (302, "/runs")


@pytest.mark.parametrize(
    "onward", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "/\\evil.example"]
)
def test_nobody_is_led_to_another_server(db: None, onward: str) -> None:
    assert Client().post("/sign-in", {"token": TOKEN, "next": onward})["Location"] == "/"


def test_a_wrong_token_says_what_to_do(db: None) -> None:
    answer = Client().post("/sign-in", {"token": "wrong"})
    assert answer.status_code == 403
    assert "Take the newest address" in answer.content.decode()


def test_signing_out_ends_the_session(alices: Client, alice: Any) -> None:
    assert alices.get("/").status_code == 200
    alices.post("/sign-out")
    assert alices.get("/").status_code == 302
