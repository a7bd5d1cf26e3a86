"""Runs: started once, followed from any number, stopped, repeated, mended. The bus is real; no worker answers here
unless a test asks for one."""

import asyncio
import time
from contextlib import aclosing
from datetime import timedelta

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from models_backend.protocol import log as places
from models_backend.protocol.events import Figures, LaneDone, LaneToken, decode, encode
from models_backend.protocol.params import Params
from models_backend.protocol.runs import MAX_PROMPT_CHARS, MAX_TAKES, LaneSpec, RunSpec, Variant
from playground.errors import BadParameter, Busy, Conflict, Expired, NotFound, NoWorker
from playground.models import Lane, Run
from playground.runs import replay, service
from playground.runs.service import MEND_SECONDS
from tests.conftest import BASE, OTHER, PLAIN, TUNED


def parse(spec):
    return msgspec.convert(spec, RunSpec)


async def log_of(run, count, after=0, known=None):
    """The first `count` steps' entries of a followed run."""
    entries = []
    async with aclosing(service.follow(run, after, known)) as steps:
        async for step in steps:
            entries += [step] if isinstance(step, service.Reset) else step
            if len(entries) >= count:
                break
    return entries


async def test_a_run_is_written_down_and_queued(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec("Hello  there\nfriend")))
    saved = await Run.objects.aget(pk=run.pk)
    assert (saved.title, saved.spec) == ("Hello there friend", parse(spec("Hello  there\nfriend")))
    assert [lane.queue for lane in run.lanes.all()] == [BASE, BASE]
    assert bus.xlen(places.queue_key(BASE)) == 1


async def test_the_same_client_id_is_the_same_run_and_runs_once(models, bus, alice, spec, client_id):
    sent = client_id()
    runs = await asyncio.gather(*(service.start(alice, sent, parse(spec())) for _ in range(5)))
    assert len({run.id for run in runs}) == 1
    assert await Run.objects.acount() == 1
    assert bus.xlen(places.queue_key(BASE)) == 1


async def test_whose_run_it_is_is_said_by_the_server(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    await service.add_lane(alice, run.id, client_id(), replaces=0)
    owners = [entry[b"owner"] for _, entry in bus.xrange(places.queue_key(BASE))]
    assert owners == [str(alice.pk).encode()] * 2


async def test_a_person_whose_runs_fill_half_of_the_queue_is_refused_and_others_are_not(
    models, bus, alice, bob, charlie, spec, client_id, settings
):
    settings.DIPTYCH_QUEUE = 4
    sent = client_id()
    first = await service.start(alice, sent, parse(spec()))
    await service.start(alice, client_id(), parse(spec()))
    with pytest.raises(Busy, match="2 of your runs are waiting for fake-base"):
        await service.start(alice, client_id(), parse(spec()))
    with pytest.raises(Busy, match="of your runs"):
        await service.add_lane(alice, first.id, client_id(), replaces=0)
    assert await Run.objects.acount() == 2
    assert (await service.start(alice, sent, parse(spec()))).id == first.id, "sent again it is no further run"
    for person in (bob, charlie):
        await service.start(person, client_id(), parse(spec()))
    with pytest.raises(Busy, match="4 runs are waiting for fake-base"):
        await service.start(bob, client_id(), parse(spec()))


async def test_the_same_client_id_for_another_run_is_a_conflict(models, alice, spec, client_id):
    sent = client_id()
    await service.start(alice, sent, parse(spec("one")))
    with pytest.raises(Conflict):
        await service.start(alice, sent, parse(spec("two")))


async def test_the_same_client_id_of_two_people_is_two_runs(models, alice, bob, spec, client_id):
    sent = client_id()
    first, second = [await service.start(person, sent, parse(spec())) for person in (alice, bob)]
    assert first.id != second.id


async def test_a_run_whose_bus_entry_was_lost_is_put_there_by_whoever_asks_next(models, bus, alice, spec, client_id):
    sent = client_id()
    run = await service.start(alice, sent, parse(spec()))
    bus.delete(places.run_key(run.id), places.log_key(run.id), places.queue_key(BASE))
    again = await service.start(alice, sent, parse(spec()))
    assert (again.id, bus.xlen(places.queue_key(BASE))) == (run.id, 1)
    bus.delete(places.run_key(run.id), places.log_key(run.id), places.queue_key(BASE))
    (first,) = await log_of(run, 1)
    assert decode(first[1]).run == run.id
    assert bus.xlen(places.queue_key(BASE)) == 1


async def test_an_unknown_model_is_refused_with_the_names_of_the_known(models, alice, spec, client_id):
    with pytest.raises(BadParameter) as caught:
        await service.start(alice, client_id(), parse(spec(models=(BASE, "gpt-9"))))
    assert caught.value.field == "lanes[1].model"
    assert "'gpt-9'" in caught.value.message and TUNED in caught.value.message


async def test_without_any_worker_ever_the_refusal_says_so(bus, alice, spec, client_id):
    with pytest.raises(NoWorker):
        await service.start(alice, client_id(), parse(spec()))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": {"mode": "completion", "text": " \n"}}, "prompt"),
        ({"prompt": {"mode": "chat", "messages": [{"role": "user", "content": ""}]}}, "prompt"),
        (
            {
                "prompt": {
                    "mode": "chat",
                    "messages": [{"role": "user", "content": "x" * (MAX_PROMPT_CHARS // 2 + 1)}] * 2,
                }
            },
            "prompt",
        ),
        ({"lanes": [{"model": BASE, "overrides": {"temperature": 3}}]}, "lanes[0].overrides.temperature"),
        ({"lanes": [{"model": BASE}, {"model": BASE, "overrides": {"heat": 1}}]}, "lanes[1].overrides.heat"),
        ({"lanes": [{"model": BASE, "overrides": {"stop": [["a"]]}}]}, "lanes[0].overrides.stop[0]"),
        ({"lanes": [{"model": PLAIN}]}, "lanes[0].model"),
    ],
)
async def test_a_bad_run_is_refused_by_the_name_of_its_field(models, alice, spec, client_id, change, field):
    with pytest.raises(BadParameter) as caught:
        await service.start(alice, client_id(), parse({**spec(), **change}))
    assert caught.value.field == field
    assert await Run.objects.acount() == 0


async def test_a_client_id_that_is_none_is_refused(models, alice, spec):
    with pytest.raises(BadParameter, match="client_id"):
        await service.start(alice, "../../etc", parse(spec()))


async def test_a_run_is_followed_from_any_number(worker, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec(max_tokens=6, models=(BASE,))))
    whole = []
    async with aclosing(service.follow(run, 0)) as steps:
        async for step in steps:
            whole += step
            if replay.replay(whole).lanes[0].state == "done":
                break
    for after in range(len(whole)):
        assert await log_of(run, len(whole) - after, after) == whole[after:]


async def test_a_reader_that_is_ahead_of_the_log_is_told_to_begin_anew(models, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    reset, first = await log_of(run, 2, after=99)
    assert isinstance(reset, service.Reset) and first[0] == 1


async def test_a_reader_whose_log_was_written_anew_is_told_to_begin_anew(models, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    await service.stop_run(alice, run.id)
    before = await log_of(run, 3)
    assert await log_of(run, 1, after=2, known=before[1][1]) == before[2:]
    reset, first, *_ = await log_of(run, 2, after=2, known=b"another event, which a bus that was killed has lost")
    assert isinstance(reset, service.Reset) and first == before[0]


async def test_stopping_works_while_queued_and_twice_is_the_same(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    for _ in range(2):
        await service.stop_run(alice, run.id)
    state = replay.replay(await log_of(run, 3))
    assert [lane.state for lane in state.lanes] == ["stopped", "stopped"]
    assert bus.xlen(places.log_key(run.id)) == 3


async def test_one_lane_is_stopped_alone_and_keeps_its_text(worker, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec("[[long]]", max_tokens=5000)))
    state = replay.RunState(lanes=[])
    told = False
    async with aclosing(service.follow(run, 0)) as steps:
        async for step in steps:
            quiet, loud = replay.replay(step, state).lanes
            if len(quiet.text) > 10 and not told:
                told = True
                await service.stop_lane(alice, run.id, 0)
            if quiet.state == "stopped" and loud.tokens > quiet.tokens:
                break
    await service.stop_run(alice, run.id)
    assert len(state.lanes[0].text) > 10
    assert state.lanes[1].state == "running"


async def test_a_lane_that_is_not_there_cannot_be_stopped(models, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    with pytest.raises(BadParameter, match="no lane 2"):
        await service.stop_lane(alice, run.id, 2)


async def test_another_persons_run_does_not_exist(models, alice, bob, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    for act in (
        service.find(bob, run.id),
        service.stop_run(bob, run.id),
        service.stop_lane(bob, run.id, 0),
        service.add_lane(bob, run.id, client_id(), replaces=0),
        service.find(None, run.id),
    ):
        with pytest.raises(NotFound):
            await act


async def test_a_lane_is_repeated_as_it_was(models, bus, alice, spec, client_id):
    sent = {**spec(), "lanes": [{"model": TUNED, "overrides": {"seed": 5}}]}
    run = await service.start(alice, client_id(), parse(sent))
    added = await service.add_lane(alice, run.id, client_id(), replaces=0)
    assert (added.index, added.replaces, added.spec) == (1, 0, LaneSpec(TUNED, {"seed": 5}))
    event = decode((await log_of(run, 2))[1][1])
    assert (event.lane, event.replaces, event.spec) == (1, 0, added.spec)
    assert [entry[b"lanes"] for _, entry in bus.xrange(places.queue_key(BASE))] == [b"0", b"1"]


async def test_a_lane_is_added_with_the_parameters_of_the_page_as_they_are_now(models, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec(temperature=0.7, max_tokens=50)))
    now = Params(temperature=0.7, top_p=0.5)
    added = await service.add_lane(
        alice, run.id, client_id(), lane=LaneSpec(OTHER, {"seed": 3, "top_p": None}), params=now
    )
    assert run.spec.lane_params(added.spec) == Params(temperature=0.7, seed=3)
    assert (added.queue, added.spec.overrides) == (OTHER, {"max_tokens": None, "seed": 3})


async def test_a_branch_keeps_its_beginning_strength_and_shadows_under_other_parameters(models, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec(models=(TUNED,), temperature=0.7)))
    branch = LaneSpec(TUNED, {}, strength=0.5, prefix=(7, 8), shadows=(Variant(BASE),))
    added = await service.add_lane(
        alice, run.id, client_id(), replaces=0, lane=branch, params=Params(temperature=0.7, top_logprobs=5)
    )
    assert added.spec == LaneSpec(TUNED, {"top_logprobs": 5}, 0.5, (7, 8), (Variant(BASE),))


async def test_a_lane_is_added_once_for_each_client_id_and_in_order_under_a_crowd(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec(models=(BASE,))))
    sent = [client_id() for _ in range(4)] * 2
    added = await asyncio.gather(*(service.add_lane(alice, run.id, one, replaces=0) for one in sent))
    assert sorted({lane.index for lane in added}) == [1, 2, 3, 4]
    assert bus.hget(places.run_key(run.id), "lanes") == b"5"
    log = [decode(raw) for _, raw in await log_of(run, 5)]
    assert [event.lane for event in log[1:]] == [1, 2, 3, 4]


async def test_a_lane_whose_bus_entry_was_lost_is_added_by_whoever_asks_next(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec(models=(BASE,))))
    now = timezone.now()
    await Lane.objects.acreate(
        run=run,
        index=1,
        client_id=client_id(),
        replaces=0,
        queue=BASE,
        spec_json='{"model":"fake-base"}',
        created_at=now,
    )
    again = await service.find(alice, run.id)
    await service.stop_run(alice, run.id)
    added = await service.add_lane(alice, again.id, client_id(), replaces=0)
    assert added.index == 2
    assert bus.hget(places.run_key(run.id), "lanes") == b"3"


async def test_a_run_holds_a_bounded_number_of_lanes(models, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec(models=(BASE,))))
    now = timezone.now()
    await Lane.objects.abulk_create(
        Lane(run=run, index=index, queue=BASE, spec_json='{"model":"fake-base"}', created_at=now)
        for index in range(1, MAX_TAKES)
    )
    with pytest.raises(BadParameter, match=str(MAX_TAKES)):
        await service.add_lane(alice, run.id, client_id(), replaces=0)


async def _age(run, seconds):
    await Run.objects.filter(pk=run.pk).aupdate(created_at=timezone.now() - timedelta(seconds=seconds))
    return await sync_to_async(lambda: Run.objects.prefetch_related("lanes").get(pk=run.pk))()


async def test_an_expired_run_still_opens_with_the_same_text_and_figures(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    done = LaneDone(0, "length", Figures(3, 2, 1.5, 2.5), time.time())
    await Lane.objects.filter(run=run, index=0).aupdate(
        state="done", text="né\x00\ue0ff0 🙂", ids_json="[5,6]", ended_json=encode(done).decode()
    )
    bus.flushall()
    run = await _age(run, MEND_SECONDS + 1)
    state = replay.replay(await log_of(run, 2))
    assert (state.lanes[0].text, state.lanes[0].figures, state.lanes[0].finish) == ("", done.figures, "length")
    started = (
        '{"type":"lane.started","lane":0,"attempt":1,"worker":"w","model":"fake-base","base":"fake-base","sha256":null,'
        '"device":"cpu","prompt_tokens":3,"at":1,"used":{"temperature":1,"top_p":1,"max_tokens":2,"top_k":0,"min_p":0,'
        '"repetition_penalty":1,"frequency_penalty":0,"presence_penalty":0,"stop":[],"seed":4}}'
    )
    await Lane.objects.filter(run=run, index=0).aupdate(started_json=started)
    entries = await log_of(run, 2)
    state = replay.replay(entries)
    assert (state.lanes[0].text, state.lanes[0].used.seed) == ("né\x00\ue0ff0 🙂", 4)
    assert replay.token_ids(entries, 0) == (5, 6)
    assert (state.lanes[1].state, state.lanes[1].error.code) == ("failed", "lost")


async def test_nothing_can_be_added_to_an_expired_run(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    bus.delete(places.run_key(run.id), places.log_key(run.id))
    await _age(run, MEND_SECONDS + 1)
    with pytest.raises(Expired):
        await service.add_lane(alice, run.id, client_id(), replaces=0)
    assert await Lane.objects.filter(run=run).acount() == 2


async def test_a_reader_of_an_expired_run_is_told_to_begin_anew(models, bus, alice, spec, client_id):
    run = await service.start(alice, client_id(), parse(spec()))
    bus.flushall()
    run = await _age(run, MEND_SECONDS + 1)
    entries = await log_of(run, 2, after=1)
    assert isinstance(entries[0], service.Reset) and entries[1][0] == 1


def test_token_events_keep_their_order_of_fields():
    """Entries pass to pages as they are, with the number put in front: they must begin as an object does."""
    assert encode(LaneToken(0, 0, (1,), "a", 1.0)).startswith(b'{"type":"lane.token"')
