"""Cases take turns, and one that fails does not take the others with it."""

from itertools import count

from models_backend.bench.process import Lost
from models_backend.bench.rounds import Case, pick, play
from models_backend.bench.sample import Figures


def quiet(text: str) -> None:
    pass


def test_cases_take_turns_and_the_warming_up_is_not_counted() -> None:
    order: list[tuple[str, int, bool]] = []

    def case(name: str) -> Case:
        def turn(number: int, warm: bool) -> Figures:
            order.append((name, number, warm))
            return {"x": float(number)}

        return Case(name, turn)

    played = play([case("a"), case("b")], 2, 100, quiet)
    assert order == [("a", 0, True), ("b", 0, True), ("a", 1, False), ("b", 1, False), ("a", 2, False), ("b", 2, False)]
    assert played.rounds == 2
    assert pick(played.figures, "b") == [{"x": 1.0}, {"x": 2.0}]


def test_a_dear_case_plays_in_every_third_round() -> None:
    played = play([Case("dear", lambda number, warm: {"x": 1.0}, seldom=True)], 7, 100, quiet)
    assert list(played.figures["dear"]) == [1, 4, 7]


def test_a_case_that_fails_twice_is_left_out_with_its_reason() -> None:
    turns = count(1)

    def lost(number: int, warm: bool) -> Figures:
        raise Lost(f"turn {next(turns)}")

    played = play([Case("bad", lost), Case("good", lambda number, warm: {"x": 1.0})], 5, 100, quiet)
    assert played.left_out == {"bad": "turn 2"}
    assert len(played.figures["good"]) == 5


def test_a_case_that_failed_once_keeps_its_figures() -> None:
    def shaky(number: int, warm: bool) -> Figures:
        if warm:
            raise Lost("cold")
        return {"x": 1.0}

    played = play([Case("shaky", shaky)], 2, 100, quiet)
    assert not played.left_out
    assert len(played.figures["shaky"]) == 2


def test_no_round_begins_that_would_likely_end_too_late() -> None:
    now = [0.0]

    def slow(number: int, warm: bool) -> Figures:
        now[0] += 10
        return {"x": 1.0}

    assert play([Case("slow", slow)], 9, 45, quiet, clock=lambda: now[0]).rounds == 3


def test_one_round_is_played_however_late_it_is() -> None:
    assert play([Case("a", lambda number, warm: {"x": 1.0})], 9, -1, quiet).rounds == 1
