"""The same law with the real weights: a second worker reads prompt and answer anew, and goes on as the first would."""

import asyncio

import pytest

from tests.live_client import LiveClient, session_cookie
from tests.stack import Stack

pytestmark = [pytest.mark.faults, pytest.mark.model, pytest.mark.timeout(280)]

BASE, TUNED = "smollm2-135m-instruct", "ft:smollm2-135m-instruct:pirate"
SPEC = {
    "prompt": {"mode": "chat", "messages": [{"role": "user", "content": "What is the sea good for? Tell me a lot."}]},
    "params": {"max_tokens": 48, "temperature": 0},
    "lanes": [{"model": BASE, "overrides": {}}, {"model": TUNED, "overrides": {}}],
}


async def answer(stack: Stack, cookie: str, *, kill_after: int | None = None) -> LiveClient:
    client = LiveClient(stack.url, cookie)
    running = asyncio.create_task(client.complete(SPEC))
    if kill_after is not None:
        await asyncio.wait_for(client.tokens(kill_after), 120)
        stack.kill("worker")
    await asyncio.wait_for(running, 200)
    return client


def test_greedy_answers_of_a_killed_worker_are_those_of_an_unbroken_run(tmp_path):
    with Stack(tmp_path, engine="torch") as stack:
        cookie = session_cookie(stack.signed_in)
        unbroken = asyncio.run(answer(stack, cookie))
        broken = asyncio.run(answer(stack, cookie, kill_after=30))
    for lane in (0, 1):
        assert (broken.ids(lane), broken.text(lane)) == (unbroken.ids(lane), unbroken.text(lane))
        assert broken.ends[lane]["type"] == "lane.done"
    assert unbroken.text(0) != unbroken.text(1) != ""
    assert max(event["attempt"] for event in broken.events if event["type"] == "lane.started") == 2
