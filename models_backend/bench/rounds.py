"""Cases take turns, round after round, so that a neighbour who comes and goes disturbs them all alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from models_backend.bench.process import Lost
from models_backend.bench.sample import Figures, TooShort

# (number of the round, warming up) -> figures. Raises Lost or TooShort.
Play = Callable[[int, bool], Figures]


@dataclass(frozen=True, slots=True)
class Case:
    """`seldom`: dear, so it is not warmed up and plays in every third round only."""

    name: str
    play: Play
    seldom: bool = False


@dataclass(slots=True)
class Played:
    """Figures by case and round; why a case stopped; how many rounds there were."""

    figures: dict[str, dict[int, Figures]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    rounds: int = 0


def play(
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Played:
    """Warm all cases up, then play up to `rounds`; none begins that would likely end after `seconds` (one always is).

    A case that fails twice is left out from then on, with its last reason.
    """
    played = Played()
    failed: dict[str, int] = {}
    began = clock()
    longest = 0.0
    for number in range(rounds + 1):
        start = clock()
        if number > 1 and start - began + longest > seconds:
            break
        say(f"Round {number} of {rounds}" if number else "Warming up")
        for case in cases:
            if failed.get(case.name, 0) > 1 or (case.seldom and number % 3 != 1):
                continue
            try:
                figures = case.play(number, number == 0)
            except (Lost, TooShort) as error:
                failed[case.name] = failed.get(case.name, 0) + 1
                played.left_out[case.name] = str(error)
            else:
                if number:
                    played.figures.setdefault(case.name, {})[number] = figures
        if number:
            played.rounds = number
            longest = max(longest, clock() - start)
    for name in set(played.left_out) & set(played.figures):
        del played.left_out[name]  # it failed now and then, but there are figures
    return played


def pick(figures: Mapping[str, Mapping[int, Figures]], case: str) -> list[Figures]:
    """A case's figures in the order of the rounds."""
    return [figures[case][number] for number in sorted(figures[case])]
