"""What happens to a row between the products, element by element."""

from typing import Any

import numpy as np
from numba import carray, njit

from .dot import BLOCK, LANES, address, float_bits, half_to_float
from .fields import BITS, BLOCKS, EMBEDDING, PART, RANK, A, B, S, W
from .records import FAST, Model, Room, Rows


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def embed(model: Model, rows: Rows, room: Room, row: int) -> None:
    """room.state[row] = the token's vector, read out of the packed matrix, and its adapter's delta."""
    matrix, token = model.matrices[len(model.matrices) - 1, EMBEDDING], rows.tokens[row]
    group, lane = token // LANES, token % LANES
    blocks, bits = matrix[BLOCKS], matrix[BITS]
    weights = matrix[W] + group * blocks * (BLOCK * LANES // 8) * bits
    scales = carray(
        address(model.blob.ctypes.data + matrix[S] + group * blocks * 4 * LANES), (blocks, 2, LANES), np.uint16
    )
    for block in range(blocks):
        scale, offset = half_to_float(scales[block, 0, lane]), half_to_float(scales[block, 1, lane])
        for i in range(BLOCK):
            four, j = i // 4, i % 4
            if bits == 8:
                q = model.blob[weights + block * 512 + four * 64 + lane * 4 + j]
            else:
                both = model.blob[weights + block * 256 + (four // 2) * 64 + lane * 4 + j]
                q = both >> 4 if four % 2 else both & 15
            room.state[row, block * BLOCK + i] = scale * np.float32(q) + offset
    adapter = rows.adapters[row]
    if adapter >= 0:
        table = room.adapters[adapter, len(model.matrices) - 1, EMBEDDING]
        rank, hidden = table[RANK], room.state.shape[1]
        if rank:
            down = carray(address(table[A] + 2 * token * rank), (rank,), np.uint16)
            up = carray(address(table[PART + B]), (rank, hidden), np.uint16)
            for r in range(rank):
                u = half_to_float(down[r]) * rows.strengths[row]
                for i in range(hidden):
                    room.state[row, i] += u * half_to_float(up[r, i])


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def norm(model: Model, room: Room, source: int, row: int, weight: int, width: int) -> None:
    """room.normed[row] = RMS norm of room.state[source]."""
    x, out, weights = room.state[source], room.normed[row], model.floats[weight : weight + width]
    square = np.float32(0)
    for i in range(width):
        square += x[i] * x[i]
    by = np.float32(1) / np.sqrt(square / np.float32(width) + np.float32(model.epsilon))
    for i in range(width):
        out[i] = weights[i] * (x[i] * by)


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def gate(room: Room, row: int, inner: int) -> None:
    """room.normed[row] = silu(gate) * up."""
    gates, ups, out = room.wide[row, :inner], room.wide[row, inner : 2 * inner], room.normed[row]
    for i in range(inner):
        out[i] = gates[i] / (np.float32(1) + exp(-gates[i])) * ups[i]


@njit(nogil=True, fastmath=FAST, error_model="numpy", inline="always")
def exp(x: Any) -> Any:
    """e^x to about 2 units in the last place, in operations that run lane by lane (Cephes' expf)."""
    x = max(min(x, np.float32(88)), np.float32(-87))
    whole = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
    x -= whole * np.float32(0.693359375)
    x += whole * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + np.float32(1)
    return y * float_bits(np.int32((np.int32(whole) + 127) << 23))
