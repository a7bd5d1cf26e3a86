"""A server that others have written, with the real model: `transformers serve`, as its users start it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from models_backend import registry
from models_backend.config import DEFAULT_MODEL, Settings
from models_backend.protocol.events import LaneDone, LaneStopped
from models_backend.protocol.runs import Chat, Completion, Message
from models_backend.remote.upstreams import address
from tests.stack import free_port

from .conftest import House, count_of, request, text_of, used_of

COLOURS = Chat((Message("user", "Name three colours."),))
SERVE = "from transformers.cli.transformers import main; main()"

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address of the server and the name that it knows its model by."""
    assert is_serve_available(), "transformers serve needs fastapi, uvicorn and openai"
    folder = registry.find(DEFAULT_MODEL, Settings().home).folder
    assert folder is not None
    name, port, here = str(Path(folder).resolve()), free_port(), tmp_path_factory.mktemp("serve")
    command = [sys.executable, "-c", SERVE, "serve", name, "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(here)}
    with (here / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--device", "cpu", "--dtype", "float32"], cwd=here, env=env, stdout=log, stderr=log
        )
    try:
        yield address(f"http://127.0.0.1:{port}"), name
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def ask(house: House, served: tuple[str, str]):
    url, name = served
    engine = house.engine(url, models=[name], first_seconds=120, between_seconds=60)
    end = time.monotonic() + 120
    while engine.trouble:  # importing transformers takes its time
        assert time.monotonic() < end, engine.trouble
        house.woken.wait(0.2)
        house.woken.clear()

    def answer(prompt=COLOURS, stop_after: int = 0, **facts):
        engine.submit(request(name, prompt, **facts))
        if stop_after:
            house.until(lambda: _heard(house, engine) >= stop_after, 120)
            engine.stop("a" * 32, 0)
        return house.hear(engine, seconds=240)

    answer.engine = engine
    return answer


def _heard(house: House, engine) -> int:
    house.events += [event for _, event in engine.step()]
    return count_of(house.events)


def test_it_answers_chats_and_plain_text_with_the_settings_that_were_sent(ask):
    assert ask.engine.device == "remote (transformers)"
    greedy = ask(temperature=0.0, max_tokens=12)
    assert isinstance(greedy[-1], LaneDone) and greedy[-1].finish == "length"
    assert count_of(greedy) == greedy[-1].figures.completion_tokens == 12
    assert greedy[-1].figures.prompt_tokens > 10
    assert text_of(ask(temperature=2.0, top_k=1, max_tokens=12)) == text_of(greedy), "top_k is heard"
    first, again, other = (ask(temperature=1.0, max_tokens=12, seed=seed) for seed in (5, 5, 6))
    assert text_of(first) == text_of(again) != text_of(other)
    assert used_of(first).seed == 5 and used_of(first).top_p is None
    assert "Paris" in text_of(ask(Completion("The capital of France is"), temperature=0.0, max_tokens=5))


def test_plain_text_goes_on_as_if_nothing_had_happened(ask):
    prompt = Completion("1, 2, 3, 4, 5,")
    whole = text_of(ask(prompt, temperature=0.0, max_tokens=12))
    said = whole[:6]
    rest = ask(prompt, temperature=0.0, max_tokens=12, resume_text=said, resume_tokens=4)
    assert whole.startswith((said + text_of(rest))[: len(whole)])


def test_stop_ends_it_and_the_next_answer_comes_at_once(ask):
    events = ask(stop_after=5, max_tokens=2000, min_tokens=2000)
    assert isinstance(events[-1], LaneStopped) and count_of(events) < 500
    assert isinstance(ask(temperature=0.0, max_tokens=3)[-1], LaneDone)
