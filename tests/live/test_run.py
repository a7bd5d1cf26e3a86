"""A run through the socket, with the real bus and a real worker whose model is fake."""

from tests.conftest import BASE, TUNED


async def test_a_run_streams_all_lanes_to_their_end(worker, alice, open_page, spec, client_id):
    page = await open_page(alice)
    hello = await page.hear("hello")
    assert hello["protocol"] == 1 and hello["window"] == {"frames": 64, "bytes": 262144}
    told = await page.hear("models")
    assert {BASE, TUNED} <= {model["id"] for model in told["models"]}
    sent = client_id()
    await page.say(type="run.start", client_id=sent, spec=spec(max_tokens=20))
    accepted = await page.hear("run.accepted")
    assert accepted["client_id"] == sent
    events = await page.until_ended(accepted["run"], 2)
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "run.created"
