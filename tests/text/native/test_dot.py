"""Every way to add up products of bytes that this processor has gives the same bits."""

from typing import Any

import numpy as np
import pytest
from numba import njit

from models_backend.text.native import dot
from models_backend.text.native.pack import Packed, pack, unpack

from .test_pack import on_a_grid

DICE = np.random.default_rng(2)
NEEDS = {
    "vnni512": ("avx512vnni", "avx512bw"),
    "vnni256": ("avx512vnni", "avx512vl"),
    "avx2": ("avx2",),
    "plain": (),
}


def products(packed: Packed, small: np.ndarray, scales: np.ndarray, how: str) -> np.ndarray:
    tile: Any = dot.make_tile(len(small), packed.bits, how)

    @njit
    def run(w: int, s: int, x: int, x_by: int, d: int, d_by: int, y: int, y_by: int, blocks: int, groups: int) -> None:
        for group in range(groups):
            tile(w + group * blocks * size, s + group * blocks * 64, x, x_by, d, d_by, y + group * 64, y_by, blocks)

    groups, blocks, size = packed.weights.shape
    lined = np.zeros(packed.weights.size + 64, np.uint8)
    at = -lined.ctypes.data % 64
    lined[at : at + packed.weights.size] = packed.weights.ravel()
    halves = np.zeros(packed.scales.nbytes + 64, np.uint8)
    there = -halves.ctypes.data % 64
    halves[there : there + packed.scales.nbytes] = packed.scales.ravel().view(np.uint8)
    out = np.zeros((len(small), packed.outputs), np.float32)
    run(
        lined.ctypes.data + at, halves.ctypes.data + there, small.ctypes.data, small.shape[1],
        scales.ctypes.data, scales.shape[1] * 8, out.ctypes.data, packed.outputs * 4, blocks, groups,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("bits", [4, 8])
def test_all_instructions_give_the_same_bits_and_the_product(bits: int) -> None:
    matrix = on_a_grid(32, 96) if bits == 4 else DICE.standard_normal((32, 96)).astype(np.float32)
    packed = pack(matrix)
    small = DICE.integers(-127, 128, (3, 96)).astype(np.int8)
    small[0] = 127  # the largest sums that can be
    by = DICE.random((3, 3)).astype(np.float32)
    scales = np.stack([by, by * small.reshape(3, 3, 32).sum(-1)], -1).astype(np.float32)
    values = (small.reshape(3, 3, 32) * by[..., None]).reshape(3, 96)
    have = dot.features()
    ways = [how for how, needed in NEEDS.items() if all(have.get(one) for one in needed)]
    found = {how: products(packed, small, scales, how) for how in ways}
    expected = values.astype(np.float64) @ unpack(packed).astype(np.float64).T
    for how in ways:
        np.testing.assert_array_equal(found[how], found["plain"], err_msg=how)
    np.testing.assert_allclose(found["plain"], expected, atol=1e-5 * np.abs(expected).max())


def test_the_way_is_chosen_by_what_the_processor_has() -> None:
    assert dot.pick_dot({"avx512vnni": True, "avx512bw": True, "avx512vl": True, "avx2": True}) == "vnni512"
    assert dot.pick_dot({"avxvnni": True, "avx2": True}) == "vnni256"
    assert dot.pick_dot({"avx2": True}) == "avx2"
    assert dot.pick_dot({}) == "plain"
