"""Signed-in clients of three people, and presets and runs of Alice to look at."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from playground.models import Lane, Preset, Run
from playground.presets import service

RUN = "ab" * 16


@pytest.fixture
def client_of() -> Callable[[Any], Client]:
    def client(person: Any) -> Client:
        client = Client()
        client.force_login(person)
        return client

    return client


@pytest.fixture
def alices(alice: Any, client_of: Callable[[Any], Client]) -> Client:
    return client_of(alice)


@pytest.fixture
def bobs(bob: Any, client_of: Callable[[Any], Client]) -> Client:
    return client_of(bob)


@pytest.fixture
def preset(alice: Any, spec: Callable[..., dict[str, Any]]) -> Preset:
    return service.create(alice, "Tickets", "Support to JSON", spec("Version one"), "first")


@pytest.fixture
def run(alice: Any, spec: Callable[..., dict[str, Any]]) -> Run:
    import msgspec

    from models_backend.protocol.runs import RunSpec

    asked = msgspec.convert(spec("Alice asked this"), RunSpec)
    now = timezone.now()
    run = Run.objects.create(
        id=RUN,
        owner=alice,
        client_id="cd" * 16,
        spec_json=msgspec.json.encode(asked).decode(),
        title="Alice asked this",
        search="alice asked this",
        created_at=now,
    )
    for index, lane in enumerate(asked.lanes):
        Lane.objects.create(
            run=run,
            index=index,
            queue="fake-base",
            spec_json=msgspec.json.encode(lane).decode(),
            state=Lane.State.DONE,
            text="An answer",
            created_at=now,
        )
    return run
