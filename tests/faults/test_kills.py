"""Any process may be killed in the middle of a run; the run ends complete, and as it would have ended."""

import asyncio
import json
import subprocess

import pytest

from tests.live_client import LiveClient, session_cookie
from tests.stack import Stack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

TOKENS = 100
SPEC = {
    "prompt": {"mode": "completion", "text": "Tell me of the harbour. [[long]]"},
    "params": {"max_tokens": TOKENS, "seed": 7, "temperature": 0},
    "lanes": [{"model": "fake-base", "overrides": {}}, {"model": "ft:fake-base:shout", "overrides": {}}],
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with Stack(tmp_path_factory.mktemp("faults"), delay=30) as running:
        yield running


@pytest.fixture(scope="module")
def cookie(stack):
    return session_cookie(stack.signed_in)


async def run(stack, cookie, breakage=None) -> LiveClient:
    client = LiveClient(stack.url, cookie)
    running = asyncio.create_task(client.complete(SPEC))
    if breakage is not None:
        await asyncio.wait_for(client.tokens(40), 60)
        breakage()
    await asyncio.wait_for(running, 120)
    return client


@pytest.fixture(scope="module")
def unbroken(stack, cookie) -> list[str]:
    client = asyncio.run(run(stack, cookie))
    texts = [client.text(0), client.text(1)]
    assert all(texts) and texts[0] != texts[1]
    return texts


def assert_whole(client: LiveClient, texts: list[str]) -> None:
    assert [client.ends[lane]["type"] for lane in (0, 1)] == ["lane.done", "lane.done"]
    assert [client.text(0), client.text(1)] == texts
    assert [client.indexes(lane) for lane in (0, 1)] == [list(range(TOKENS))] * 2
    numbers = [event["n"] for event in client.events]
    assert numbers == list(range(1, len(numbers) + 1)), "no event came twice and none is missing"


async def test_a_run_outlives_its_worker(stack, cookie, unbroken):
    client = await run(stack, cookie, lambda: stack.kill("worker"))
    assert_whole(client, unbroken)
    attempts = [event["attempt"] for event in client.events if event["type"] == "lane.started"]
    assert sorted(attempts) == [1, 1, 2, 2]
    assert client.breaks == 0, "the page's socket never noticed"


async def test_a_run_outlives_the_web_server(stack, cookie, unbroken):
    client = await run(stack, cookie, lambda: stack.kill("web"))
    assert_whole(client, unbroken)
    assert client.breaks >= 1
    assert [event["attempt"] for event in client.events if event["type"] == "lane.started"] == [1, 1]


async def test_a_run_outlives_the_bus(stack, cookie, unbroken):
    client = await run(stack, cookie, lambda: stack.kill("bus"))
    assert_whole(client, unbroken)


async def test_what_was_recorded_is_what_was_shown(stack, cookie, unbroken):
    stack.wait_ready()
    client = await run(stack, cookie, lambda: stack.kill("recorder"))
    assert_whole(client, unbroken)
    query = (
        "import json\nfrom playground.models import Lane\n"
        f"print(json.dumps(list(Lane.objects.filter(run_id={client.run!r}).order_by('index')"
        ".values_list('state', 'text'))))"
    )
    for _ in range(100):
        recorded = json.loads(
            subprocess.run(stack.manage("shell", "--no-imports", "-c", query), env=stack.env, cwd=stack.root,
                           capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        )  # fmt: skip
        if [state for state, _ in recorded] == ["done", "done"]:
            break
        await asyncio.sleep(0.3)
    assert recorded == [["done", text] for text in unbroken]


async def test_a_prompt_that_kills_its_worker_is_failed_and_others_are_answered(stack, cookie, unbroken):
    stack.wait_ready()
    poison = {**SPEC, "prompt": {"mode": "completion", "text": "[[crash]]"}, "lanes": SPEC["lanes"][:1]}
    victim = LiveClient(stack.url, cookie)
    await asyncio.wait_for(victim.complete(poison), 120)
    assert victim.ends[0]["type"] == "lane.failed"
    assert victim.ends[0]["error"]["code"] == "worker_crashed"
    assert_whole(await run(stack, cookie), unbroken)
