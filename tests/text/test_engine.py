"""The loop itself, over the fake model: who gets which events, in which order, and that nobody's trouble spreads."""

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from models_backend.config import Settings
from models_backend.protocol.events import Error, LaneDone, LaneFailed, LaneQueued, LaneStarted, LaneStopped, LaneToken
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Chat, Completion, Message, Prompt
from models_backend.text import fake
from models_backend.text.contract import Backend, EngineError, Feed, Outcome, OutOfMemory, Request
from models_backend.text.engine import Engine
from models_backend.text.open import open_engines

from .tiny import Heard, answer, listen

HELLO = Chat((Message("user", "hello"),))


def ask(
    prompt: Prompt = HELLO,
    lane: int = 0,
    model: str = fake.BASE,
    run: str = "r",
    resume: tuple[int, ...] = (),
    **params: object,
) -> Request:
    return Request(run, lane, model, prompt, Params(**params), seed=1, attempt=2 if resume else 1, resume=resume)  # type: ignore[arg-type]


def engine(slots: int = 8) -> Engine:
    ready = open_engines(Settings(engine="fake", slots=slots, _env_file=None), "w1")[fake.BASE]
    ready.load()
    return ready


def over(runner: object, slots: int = 8) -> Engine:
    """An engine whose runner is given."""
    backend = Backend(fake.FakeDialect(), runner)  # type: ignore[arg-type]
    ready = Engine(fake.INFOS, lambda note: backend, "w1", slots)
    ready.load()
    return ready


def test_a_lane_begins_streams_and_ends() -> None:
    [heard] = answer(engine(), ask())
    kinds = [type(event) for event in heard.events]
    assert kinds == [LaneStarted, *[LaneToken] * (len(kinds) - 2), LaneDone]
    tokens = [event for event in heard.events if isinstance(event, LaneToken)]
    assert [event.index for event in tokens] == list(range(len(tokens)))
    assert heard.started.worker == "w1"
    assert heard.end.figures.prompt_tokens == heard.started.prompt_tokens == len(fake.FakeDialect().encode(HELLO))
    assert heard.end.figures.completion_tokens == len(heard.ids)
    assert heard.text == fake.FakeDialect().decode(heard.ids)


def test_models_are_known_before_they_are_loaded() -> None:
    cold = open_engines(Settings(engine="fake", _env_file=None), "w1")[fake.BASE]
    assert [(info.id, info.loaded) for info in cold.models()] == [(fake.BASE, False), (fake.SHOUT, False)]
    with pytest.raises(RuntimeError, match="load"):
        cold.step()
    cold.load()
    assert [(info.id, info.loaded) for info in cold.models()] == [(fake.BASE, True), (fake.SHOUT, True)]


def test_the_tuned_model_answers_otherwise_than_its_base() -> None:
    base, tuned = answer(engine(), ask(lane=0), ask(lane=1, model=fake.SHOUT))
    assert base.text != tuned.text
    assert tuned.started.base == fake.BASE
    assert (base.started.sha256, tuned.started.sha256) == (fake.INFOS[0].sha256, fake.INFOS[1].sha256)


def test_lanes_submitted_together_give_their_first_token_in_the_same_step() -> None:
    ready = engine()
    ready.submit(ask(lane=0), ask(lane=1, model=fake.SHOUT))
    first: list[set[int]] = []
    while ready.busy:
        first.append({event.lane for _, event in ready.step() if isinstance(event, LaneToken) and event.index == 0})
    assert [lanes for lanes in first if lanes] == [{0, 1}]


def test_what_was_used_is_told_and_sent_values_win_over_the_models_own() -> None:
    [first] = answer(engine(), ask(max_tokens=2))
    assert first.started.used.temperature == 0.8  # the fake model's own default
    assert (first.started.used.top_p, first.started.used.seed) == (1.0, 1)
    [second] = answer(engine(), ask(temperature=0.0, seed=9, top_k=3, stop=("x",), max_tokens=2))
    used = second.started.used
    assert (used.temperature, used.seed, used.top_k, used.stop, used.max_tokens) == (0.0, 9, 3, ("x",), 2)


def test_max_tokens_is_clipped_to_what_fits_and_the_clip_is_told() -> None:
    prompt = Completion("[[long]]" + "x" * (fake.CONTEXT - 18))
    [heard] = answer(engine(), ask(prompt, max_tokens=500))
    assert heard.started.used.max_tokens == 10
    assert (len(heard.ids), heard.end.finish) == (10, "length")  # type: ignore[union-attr]


def test_a_prompt_longer_than_the_context_fails_with_the_numbers() -> None:
    [heard] = answer(engine(), ask(Completion("x" * fake.CONTEXT)))
    assert isinstance(heard.end, LaneFailed)
    assert heard.end.error.code == "context_length_exceeded"
    assert f"{fake.CONTEXT} tokens" in heard.end.error.message
    assert f"{fake.CONTEXT - 1} tokens" in heard.end.error.message


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ask(model="nobody"), "model_not_found"),
        (ask(Completion("")), "empty_prompt"),
        (ask(Completion("[[fail]]")), "engine_error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lane_that_cannot_be_served_fails_alone(request_: Request, code: str) -> None:
    beside = ask(lane=1)
    failed, good = answer(engine(), request_, beside)
    assert isinstance(failed.end, LaneFailed)
    assert failed.end.error.code == code
    assert good.text == answer(engine(), beside)[0].text


def test_stop_takes_effect_at_the_next_step_and_keeps_the_text() -> None:
    ready, heard = engine(), {}
    ready.submit(ask(Completion("[[long]]"), 0), ask(Completion("[[long]]"), 1))
    for _ in range(5):
        listen(heard, ready.step())
    before = list(heard["r", 0].ids)
    ready.stop("r", 0)
    listen(heard, ready.step())
    assert isinstance(heard["r", 0].end, LaneStopped)
    assert heard["r", 0].ids == before
    assert heard["r", 0].text == fake.FakeDialect().decode(before)
    assert heard["r", 0].end.figures.completion_tokens == 5
    assert len(heard["r", 1].ids) == 6
    assert ready.running == 1


def test_a_stop_lets_go_of_text_that_was_held_back() -> None:
    whole = answer(engine(), ask())[0].text
    ready, heard = engine(), {}
    ready.submit(ask(stop=(whole[:40] + "never",)))
    for _ in range(3):
        listen(heard, ready.step())
    assert heard["r", 0].text == ""
    ready.stop("r", 0)
    listen(heard, ready.step())
    assert heard["r", 0].text == fake.FakeDialect().decode(heard["r", 0].ids) != ""
    assert [event.ids for event in heard["r", 0].events[-2:-1]] == [()]  # type: ignore[union-attr]


def test_stopping_a_lane_that_is_not_there_does_nothing() -> None:
    ready = engine()
    ready.stop("nobody", 3)
    assert ready.busy
    assert ready.step() == []
    assert not ready.busy


def test_a_lane_that_waits_can_be_stopped() -> None:
    ready, heard = engine(slots=1), {}
    ready.submit(ask(lane=0), ask(lane=1))
    listen(heard, ready.step())
    ready.stop("r", 1)
    listen(heard, ready.step())
    assert [type(event) for event in heard["r", 1].events] == [LaneQueued, LaneStopped]


def test_rows_beyond_the_slots_wait_in_the_order_they_came() -> None:
    ready = engine(slots=2)
    ready.submit(*(ask(Completion("[[long]]"), lane, max_tokens=3 + lane) for lane in range(5)))
    begun, most = [], 0
    while ready.busy:
        begun += [event.lane for _, event in ready.step() if isinstance(event, LaneStarted)]
        most = max(most, ready.running)
        assert ready.running + ready.waiting <= 5
    assert begun == [0, 1, 2, 3, 4]
    assert most == 2


@pytest.mark.parametrize("stop", [(), ("🇳🇴 rem",), ("every", "b")], ids=str)
def test_going_on_at_any_token_gives_the_unbroken_answer(stop: tuple[str, ...]) -> None:
    [whole] = answer(engine(), ask(stop=stop))
    shown = [event.text for event in whole.events if isinstance(event, LaneToken)]
    for cut in range(1, len(whole.ids) + 1):
        [rest] = answer(engine(), ask(stop=stop, resume=tuple(whole.ids[:cut])))
        assert whole.ids[:cut] + rest.ids == whole.ids
        assert "".join(shown[:cut]) + rest.text == whole.text
        assert [event.index for event in rest.events if isinstance(event, LaneToken)][:1] in ([cut], [])
        assert rest.end.finish == whole.end.finish  # type: ignore[union-attr]
        assert rest.end.figures.completion_tokens == len(whole.ids)
        assert rest.started.attempt == 2


def test_a_continued_lane_claims_no_speed() -> None:
    [whole] = answer(engine(), ask())
    [rest] = answer(engine(), ask(resume=tuple(whole.ids[:5])))
    assert whole.end.figures.decode_ms is not None
    assert rest.end.figures.decode_ms is None
    assert rest.end.figures.first_ms is not None


def test_a_later_attempt_of_a_lane_replaces_the_earlier_one() -> None:
    ready, heard = engine(slots=1), {}
    ready.submit(ask(Completion("[[long]]")))
    ready.step()
    ready.submit(Request("r", 0, fake.BASE, HELLO, Params(), 1, attempt=2))
    while ready.busy:
        listen(heard, ready.step())
    assert heard["r", 0].started.attempt == 2
    assert heard["r", 0].text == answer(engine(), ask())[0].text


class Moody(fake.FakeRunner):
    """Fails whole passes: when a given prompt is among them, or when there are too many rows."""

    def __init__(self, poison: str = "", most: int = 99) -> None:
        super().__init__(8)
        self.poison = fake.FakeDialect().encode(Completion(poison)) if poison else None
        self.most = most

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        if len(feeds) > self.most:
            raise OutOfMemory("too many rows")
        if self.poison and any(feed.draw and list(feed.draw.prompt) == self.poison for feed in feeds):
            raise ValueError("poisoned")
        return super().forward(feeds)


def test_when_a_pass_breaks_only_the_row_that_breaks_it_fails() -> None:
    ready = over(Moody(poison="poison"))
    lanes = [ask(lane=0), ask(Completion("poison"), 1), ask(lane=2, model=fake.SHOUT)]
    heard = answer(ready, *lanes)
    assert [type(one.end) for one in heard] == [LaneDone, LaneFailed, LaneDone]
    assert [heard[0].text, heard[2].text] == [one.text for one in answer(engine(), lanes[0], lanes[2])]
    assert not ready.busy


def test_a_row_whose_ids_cannot_be_written_fails_alone() -> None:
    class Speechless(fake.FakeDialect):
        def decode(self, ids: Sequence[int]) -> str:
            text = super().decode(ids)
            if "GARDEN" in text:
                raise ValueError("no such word")
            return text

    backend = Backend(Speechless(), fake.FakeRunner(8))
    ready = Engine(fake.INFOS, lambda note: backend, "w1", 8)
    ready.load()
    good, bad = ask(lane=0), ask(lane=1, model=fake.SHOUT)
    assert "GARDEN" in answer(engine(), ask(model=fake.SHOUT))[0].text
    heard = answer(ready, good, bad)
    assert [type(one.end) for one in heard] == [LaneDone, LaneFailed]
    assert heard[0].text == answer(engine(), good)[0].text


def test_when_memory_runs_out_the_newest_rows_wait_and_lose_nothing() -> None:
    lanes = [ask(lane=lane, model=model) for lane, model in enumerate([fake.BASE, fake.SHOUT] * 2)]
    heard = answer(over(Moody(most=2)), *lanes)
    assert [type(one.end) for one in heard] == [LaneDone] * 4
    assert [one.text for one in heard] == [one.text for one in answer(engine(), *lanes)]
    assert [sum(isinstance(event, LaneStarted) for event in one.events) for one in heard] == [1] * 4


def test_a_row_that_gives_way_in_the_middle_goes_on_with_the_same_ids() -> None:
    runner = Moody()
    ready, heard = over(runner), {}
    lanes = [ask(lane=0), ask(lane=1, model=fake.SHOUT)]
    ready.submit(*lanes)
    for _ in range(6):
        listen(heard, ready.step())
    runner.most = 1
    while ready.busy:
        listen(heard, ready.step())
    assert (ready.running, ready.waiting) == (0, 0)
    whole = answer(engine(), *lanes)
    for lane in (0, 1):
        assert heard["r", lane].ids == whole[lane].ids
        assert isinstance(heard["r", lane].end, LaneDone)


def test_a_row_that_is_alone_when_memory_runs_out_fails_and_says_so() -> None:
    [heard] = answer(over(Moody(most=0)), ask())
    assert isinstance(heard.end, LaneFailed)
    assert heard.end.error.code == "out_of_memory"


def test_lanes_that_wait_are_told_their_place_and_each_change_of_it() -> None:
    heard = answer(engine(slots=1), *(ask(run=run, max_tokens=2) for run in "abc"))
    told = [[event.position for event in one.events if isinstance(event, LaneQueued)] for one in heard]
    assert told == [[], [1], [2, 1]]
    for one in heard:
        kinds = [type(event) for event in one.events]
        assert LaneQueued not in kinds[kinds.index(LaneStarted) :]


def test_lanes_of_one_model_start_in_the_same_step_and_count_what_was_not_computed() -> None:
    ready = engine()
    ready.submit(*(ask(lane=lane, max_tokens=2) for lane in range(3)))
    first = [event.lane for _, event in ready.step() if isinstance(event, LaneToken)]
    assert sorted(first) == [0, 1, 2]
    ended = [event for _, event in ready.step() if isinstance(event, LaneDone)]
    size = len(fake.FakeDialect().encode(HELLO))
    assert [event.figures.cached_tokens for event in ended] == [0, size - 1, size - 1]
    assert (ready.cache_hits, ready.cache_asked) == (2 * (size - 1), 3 * size)


def test_a_request_that_can_never_fit_is_refused_at_once() -> None:
    runner = fake.FakeRunner(8)
    runner.tokens = 50
    big, small = answer(over(runner), ask(lane=0, max_tokens=49), ask(lane=1, max_tokens=5))
    assert isinstance(big.end, LaneFailed)
    assert (big.end.error.code, len(big.events)) == ("memory_exceeded", 1)
    assert isinstance(small.end, LaneDone)


def test_a_copy_that_fails_costs_nothing_but_time() -> None:
    class Paper(fake.FakeRunner):
        def copy(self, source: int, target: int, length: int) -> None:
            raise OutOfMemory("no paper left")

    lanes = [ask(lane=lane) for lane in range(3)]
    heard = answer(over(Paper(8)), *lanes)
    assert [one.text for one in heard] == [one.text for one in answer(engine(), *lanes)]
    assert [one.end.figures.cached_tokens for one in heard] == [0, 0, 0]


def test_a_model_that_was_refused_says_why_and_the_base_serves() -> None:
    refusal = EngineError("proof_failed", "It does not differ from its base.")
    backend = Backend(fake.FakeDialect(), fake.FakeRunner(8), refused={fake.SHOUT: refusal})
    ready = Engine(fake.INFOS, lambda note: backend, "w1", 8)
    ready.load()
    base, tuned = answer(ready, ask(lane=0), ask(lane=1, model=fake.SHOUT))
    assert isinstance(base.end, LaneDone)
    assert isinstance(tuned.end, LaneFailed)
    assert tuned.end.error == Error("proof_failed", "It does not differ from its base.")
    assert [info.loaded for info in ready.models()] == [True, False]


def test_times_are_those_of_the_clocks_given() -> None:
    now = iter(range(1000))
    backend = Backend(fake.FakeDialect(), fake.FakeRunner(8))
    ready = Engine(fake.INFOS, lambda note: backend, "w1", 8, clock=lambda: 5.0, steady=lambda: float(next(now)))
    ready.load()
    [heard] = answer(ready, ask(max_tokens=4))  # claimed at 0 s, tokens at 1, 2, 3 and 4 s
    assert (heard.end.figures.first_ms, heard.end.figures.decode_ms) == (1000, 3000)
    assert {event.at for event in heard.events} == {5.0}


def alone(prompt: str) -> "subprocess.CompletedProcess[str]":
    """Answer `prompt` in a process of its own, which must not import a model library."""
    code = f"""
import sys
from models_backend.config import Settings
from models_backend.text.contract import Request
from models_backend.text.open import open_engines
from models_backend.protocol.params import Params
from models_backend.protocol.runs import Completion
[ready] = open_engines(Settings(engine="fake"), "w").values()
ready.load()
ready.submit(Request("r", 0, "fake-base", Completion({prompt!r}), Params(), 1))
while ready.busy:
    ready.step()
sys.exit(bool({{"torch", "transformers", "peft"}} & set(sys.modules)))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_fake_engine_runs_without_a_model_library() -> None:
    assert alone("hello").returncode == 0


def test_the_crash_mark_ends_the_process() -> None:
    assert alone("hello [[crash]]").returncode == -signal.SIGABRT


def test_answers_end_whole_at_a_character_even_when_cut_by_max_tokens() -> None:
    for most in range(1, 30):
        heard: Heard = answer(engine(), ask(max_tokens=most))[0]
        assert heard.text == fake.FakeDialect().decode(heard.ids)
        assert "\ufffd" not in heard.text[:-1]
