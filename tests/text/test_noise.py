"""The dice: uniform, independent over seeds, places and ids, and the same for all time."""

import math
from itertools import product

import pytest
import torch

from models_backend.protocol.params import BOUNDS
from models_backend.text import noise
from models_backend.text.defaults import own_seed

COUNT = 5000


def uniform(seeds: list[int], places: list[int], ids: list[int]) -> torch.Tensor:
    """The uniform numbers behind the noise of some (seed, place, id), taken together one by one."""
    keys = torch.tensor([[noise.key(seed, place)] for seed, place in zip(seeds, places, strict=True)])
    return (-(-noise.gumbel(keys, torch.tensor(ids)[:, None])[:, 0]).exp()).exp()


def along(axis: str, seed: int = 0, place: int = 0, token: int = 0) -> torch.Tensor:
    """COUNT numbers in a row along one of the three axes; `lane` is the seed of one's own dice."""
    fixed, steps = [0] * COUNT, list(range(COUNT))
    return {
        "seed": lambda: uniform([seed + n for n in steps], [place] * COUNT, [token] * COUNT),
        "place": lambda: uniform([seed] * COUNT, [place + n for n in steps], [token] * COUNT),
        "id": lambda: uniform([seed] * COUNT, [place] * COUNT, [token + n for n in steps]),
        "lane": lambda: uniform([own_seed(seed, n) for n in steps], fixed, [token] * COUNT),
    }[axis]()


@pytest.mark.parametrize("axis", ["seed", "place", "id", "lane"])
@pytest.mark.parametrize("start", [0, 10**6])
def test_noise_is_uniform_along_each_axis(axis: str, start: int) -> None:
    """Kolmogorov and Smirnov: the largest distance from the diagonal, times sqrt(n), is above 1.95 once in 1000."""
    numbers = along(axis, start, start, start % 49152).sort().values
    steps = torch.arange(COUNT, dtype=torch.float64)
    distance = torch.maximum((numbers - steps / COUNT).max(), ((steps + 1) / COUNT - numbers).max())
    assert float(distance) * math.sqrt(COUNT) < 1.95


@pytest.mark.parametrize(("axis", "lag"), list(product(["seed", "place", "id", "lane"], [1, 2, 64])))
def test_neighbours_along_each_axis_are_independent(axis: str, lag: int) -> None:
    """Pairs fall into 8 x 8 squares as often as each other: chi-square with 63 degrees of freedom, p above 0.001."""
    cells = (along(axis) * 8).long()
    counts = torch.bincount(cells[:-lag] * 8 + cells[lag:], minlength=64).double()
    expected = (COUNT - lag) / 64
    chi = ((counts - expected) ** 2 / expected).sum()
    assert float(torch.special.gammaincc(torch.tensor(31.5), chi / 2)) > 0.001


@pytest.mark.parametrize(("one", "other"), [("seed", "place"), ("seed", "id"), ("place", "id"), ("seed", "lane")])
def test_the_axes_do_not_mirror_each_other(one: str, other: str) -> None:
    first, second = along(one, 7, 11, 13), along(other, 7, 11, 13)
    shared = int((first == second).sum())
    assert shared <= 1  # where both begin
    assert abs(float(torch.corrcoef(torch.stack([first[1:], second[1:]]))[0, 1])) < 4 / math.sqrt(COUNT)


def test_dice_of_ones_own_never_fall_together() -> None:
    seeds = [0, 1, 2, 20260, int(BOUNDS["seed"][1])]
    made = [own_seed(seed, lane) for seed, lane in product(seeds, range(64))]
    assert len(set(made)) == len(made)
    assert all(0 <= seed <= BOUNDS["seed"][1] for seed in made)
    assert [own_seed(seed, 0) for seed in seeds] == seeds
    assert own_seed(42, 3) == 3745688211520815  # known for all time: an answer is gone on with after an update


def test_noise_is_known_for_all_time() -> None:
    """The first numbers of the generator. If they change, a run that is continued after an update breaks in two."""
    assert noise.key(0, 0) == 0
    assert noise.key(1, 0) != noise.key(0, 1)
    reference = noise.mix((noise.key(42, 7) + 5 * 0x9E3779B97F4A7C15) & (2**64 - 1))
    expected = -math.log(-math.log(((reference >> 12) + 0.5) * 2.0**-52))
    found = noise.gumbel(torch.tensor([[noise.key(42, 7)]]), torch.tensor([[5]]))
    assert float(found) == pytest.approx(expected, rel=1e-12)
    assert float(found) == pytest.approx(0.6143944382613401, rel=1e-12)
