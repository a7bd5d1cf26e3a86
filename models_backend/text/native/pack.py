"""Weights as the kernels read them: whole numbers of 4 or 8 bits, with a scale and an offset for each 32 of an output.

weight = scale * q + offset, scale and offset in float16. Outputs lie in groups of 16, so that one load brings the same
four inputs of all 16. A matrix whose weights lie on a 4-bit grid already (a GGUF of type Q4_0 or Q4_1) keeps it,
exactly; every other becomes 8 bits.
"""

from dataclasses import dataclass

import numpy as np

from .dot import BLOCK, LANES

_EXACT = 1e-6  # of the largest weight: what float32 arithmetic may have added to a grid of float16 numbers


class Unpackable(Exception):
    """A matrix whose shape the kernels do not take."""


@dataclass(frozen=True, slots=True)
class Packed:
    """`weights` [groups, blocks, 64 * loads] uint8; `scales` [groups, blocks, 2, 16] float16: scale, offset."""

    weights: np.ndarray
    scales: np.ndarray
    bits: int

    @property
    def outputs(self) -> int:
        return int(self.weights.shape[0]) * LANES

    @property
    def inputs(self) -> int:
        return int(self.weights.shape[1]) * BLOCK


def pack(matrix: np.ndarray, least: int = 4) -> Packed:
    """Pack a float32 matrix [outputs, inputs] in at `least` so many bits. Raises Unpackable."""
    outputs, inputs = matrix.shape
    if outputs % LANES or inputs % BLOCK:
        raise Unpackable(f"A matrix of {outputs} x {inputs} does not fill groups of {LANES} x {BLOCK}.")
    if not np.isfinite(matrix).all():
        raise Unpackable("The weights are not all finite numbers.")
    blocks = np.ascontiguousarray(matrix, dtype=np.float32).reshape(outputs, -1, BLOCK)
    for bits in (4, 8) if least == 4 else (8,):
        q, scale, offset = _quantise(blocks, bits)
        if bits == 8 or _is_exact(blocks, q, scale, offset):
            break
    return Packed(_interleave(q, bits), _stand_side_by_side(scale, offset), bits)


def unpack(packed: Packed) -> np.ndarray:
    """The float32 matrix [outputs, inputs] that `packed` stands for."""
    groups, blocks, _ = packed.weights.shape
    words = packed.weights.reshape(groups, blocks, -1, LANES, 4)
    if packed.bits == 4:
        words = np.stack([words & 15, words >> 4], 3).reshape(groups, blocks, -1, LANES, 4)
    q = words.transpose(0, 3, 1, 2, 4).reshape(groups, LANES, blocks, BLOCK).astype(np.float32)
    scales = packed.scales.astype(np.float32).transpose(0, 3, 1, 2)  # groups, 16, blocks, 2
    return (scales[..., :1] * q + scales[..., 1:]).reshape(groups * LANES, blocks * BLOCK)


def join(parts: list[Packed]) -> Packed:
    """Matrices that share their inputs, one under the other. Raises Unpackable if their bits differ."""
    if len({part.bits for part in parts}) > 1:
        raise Unpackable("matrices of different bits cannot be one")
    return Packed(
        np.concatenate([part.weights for part in parts]), np.concatenate([part.scales for part in parts]), parts[0].bits
    )


def _quantise(blocks: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q uint8, scale and offset float16. 4 bits reach from the least to the greatest, 8 bits equally far both ways."""
    if bits == 4:
        low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
        scale, offset = _half((high - low) / 15), _half(low)
    else:
        scale = _half(np.abs(blocks).max(-1, keepdims=True) / 127)
        offset = _half(scale.astype(np.float32) * -128)
    by = scale.astype(np.float32)
    q = np.rint((blocks - offset.astype(np.float32)) / np.where(by > 0, by, 1))
    return np.clip(q, 0, 2**bits - 1).astype(np.uint8), scale, offset


def _is_exact(blocks: np.ndarray, q: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> bool:
    again = scale.astype(np.float32) * q + offset.astype(np.float32)
    return bool(np.abs(again - blocks).max() <= _EXACT * np.abs(blocks).max())


def _half(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise Unpackable("The weights are too large for float16 scales.")
    return halves


def _interleave(q: np.ndarray, bits: int) -> np.ndarray:
    outputs, blocks, _ = q.shape
    groups = outputs // LANES
    fours = q.reshape(groups, LANES, blocks, 8, 4).transpose(0, 2, 3, 1, 4)  # groups, blocks, eight fours, 16, 4
    if bits == 4:
        pairs = fours.reshape(groups, blocks, 4, 2, LANES, 4)
        fours = pairs[:, :, :, 0] | (pairs[:, :, :, 1] << 4)
    return np.ascontiguousarray(fours).reshape(groups, blocks, -1)


def _stand_side_by_side(scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    both = np.concatenate([scale, offset], -1)  # outputs, blocks, 2
    outputs, blocks, _ = both.shape
    return np.ascontiguousarray(both.reshape(outputs // LANES, LANES, blocks, 2).transpose(0, 2, 3, 1))
