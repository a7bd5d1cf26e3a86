"""The whole system with one command and no model on this machine: it is ready when the server answers, and outlives
its worker and the server alike."""

import asyncio
import re
import sqlite3

import pytest

from tests.live_client import LiveClient, session_cookie
from tests.stack import Stack

from .upstream import TUNED, Upstream

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

WORDS = [f" word{number}" for number in range(120)]
SPEC = {
    "prompt": {"mode": "chat", "messages": [{"role": "user", "content": "Tell me."}]},
    "params": {"max_tokens": len(WORDS) + 1, "seed": 7, "temperature": 0},
    "lanes": [{"model": "meta/base"}, {"model": TUNED}],
}


@pytest.fixture(scope="module")
def server():
    with Upstream("vllm") as found:
        found.words = WORDS
        found.pause = 0.02
        yield found


@pytest.fixture(scope="module")
def stack(tmp_path_factory, server):
    with Stack(tmp_path_factory.mktemp("up"), engine="remote", DIPTYCH_REMOTE_URL=server.url) as running:
        yield running


async def run(stack, spec=SPEC, breakage=None):
    client = LiveClient(stack.url, session_cookie(stack.signed_in))
    running = asyncio.create_task(client.complete(spec))
    if breakage is not None:
        await asyncio.wait_for(client.tokens(60), 60)
        breakage()
    await asyncio.wait_for(running, 120)
    return client


def assert_whole(client):
    assert [client.ends[lane]["type"] for lane in (0, 1)] == ["lane.done"] * 2
    assert [client.text(lane) for lane in (0, 1)] == ["".join(WORDS)] * 2
    assert [client.indexes(lane) for lane in (0, 1)] == [list(range(len(WORDS)))] * 2


async def test_a_run_is_answered_and_written_down(stack):
    client = await run(stack)
    assert_whole(client)

    def written():
        with sqlite3.connect(stack.home / "diptych.sqlite3") as database:
            return database.execute("select text from playground_lane where state = 'done'").fetchall()

    async with asyncio.timeout(30):
        while len(written()) < 2:
            await asyncio.sleep(0.1)
    assert written() == [("".join(WORDS),)] * 2


async def test_a_run_outlives_its_worker(stack):
    client = await run(stack, breakage=lambda: stack.kill("worker"))
    assert_whole(client)
    started = [event for event in client.events if event["type"] == "lane.started"]
    assert {event["attempt"] for event in started} == {1, 2}


async def test_what_the_server_cannot_do_is_refused_at_the_door(stack):
    with pytest.raises(AssertionError, match=re.escape("params.typical_p")):
        await run(stack, {**SPEC, "params": {"typical_p": 0.5}})
