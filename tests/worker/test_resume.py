"""From a claim to work."""

from models_backend.protocol.events import Figures, LaneAdded, LaneFailed, LaneStarted, LaneStopped, LaneToken
from models_backend.protocol.params import Params, Used
from models_backend.protocol.runs import Completion, LaneSpec, RunSpec
from models_backend.worker.bus import Claim
from models_backend.worker.entry import Entry
from models_backend.worker.resume import plan

RUN = "0123456789abcdef" * 2
SPEC = RunSpec(Completion("Once"), (LaneSpec("m"), LaneSpec("ft:m:x", {"temperature": 0.5})), Params(temperature=1.0))
USED = Used(1.0, 1.0, 256, 0, 0.0, 1.0, 0.0, 0.0, (), 7)


def claim(**changes) -> Claim:
    facts = {"attempt": 1, "failures": 0, "spec": SPEC, "ended": set(), "stopped": set(), "events": []}
    return Claim(**{**facts, **changes})


def entry(part: str = "0,1") -> Entry:
    return Entry("diptych:queue:m", "1-0", RUN, part)


def started(lane: int) -> LaneStarted:
    return LaneStarted(lane, 1, "w", "m", "m", None, "cpu", 5, USED, 0)


def test_each_lane_gets_its_own_parameters_and_all_get_the_same_seed():
    first, second = plan(entry(), claim(), 0).requests
    assert (first.params.temperature, second.params.temperature) == (1.0, 0.5)
    assert first.seed == second.seed == int(RUN[:8], 16)


def test_a_second_attempt_goes_on_after_the_tokens_in_the_log():
    events = [started(0), LaneToken(0, 0, (5,), "a", 0), LaneToken(1, 0, (9,), "z", 0), LaneToken(0, 1, (6,), "b", 0)]
    first, second = plan(entry(), claim(attempt=2, failures=1, events=events), 0).requests
    assert (first.resume, second.resume) == ((5, 6), (9,))
    assert first.attempt == 2


def test_a_lane_that_has_ended_is_not_answered_again():
    requests = plan(entry(), claim(ended={0}), 0).requests
    assert [request.lane for request in requests] == [1]


def test_a_lane_stopped_while_nobody_computed_it_ends_with_the_figures_of_its_log():
    events = [started(1), LaneToken(1, 0, (5, 6), "ab", 0)]
    todo = plan(entry(), claim(stopped={1}, events=events), 42)
    assert todo.events == [LaneStopped(1, Figures(prompt_tokens=5, completion_tokens=2), 42)]
    assert [request.lane for request in todo.requests] == [0]


def test_a_part_that_killed_two_workers_is_failed_and_not_tried_a_third_time():
    todo = plan(entry(), claim(attempt=3, failures=2), 0)
    assert todo.requests == []
    assert [(type(event), event.lane, event.error.code) for event in todo.events] == [
        (LaneFailed, 0, "worker_crashed"),
        (LaneFailed, 1, "worker_crashed"),
    ]


def test_a_repeated_lane_is_answered_as_it_was_added():
    again = LaneSpec("ft:m:x", {"temperature": None, "max_tokens": 3})
    (request,) = plan(entry("2"), claim(events=[LaneAdded(2, again, 1, 0)]), 0).requests
    assert (request.model, request.params) == ("ft:m:x", Params(max_tokens=3))


def test_parameters_out_of_bounds_fail_their_lane_alone():
    spec = RunSpec(Completion("x"), (LaneSpec("m", {"temperature": 9}), LaneSpec("m")))
    todo = plan(entry(), claim(spec=spec), 0)
    assert [event.error.code for event in todo.events] == ["invalid_value"]
    assert "temperature" in todo.events[0].error.message
    assert [request.lane for request in todo.requests] == [1]


def test_an_answer_without_ids_goes_on_after_its_text_and_count():
    events = [started(0), LaneToken(0, 2, (), "a b", 0), LaneToken(0, 5, (), " c d e", 0)]
    first, second = plan(entry(), claim(attempt=2, failures=1, events=events), 0).requests
    assert (first.resume, first.resume_text, first.resume_tokens) == ((), "a b c d e", 5)
    assert (second.resume_text, second.resume_tokens) == ("", 0)
