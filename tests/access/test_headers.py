"""What every page carries, so that what a model wrote stays data and no other page speaks in a person's name."""

import re

import pytest
from django.core.checks import run_checks
from django.test import Client

from playground import settings as module
from playground.access.signin import BACKEND


@pytest.fixture
def page(alice, client):
    client.force_login(alice, backend=BACKEND)
    return client.get("/")


def test_a_page_loads_and_reaches_nothing_but_this_server(page):
    policy = dict(part.strip().split(" ", 1) for part in page["Content-Security-Policy"].split(";") if part.strip())
    assert re.fullmatch(r"'self' 'nonce-[^']{16,}'", policy.pop("script-src"))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "font-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }


def test_a_nonce_is_used_once(page, client):
    again = client.get("/")
    assert page["Content-Security-Policy"] != again["Content-Security-Policy"]
    nonce = re.search("nonce-([^']+)'", again["Content-Security-Policy"])[1]
    scripts = re.findall("<script[^>]*>", again.content.decode())
    ours = (f'nonce="{nonce}"', 'src="/static/', 'type="application/json"')
    assert scripts and all(any(mark in script for mark in ours) for script in scripts)


def test_a_page_is_not_framed_not_sniffed_and_not_told_to_others(page):
    assert page["X-Frame-Options"] == "DENY"
    assert page["X-Content-Type-Options"] == "nosniff"
    assert page["Referrer-Policy"] == "same-origin"
    assert page["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_form_of_another_page_is_refused(alice):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice, backend=BACKEND)
    assert strict.post("/sign-out").status_code == 403
    assert strict.post("/presets/new", {"name": "x"}).status_code == 403


def test_the_secret_key_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    key = module._secret_key(tmp_path)
    assert module._secret_key(tmp_path) == key and len(key) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["secret-key"]
    assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, set()),
        ({"DIPTYCH_TOKEN": "short"}, {"diptych.token"}),
        ({"DIPTYCH_TOKEN": "short", "DIPTYCH_HOST": "0.0.0.0"}, {"diptych.token"}),
        ({"ALLOWED_HOSTS": ["*"]}, {"diptych.hosts"}),
    ],
)
def test_settings_that_open_the_house_are_noticed(settings, changes, found):
    for name, value in changes.items():
        setattr(settings, name, value)
    assert {check.id for check in run_checks() if check.id.startswith("diptych.")} == found
