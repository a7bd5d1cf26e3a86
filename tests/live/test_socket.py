"""The socket and its visitors: who gets in, what they may do, what hostile clients get, and that it all goes on."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator

from models_backend.protocol import log as places
from models_backend.protocol.runs import RunSpec
from playground.access import signin
from playground.bus import bus as bus_here
from playground.live import consumer as door
from playground.live import frames, visitor
from playground.models import ShareLink, User
from playground.presets import share
from playground.runs import service
from tests.conftest import BASE, TUNED, cookie_of

NOBODY = "f" * 32


@pytest.fixture
def run(models, alice, spec, client_id):
    async def begin(person=alice, text="hello"):
        return await service.start(person, client_id(), msgspec.convert(spec(text), RunSpec))

    return begin


async def refusal(page, text):
    await page.communicator.send_to(text_data=text)
    return await page.hear("error")


# who gets in


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": ""},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://testserver.evil.example"},
        {"origin": "http://testserver:8001"},
        {"origin": "http://testserver/path"},
        {"origin": "file://testserver"},
        {"origin": "http://user@testserver"},
        {"origin": "http://[testserver"},
        {"host": ""},
        {"host": "evil.example", "origin": "http://evil.example"},
        {"host": "testserver:bad", "origin": "http://other"},
    ],
)
async def test_only_a_page_of_this_server_opens_a_socket(alice, open_page, headers):
    page = await open_page(alice, headers=headers)
    assert page.accepted is False


@pytest.mark.parametrize("host", ["testserver", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:80"])
async def test_our_own_pages_open_sockets_at_any_of_our_names(alice, open_page, host):
    page = await open_page(alice, headers={"host": host, "origin": f"http://{host}"})
    assert (await page.hear("hello"))["protocol"] == 1


async def test_other_addresses_are_no_sockets(alice, open_page):
    assert (await open_page(alice, path="/nowhere")).accepted is False


@pytest.mark.parametrize("cookie", ["", "sessionid=x", "diptych_8000=", "diptych_8000=no-such-session", "\xff=;;;="])
async def test_without_a_session_the_socket_closes_and_says_why(transactional_db, open_page, cookie):
    page = await open_page(headers={"cookie": cookie})
    assert await page.closed() == door.NOT_SIGNED_IN


async def test_a_session_that_ends_ends_its_socket(alice, open_page, monkeypatch):
    monkeypatch.setattr(visitor, "CHECK_SECONDS", 0.0)
    page = await open_page(alice)
    await page.hear("hello")
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    await page.say(type="ping", t=1)
    assert await page.closed() == door.NOT_SIGNED_IN


async def test_a_silent_socket_is_closed_too_when_its_session_has_ended(alice, open_page, monkeypatch):
    monkeypatch.setattr(visitor, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(door, "CHECK_SECONDS", 0.01)
    page = await open_page(alice)
    await page.hear("hello")
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    assert await page.closed() == door.NOT_SIGNED_IN


async def test_one_person_has_a_bounded_number_of_sockets_and_others_are_not_affected(
    alice, bob, open_page, monkeypatch
):
    monkeypatch.setattr(door, "MAX_SOCKETS", 2)
    first, _ = await open_page(alice), await open_page(alice)
    assert await (await open_page(alice)).closed() == door.TOO_MANY_SOCKETS
    assert (await (await open_page(bob)).hear("hello"))["type"] == "hello"
    await first.close()
    assert (await (await open_page(alice)).hear("hello"))["type"] == "hello"


async def test_sockets_leave_nothing_behind(run, alice, open_page):
    page = await open_page(alice)
    await page.say(type="run.follow", run=(await run()).id)
    await page.hear("events")
    await page.close()
    assert door.sockets == {}
    assert bus_here().tail._listeners == {}


# hostile frames


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("hello", "bad_frame", None),
        ("[1]", "bad_frame", None),
        ('{"type":"explode"}', "bad_frame", "type"),
        ('{"type":"ping","t":NaN}', "bad_frame", None),
        ('{"type":"ping","t":"\\ud800"}', "bad_frame", None),
        ("[" * 100_000, "bad_frame", None),
        ('{"type":"ping","t":0,"x":"' + "x" * 20_000 + '"}', "bad_parameter", "x"),
        (f'{{"type":"run.follow","run":"{NOBODY}","after":-1}}', "bad_parameter", "after"),
        (f'{{"type":"run.follow","run":"{NOBODY}","after":9223372036854775808}}', "bad_parameter", "after"),
        (f'{{"type":"run.follow","run":"{NOBODY}"}}', "not_found", None),
        (f'{{"type":"run.stop","run":"{NOBODY}"}}', "not_found", None),
        (f'{{"type":"lane.stop","run":"{NOBODY}","lane":0}}', "not_found", None),
        (f'{{"type":"lane.rerun","run":"{NOBODY}","lane":0,"client_id":"{NOBODY}"}}', "not_found", None),
        ('{"type":"ack","frame":5}', "bad_parameter", "frame"),
    ],
)
async def test_a_wrong_frame_is_answered_and_the_socket_lives_on(models, alice, open_page, text, code, field):
    page = await open_page(alice)
    error = await refusal(page, text)
    assert (error["code"], error["field"]) == (code, field)
    await page.say(type="ping", t=7)
    assert (await page.hear("pong"))["t"] == 7


async def test_binary_frames_are_no_frames(alice, open_page):
    page = await open_page(alice)
    await page.communicator.send_to(bytes_data=b"\x00\xff")
    assert (await page.hear("error"))["code"] == "bad_frame"


async def test_a_frame_that_is_far_too_big_ends_the_socket(alice, open_page):
    page = await open_page(alice)
    await page.communicator.send_to(text_data=" " * (frames.MAX_FRAME + 1))
    assert await page.closed() == door.TOO_BIG


async def test_a_flood_of_messages_ends_the_socket(alice, open_page):
    page = await open_page(alice)
    for _ in range(150):
        await page.say(type="ping", t=1)
    assert await page.closed() == door.TOO_MANY_MESSAGES


async def test_an_unknown_model_is_refused_with_the_known_ones_and_the_sender_knows_which_run(
    models, alice, open_page, spec, client_id
):
    page = await open_page(alice)
    sent = client_id()
    await page.say(type="run.start", client_id=sent, spec=spec(models=("gpt-9",)))
    error = await page.hear("error")
    assert (error["code"], error["field"], error["ref"]) == (
        "bad_parameter",
        "lanes[0].model",
        {"type": "run.start", "client_id": sent},
    )
    assert BASE in error["message"] and TUNED in error["message"]


async def test_another_persons_run_is_not_there(run, bob, open_page):
    other = (await run()).id
    page = await open_page(bob)
    sent = [
        {"type": "run.follow", "run": other},
        {"type": "run.stop", "run": other},
        {"type": "lane.stop", "run": other, "lane": 0},
        {"type": "lane.rerun", "run": other, "lane": 0, "client_id": NOBODY},
    ]
    answers = [await refusal(page, json.dumps(frame)) for frame in sent]
    missing = [await refusal(page, json.dumps({**frame, "run": NOBODY})) for frame in sent]
    assert [(each["code"], each["message"]) for each in answers] == [(e["code"], e["message"]) for e in missing]
    assert {each["code"] for each in answers} == {"not_found"}


async def test_one_socket_follows_a_bounded_number_of_runs(run, alice, open_page, monkeypatch):
    monkeypatch.setattr(door, "MAX_FOLLOWED", 1)
    page = await open_page(alice)
    first, second = await run(), await run()
    await page.say(type="run.follow", run=first.id)
    await page.hear("events")
    await page.say(type="run.follow", run=second.id)
    assert (await page.hear("error"))["code"] == "busy"
    await page.say(type="run.unfollow", run=first.id)
    await page.say(type="run.follow", run=second.id)
    assert (await page.hear("events"))["run"] == second.id


# doing things


async def test_starting_twice_gives_one_run(models, bus, alice, open_page, spec, client_id):
    page, sent = await open_page(alice), client_id()
    ids = set()
    for _ in range(3):
        await page.say(type="run.start", client_id=sent, spec=spec())
        ids.add((await page.hear("run.accepted"))["run"])
    assert len(ids) == 1 and bus.xlen(places.queue_key(BASE)) == 1
    await page.say(type="run.start", client_id=sent, spec=spec("another"))
    assert (await page.hear("error"))["code"] == "conflict"


async def test_stop_works_while_queued_from_any_tab_and_twice(run, alice, open_page):
    begun = await run()
    for _ in range(2):
        page = await open_page(alice)
        await page.say(type="lane.stop", run=begun.id, lane=0)
        assert await page.hear("stop.accepted") == {"type": "stop.accepted", "run": begun.id, "lane": 0}
        await page.say(type="run.stop", run=begun.id)
        assert await page.hear("stop.accepted") == {"type": "stop.accepted", "run": begun.id, "lane": None}
    await page.say(type="run.follow", run=begun.id)
    events = await page.until_ended(begun.id, 2)
    assert [event["type"] for event in events] == ["run.created", "lane.stopped", "lane.stopped"]


async def test_a_lane_is_repeated_and_another_added_in_the_same_run(worker, alice, open_page, spec, client_id):
    page = await open_page(alice)
    await page.say(type="run.start", client_id=client_id(), spec=spec(max_tokens=8))
    run = (await page.hear("run.accepted"))["run"]
    await page.until_ended(run, 2)
    sent = client_id()
    await page.say(type="lane.rerun", run=run, lane=1, client_id=sent)
    accepted = await page.hear("lane.accepted")
    assert accepted == {"type": "lane.accepted", "run": run, "lane": 2, "replaces": 1, "client_id": sent}
    await page.say(
        type="lane.rerun",
        run=run,
        lane=None,
        client_id=client_id(),
        spec={"model": BASE, "overrides": {"max_tokens": 3}},
        params={"temperature": 0},
    )
    assert (await page.hear("lane.accepted"))["lane"] == 3
    events = await page.until_ended(run, 4)
    used = next(event["used"] for event in events if event["type"] == "lane.started" and event["lane"] == 3)
    assert (used["temperature"], used["max_tokens"]) == (0, 3)


async def test_a_new_tab_in_the_middle_of_a_run_gets_all_of_it_and_goes_on(worker, alice, open_page, spec, client_id):
    first = await open_page(alice)
    await first.say(type="run.start", client_id=client_id(), spec=spec("[[long]]", max_tokens=300))
    run = (await first.hear("run.accepted"))["run"]
    while len(first.events.get(run, ())) < 50:
        await first.hear("events")
    await first.close()
    second = await open_page(alice)
    await second.say(type="run.follow", run=run, after=first.events[run][-1]["n"])
    rest = await second.until_ended(run, 2)
    third = await open_page(alice)
    await third.say(type="run.follow", run=run, after=0)
    assert first.events[run] + rest == await third.until_ended(run, 2)


async def test_a_client_ahead_of_the_log_is_told_to_forget(run, alice, open_page):
    begun = await run()
    page = await open_page(alice)
    await page.say(type="run.follow", run=begun.id, after=1000)
    assert await page.hear("reset") == {"type": "reset", "run": begun.id}
    assert (await page.hear("events"))["events"][0]["n"] == 1


# flow control


async def _fill(bus, run, count, size=40):
    pipe = bus.pipeline()
    seq = int(bus.hget(places.run_key(run.id), "seq"))
    for number in range(seq + 1, seq + count + 1):
        token = {"type": "lane.token", "lane": 0, "index": number, "ids": [1], "text": "x" * size, "at": 1.0}
        pipe.xadd(places.log_key(run.id), {"e": json.dumps(token)}, id=f"{number}-0")
    pipe.hset(places.run_key(run.id), "seq", seq + count)
    pipe.execute()


async def _events_frames(page):
    """All `events` frames that come by themselves, without acknowledging any."""
    found = []
    while not await page.communicator.receive_nothing(timeout=0.3, interval=0.05):
        frame = await page.frame()
        if frame["type"] == "events":
            found.append(frame)
    return found


async def test_a_client_that_acknowledges_nothing_gets_64_frames_and_no_more(run, bus, alice, open_page):
    begun = await run()
    page = await open_page(alice)
    await page.say(type="run.follow", run=begun.id)
    sent = []
    for _ in range(80):
        await _fill(bus, begun, 1)
        if not await page.communicator.receive_nothing(timeout=0.05, interval=0.005):
            sent += [frame for frame in [await page.frame()] if frame["type"] == "events"]
    sent += await _events_frames(page)
    assert [frame["frame"] for frame in sent] == list(range(1, 65))
    await page.say(type="ping", t=3)  # everything else goes on
    assert (await page.hear("pong"))["t"] == 3


async def test_a_client_that_stops_reading_costs_a_bounded_amount_and_catches_up_without_loss(
    run, bus, alice, open_page
):
    begun = await run()
    page = await open_page(alice)
    await _fill(bus, begun, 5000, size=400)
    await page.say(type="run.follow", run=begun.id)
    unread = await _events_frames(page)
    on_their_way = sum(len(json.dumps(frame)) for frame in unread)
    assert len(unread) <= 64 and on_their_way < 2 * 256 * 1024
    numbers = [event["n"] for frame in unread for event in frame["events"]]
    await page.say(type="ack", frame=unread[-1]["frame"])
    while numbers[-1] < 5001:
        frame = await page.frame()
        if frame["type"] == "events":
            numbers += [event["n"] for event in frame["events"]]
            await page.say(type="ack", frame=frame["frame"])
    assert numbers == list(range(1, 5002))


async def test_a_closed_window_of_one_socket_holds_up_no_other(run, bus, alice, open_page):
    begun = await run()
    slow, quick = await open_page(alice), await open_page(alice)
    await slow.say(type="run.follow", run=begun.id)
    await quick.say(type="run.follow", run=begun.id)
    await _fill(bus, begun, 3000, size=400)
    while not quick.events.get(begun.id) or quick.events[begun.id][-1]["n"] < 3001:
        await quick.hear("events")
    assert [event["n"] for event in quick.events[begun.id]] == list(range(1, 3002))


# share links


async def _shared(person, run, level):
    return await sync_to_async(share.share)(person, "run", run.id, level)


async def test_a_guest_with_a_link_reads_that_run_and_nothing_else(run, alice, open_page, client_id, spec):
    shown, hidden = await run(), await run()
    link = await _shared(alice, shown, "anyone")
    page = await open_page(path=f"/live?share={link.token}")
    assert (await page.hear("hello"))["guest"] is True
    await page.say(type="run.follow", run=shown.id)
    assert (await page.hear("events"))["events"][0]["run"] == shown.id
    for frame in (
        {"type": "run.follow", "run": hidden.id},
        {"type": "run.start", "client_id": client_id(), "spec": spec()},
        {"type": "run.stop", "run": shown.id},
        {"type": "lane.stop", "run": shown.id, "lane": 0},
        {"type": "lane.rerun", "run": shown.id, "lane": 0, "client_id": client_id()},
    ):
        assert (await refusal(page, json.dumps(frame)))["code"] == "read_only"


@pytest.mark.parametrize(
    ("level", "who", "opens"),
    [
        ("private", None, False),
        ("private", "bob", False),
        ("private", "alice", True),
        ("signed_in", None, False),
        ("signed_in", "bob", True),
        ("anyone", None, True),
        ("anyone", "bob", True),
    ],
)
async def test_the_level_of_a_link_decides_who_gets_in(run, alice, bob, open_page, level, who, opens):
    link = await _shared(alice, await run(), level)
    page = await open_page({"alice": alice, "bob": bob, None: None}[who], path=f"/live?share={link.token}")
    if opens:
        assert (await page.hear("hello"))["guest"] is True
    else:
        assert await page.closed() == door.NO_LINK


async def test_a_link_that_is_withdrawn_closes_the_sockets_it_opened(run, alice, open_page, monkeypatch):
    monkeypatch.setattr(visitor, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(door, "CHECK_SECONDS", 0.01)
    shown = await run()
    link = await _shared(alice, shown, "anyone")
    page = await open_page(path=f"/live?share={link.token}")
    await page.hear("hello")
    await ShareLink.objects.all().adelete()
    assert await page.closed() == door.NO_LINK


@pytest.mark.parametrize("token", ["", "x", "%00", "../..", "x" * 5000])
async def test_tokens_that_are_none_open_nothing(transactional_db, open_page, token):
    assert await (await open_page(path=f"/live?share={token}")).closed() in (door.NO_LINK, door.NOT_SIGNED_IN)


# trouble


async def test_a_bus_that_is_down_is_told_once_and_the_run_goes_on_when_it_is_back(
    run, bus, alice, open_page, monkeypatch
):
    monkeypatch.setattr(door, "RETRY_SECONDS", 0.01)
    begun = await run()
    page = await open_page(alice)
    await page.say(type="run.follow", run=begun.id)
    await page.hear("events")
    path = Path(bus.connection_pool.connection_kwargs["path"])
    path.rename(path.with_suffix(".away"))
    bus.client_kill_filter(_type="normal", skipme=True)
    assert (await page.hear("error"))["code"] == "bus_down"
    await page.say(type="run.stop", run=begun.id)
    assert (await page.hear("error"))["ref"] == {"type": "run.stop", "run": begun.id}
    path.with_suffix(".away").rename(path)
    await _fill(bus, begun, 3)
    assert [event["n"] for event in (await page.hear("events"))["events"]] == [2, 3, 4]


async def test_a_fault_of_ours_is_answered_without_its_details(models, alice, open_page, spec, client_id, monkeypatch):
    async def broken(*_):
        raise RuntimeError("secret /path")

    monkeypatch.setattr(service, "start", broken)
    page = await open_page(alice)
    await page.say(type="run.start", client_id=client_id(), spec=spec())
    error = await page.hear("error")
    assert error["code"] == "error" and "secret" not in error["message"]
    await page.say(type="ping", t=1)
    await page.hear("pong")


async def test_the_models_are_told_on_connecting_and_when_they_change(models, bus, alice, open_page):
    page = await open_page(alice)
    before = await page.hear("models")
    bus.hdel(places.MODELS, TUNED)
    after = await page.hear("models")
    assert {m["id"] for m in before["models"]} - {m["id"] for m in after["models"]} == {TUNED}


def test_a_session_is_found_by_its_key_alone(alice):
    key = cookie_of(alice).partition("=")[2]
    assert signin.person_of_session(key) == alice
    assert [signin.person_of_session(bad) for bad in (None, "", "x", "\x00", key[:-1])] == [None] * 5


async def test_a_socket_can_be_opened_without_asking_anything_of_the_bus(alice, settings, tmp_path):
    """A page whose bus is down still gets its hello, and may then hear why nothing runs."""
    from playground import bus as room
    from playground.asgi import application

    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    await room.close()
    cookie = await sync_to_async(cookie_of)(alice)
    headers = [(b"host", b"testserver"), (b"origin", b"http://testserver"), (b"cookie", cookie.encode())]
    socket = WebsocketCommunicator(application, "/live", headers=headers)
    assert (await socket.connect())[0]
    assert json.loads(await socket.receive_from(timeout=10))["type"] == "hello"
    await socket.disconnect()
    await room.close()
    await asyncio.sleep(0)
