"""Following a log: what is there, what comes, and nothing twice or never, however slow the reader is."""

import asyncio
from contextlib import aclosing

import pytest
import redis.asyncio

from models_backend.protocol.log import FIELD, log_key
from playground.bus import bus as bus_here
from playground.bus import log
from playground.bus.tail import KEPT
from playground.errors import BusDown

RUN = "a" * 32


def write(bus, numbers, run=RUN):
    for number in numbers:
        bus.xadd(log_key(run), {FIELD: f'{{"type":"x","i":{number}}}'}, id=f"{number}-0")


async def numbers_until(run, after, last):
    seen = []
    async with aclosing(log.follow(run, after)) as batches:
        async for batch in batches:
            seen += [number for number, _ in batch]
            if seen[-1] >= last:
                return seen
    raise AssertionError("the log ended")


async def test_a_follower_reads_what_is_there_and_then_what_comes(bus):
    write(bus, range(1, 4))
    following = asyncio.create_task(numbers_until(RUN, 0, 6))
    await asyncio.sleep(0.05)
    write(bus, range(4, 7))
    assert await asyncio.wait_for(following, 5) == [1, 2, 3, 4, 5, 6]


async def test_a_follower_begins_after_the_number_it_names(bus):
    write(bus, range(1, 6))
    assert await numbers_until(RUN, 3, 5) == [4, 5]


async def test_a_log_that_does_not_exist_yet_is_waited_for(bus):
    following = asyncio.create_task(numbers_until(RUN, 0, 1))
    await asyncio.sleep(0.05)
    write(bus, [1])
    assert await asyncio.wait_for(following, 5) == [1]


async def test_a_log_followed_while_another_is_read_is_heard_at_once(bus):
    first = asyncio.create_task(numbers_until("1" * 32, 0, 1))
    await asyncio.sleep(0.05)  # the read is blocked now, and knows of one log
    second = asyncio.create_task(numbers_until("2" * 32, 0, 1))
    await asyncio.sleep(0.05)
    write(bus, [1], run="2" * 32)
    assert await asyncio.wait_for(second, 1) == [1]  # sooner than the read ends by itself
    write(bus, [1], run="1" * 32)
    assert await asyncio.wait_for(first, 1) == [1]


async def test_two_followers_of_one_log_hear_the_same(bus):
    followers = [asyncio.create_task(numbers_until(RUN, after, 50)) for after in (0, 10)]
    for number in range(1, 51):
        write(bus, [number])
        await asyncio.sleep(0)
    assert await asyncio.gather(*followers) == [list(range(1, 51)), list(range(11, 51))]


async def test_a_reader_that_falls_behind_is_not_buffered_for_and_misses_nothing(bus):
    last = KEPT * 5
    seen = []
    async with aclosing(log.follow(RUN, 0)) as batches:
        write(bus, [1])
        seen += [number for number, _ in await anext(batches)]
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.05)
        write(bus, range(2, last + 1))
        await asyncio.sleep(0.2)  # the tail hears all of it while nobody takes
        (listener,) = bus_here().tail._listeners[log_key(RUN)]
        assert len(listener._entries) <= KEPT
        seen += [number for number, _ in await waiting]
        while seen[-1] < last:
            seen += [number for number, _ in await anext(batches)]
    assert seen == list(range(1, last + 1))


async def test_nobody_who_listens_leaves_anything_behind(bus):
    write(bus, [1])
    await numbers_until(RUN, 0, 1)
    tail = bus_here().tail
    assert (tail._listeners, tail._seen) == ({}, {})


async def test_a_bus_that_goes_away_is_told_to_every_follower(bus, settings):
    followers = [asyncio.create_task(numbers_until(RUN, 0, 1)) for _ in range(2)]
    await asyncio.sleep(0.05)
    await bus_here().tail.aclose()
    for follower in followers:
        with pytest.raises(BusDown):
            await asyncio.wait_for(follower, 5)


async def test_a_bus_that_is_not_there_is_bus_down(settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    from playground import bus as room

    await room.close()
    with pytest.raises(BusDown):
        await log.read(RUN, 0)
    with pytest.raises(BusDown):
        await numbers_until(RUN, 0, 1)
    await room.close()


async def test_a_log_longer_than_a_page_is_read_whole(bus):
    client = redis.asyncio.Redis(unix_socket_path=bus.connection_pool.connection_kwargs["path"])
    pipe = client.pipeline()
    for number in range(1, log.PAGE * 2 + 8):
        pipe.xadd(log_key(RUN), {FIELD: "{}"}, id=f"{number}-0")
    await pipe.execute()
    await client.aclose()
    assert [number for number, _ in await log.whole(RUN)] == list(range(1, log.PAGE * 2 + 8))
    assert await log.newest(RUN) == log.PAGE * 2 + 7


async def test_a_crowd_that_comes_back_at_once_waits_its_turn_and_is_served(bus):
    runs = [f"{number:032x}" for number in range(300)]
    for run in runs:
        write(bus, [1], run=run)
    assert await asyncio.gather(*(numbers_until(run, 0, 1) for run in runs)) == [[1]] * 300
    assert bus.info("clients")["connected_clients"] <= 40
