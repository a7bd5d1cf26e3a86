"""Servers and engines for these tests: both real, and ended with the test."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from models_backend.engine import Request
from models_backend.protocol.events import ENDS, LaneEvent, LaneStarted, LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Chat, Completion, Message
from models_backend.remote.answer import Clocks
from models_backend.remote.engine import RemoteEngine
from models_backend.remote.upstreams import Remote, Upstream, address

from . import upstream as servers

RUN = "a" * 32
CHAT = Chat((Message("user", "Tell me a story."),))
PLAIN = Completion("Tell me:|")


async def no_sleep(seconds: float) -> None:
    """Between two tries."""


class House:
    """Starts servers and engines, and listens to what an engine says."""

    def __init__(self) -> None:
        self.open: list[Any] = []
        self.woken = threading.Event()
        self.events: list[LaneEvent] = []

    def server(self, dialect: str = "openai", port: int = 0) -> servers.Upstream:
        server = servers.Upstream(dialect, port).__enter__()
        self.open.append(server)
        return server

    def engine(self, url: str, prefix: str = "", key: str = "", installed: Any = list, **spec: Any) -> RemoteEngine:
        facts = {"first_seconds": 20.0, "between_seconds": 20.0, **spec}
        remote = Remote(msgspec.convert({"url": url, **facts}, Upstream), address(url), key)
        clocks = Clocks(lambda: time.time() * 1000, time.monotonic, no_sleep)
        engine = RemoteEngine(remote, "here", prefix, installed, clocks)
        self.open.append(engine)
        engine.listen(self.woken.set, self.woken.set)
        return engine

    def ready(self, engine: RemoteEngine) -> RemoteEngine:
        self.until(lambda: not engine.trouble)
        return engine

    def until(self, true: Callable[[], Any], seconds: float = 20) -> None:
        """Wait for a fact; the engine wakes us when something has changed."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it never came true"
            self.woken.wait(0.02)
            self.woken.clear()

    def hear(self, engine: RemoteEngine, lanes: int = 1, seconds: float = 20) -> list[LaneEvent]:
        """All events until so many lanes have ended."""

        def ended() -> bool:
            self.events += [event for _, event in engine.step()]
            return sum(isinstance(event, ENDS) for event in self.events) >= lanes

        self.until(ended, seconds)
        heard, self.events = self.events, []
        return heard

    def ask(self, engine: RemoteEngine, model: str, prompt: Any = CHAT, **facts: Any) -> list[LaneEvent]:
        engine.submit(request(model, prompt, **facts))
        return self.hear(engine)


def request(model: str, prompt: Any = CHAT, lane: int = 0, **facts: Any) -> Request:
    known = {name: facts.pop(name) for name in list(facts) if name in Params.__struct_fields__}
    return Request(RUN, lane, model, prompt, Params(**known), facts.pop("seed_of_run", 3), **facts)


def text_of(events: list[LaneEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, LaneToken))


def count_of(events: list[LaneEvent]) -> int:
    """Tokens as the reducers count them."""
    said = [event for event in events if isinstance(event, LaneToken)]
    return said[-1].index + len(said[-1].ids) if said else 0


def used_of(events: list[LaneEvent]) -> Any:
    return next(event.used for event in events if isinstance(event, LaneStarted))


@pytest.fixture
def house() -> Iterator[House]:
    found = House()
    yield found
    for each in reversed(found.open):
        each.close() if isinstance(each, RemoteEngine) else each.__exit__()
