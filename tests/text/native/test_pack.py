"""Weights packed into whole numbers: what lies on a 4-bit grid stays, the rest moves by half a step at most."""

import numpy as np
import pytest

from models_backend.text.native.pack import Unpackable, join, pack, unpack

DICE = np.random.default_rng(1)


def on_a_grid(outputs: int, inputs: int) -> np.ndarray:
    """Weights as a GGUF of type Q4_1 holds them; every block uses the ends of its range, as quantisers see to."""
    q = DICE.integers(0, 16, (outputs, inputs // 32, 32))
    q[..., 0], q[..., 1] = 0, 15
    scale = DICE.random((outputs, inputs // 32, 1)).astype(np.float16).astype(np.float32)
    offset = DICE.standard_normal((outputs, inputs // 32, 1)).astype(np.float16).astype(np.float32)
    return (scale * q.astype(np.float32) + offset).reshape(outputs, inputs)


def test_a_four_bit_matrix_keeps_its_weights_exactly() -> None:
    matrix = on_a_grid(48, 96)
    packed = pack(matrix)
    assert packed.bits == 4 and (packed.outputs, packed.inputs) == (48, 96)
    np.testing.assert_allclose(unpack(packed), matrix, rtol=0, atol=1e-6 * np.abs(matrix).max())


def test_any_other_matrix_becomes_eight_bits_and_moves_by_half_a_step() -> None:
    matrix = DICE.standard_normal((32, 64)).astype(np.float32)
    packed = pack(matrix)
    step = np.abs(matrix.reshape(32, 2, 32)).max(-1, keepdims=True) / 127
    assert packed.bits == 8
    assert (np.abs(unpack(packed) - matrix).reshape(32, 2, 32) <= 0.51 * step + 1e-3 * step * 127).all()


def test_one_weight_off_the_grid_makes_the_matrix_eight_bits() -> None:
    matrix = on_a_grid(16, 32)
    matrix[3, 5] += 0.01
    assert pack(matrix).bits == 8


def test_blocks_of_one_value_and_of_zeros_are_kept() -> None:
    matrix = np.zeros((16, 64), np.float32)
    matrix[:, 32:] = 0.25
    np.testing.assert_array_equal(unpack(pack(matrix)), matrix)


def test_parts_lie_one_under_the_other() -> None:
    first, second = on_a_grid(16, 32), on_a_grid(32, 32)
    both = unpack(join([pack(first), pack(second)]))
    np.testing.assert_allclose(both, np.concatenate([first, second]), atol=1e-5)


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((15, 32), np.float32),
        np.zeros((16, 33), np.float32),
        np.full((16, 32), np.nan, np.float32),
        np.full((16, 32), np.inf, np.float32),
        np.full((16, 32), 1e30, np.float32),
    ],
    ids=["outputs", "inputs", "nan", "infinite", "too large"],
)
def test_what_the_kernels_cannot_hold_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(Unpackable):
        pack(matrix)


def test_parts_of_different_bits_are_refused() -> None:
    with pytest.raises(Unpackable):
        join([pack(on_a_grid(16, 32)), pack(DICE.standard_normal((16, 32)).astype(np.float32))])
