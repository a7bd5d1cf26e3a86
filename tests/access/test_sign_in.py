"""Signing in by token, out, and by invitation; nobody gets further without."""

import re
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from playground.access import signin
from playground.errors import BadParameter
from playground.models import SignInLink, User
from tests.conftest import TOKEN


@pytest.fixture(autouse=True)
def fresh_tries(monkeypatch):
    monkeypatch.setattr(signin, "tries", signin.Tries())


@pytest.fixture
def people(transactional_db):
    return User.objects


def signed_in(client):
    return "_auth_user_id" in client.session


def test_the_token_signs_the_owner_in_and_leaves_the_address(people, client, settings):
    response = client.get(f"/runs?token={TOKEN}&q=two words")
    assert (response.status_code, response["Location"]) == (302, "/runs?q=two+words")
    assert signed_in(client)
    cookie = response.cookies[settings.SESSION_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert people.get().is_owner
    client.get(f"/?token={TOKEN}")
    assert people.count() == 1


def test_a_wrong_token_shows_the_sign_in_page_and_why(people, client):
    for wrong in ("wrong", "", TOKEN[:-1], TOKEN + "x", "é" * 30, "\x00", "\ud800", "x" * 5000):
        signin.tries = signin.Tries()
        response = client.get("/", {"token": wrong.encode(errors="surrogatepass")})
        assert response.status_code == 403
        assert "not valid" in response.content.decode()
    assert not signed_in(client) and people.count() == 0


def test_without_a_server_token_no_token_is_right(people, client, settings):
    settings.DIPTYCH_TOKEN = ""
    assert client.get("/?token=").status_code == 403


def test_a_page_without_a_session_leads_to_signing_in(people, client):
    response = client.get("/runs")
    assert response.status_code == 302 and response["Location"].startswith("/sign-in")


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "///evil.example", "/%0d%0aSet-Cookie:x=1"])
def test_the_way_on_after_signing_in_never_leaves_this_server(people, client, path):
    response = client.get(f"{path}?token={TOKEN}")
    location = response.get("Location", "/")
    assert re.fullmatch(r"/(?![/\\]).*", location) and "\r" not in location


def test_a_token_in_a_post_is_not_looked_at(people, client):
    client.post(f"/sign-out?token={TOKEN}")
    assert people.count() == 0


def test_wrong_tokens_are_few_a_minute(people, client):
    for _ in range(signin.WRONG_PER_MINUTE):
        assert client.get("/?token=wrong").status_code == 403
    assert client.get("/?token=wrong").status_code == 429
    assert client.get(f"/?token={TOKEN}").status_code == 429
    assert client.get(f"/?token={TOKEN}", REMOTE_ADDR="10.0.0.9").status_code == 302


def test_tries_are_forgotten_after_a_minute_and_addresses_when_there_are_too_many():
    now = [0.0]
    tries = signin.Tries(clock=lambda: now[0], addresses=2)
    for _ in range(signin.WRONG_PER_MINUTE):
        tries.wrong("a")
    with pytest.raises(signin.TooManyTries):
        tries.check("a")
    now[0] = 61
    tries.check("a")
    for address in ("b", "c", "d"):
        tries.wrong(address)
    assert list(tries.times) == ["c", "d"]


def test_signing_out_ends_the_session(people, client):
    client.get(f"/?token={TOKEN}")
    key = client.session.session_key
    client.post("/sign-out")
    assert not signed_in(client)
    assert signin.person_of_session(key) is None


def test_an_invitation_signs_its_person_in_once(people, client):
    out = StringIO()
    call_command("invite", "Bob", "--address", "http://here:1/", stdout=out)
    address, _, token = out.getvalue().strip().partition("/?token=")
    assert address == "http://here:1"
    assert client.get(f"/?token={token}").status_code == 302
    assert (people.get().name, people.get().is_owner) == ("Bob", False)
    client.logout()
    assert client.get(f"/?token={token}").status_code == 403
    assert token not in str(list(SignInLink.objects.values()))


def test_an_invitation_expires_and_one_more_is_for_the_same_person(people, client):
    old, new = signin.invite("Bob"), signin.invite(" Bob ")
    SignInLink.objects.filter(token_sha256=signin._hash(old)).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(f"/?token={old}").status_code == 403
    assert client.get(f"/?token={new}").status_code == 302
    assert people.count() == 1


def test_who_is_no_longer_active_gets_in_by_nothing(people, client):
    token = signin.invite("Bob")
    people.update(is_active=False)
    assert client.get(f"/?token={token}").status_code == 403


@pytest.mark.parametrize("name", ["", " ", "x" * 81, "a\x00", "a\u202eb"])
def test_names_that_cannot_be_shown_are_not_invited(people, name):
    with pytest.raises(BadParameter):
        signin.invite(name)
    with pytest.raises(CommandError):
        call_command("invite", name)


def test_the_owner_cannot_be_invited_and_an_invited_owner_takes_no_ones_place(people, client):
    signin.invite(signin.OWNER_NAME)
    client.get(f"/?token={TOKEN}")
    owner = people.get(is_owner=True)
    assert owner.name != signin.OWNER_NAME and people.count() == 2
    with pytest.raises(BadParameter):
        signin.invite(owner.name)
