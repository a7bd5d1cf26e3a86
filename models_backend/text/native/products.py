"""Products of a packed matrix with rows, and what the rows' adapters add to them."""

import numpy as np
from numba import carray, njit

from .dot import BLOCK, LANES, TILE, add_low_rank, address, bits_of, float_bits, make_low, make_tile
from .fields import AT, BIAS, BITS, BLOCKS, COUNT, FIELDS, FROM, GAIN, GROUPS, OF, PART, RANK, TO, A, B, S, W
from .records import FAST, Model, Room, Rows
from .sharing import done, take, wait

_low, _half_low = make_low(LANES), make_low(LANES // 2)
# One for each number of rows and bits, by name: compiled code can call no table of them.
_f1, _f2, _f3, _f4 = (make_tile(rows, 4) for rows in (1, 2, 3, 4))
_e1, _e2, _e3, _e4 = (make_tile(rows, 8) for rows in (1, 2, 3, 4))


@njit(nogil=True, error_model="numpy")
def multiply(
    model: Model,
    rows: Rows,
    room: Room,
    layer: int,
    site: int,
    out: np.ndarray,
    add: bool,
    region: int,
    threads: int,
    wanted: bool,
) -> None:
    """out (+)= product of the rows in room.small with a matrix, and what their adapters add to it.

    `wanted`: these are not all rows of the pass, but those that want logits.
    """
    matrix = model.matrices[layer, site]
    groups, count = matrix[GROUPS], len(rows.wanted) if wanted else len(rows.tokens)
    step = max(1, -(-groups // (4 * threads))) if threads > 1 else groups
    pieces = -(-groups // step)
    held = np.empty((TILE, LANES), np.float32)
    while True:
        piece = take(room, region, pieces)
        if piece < 0:
            break
        for group in range(piece * step, min(groups, (piece + 1) * step)):
            for first in range(0, count, TILE):
                some = min(TILE, count - first)
                tile(model, room, matrix, group, first, some, held)
                for i in range(some):
                    row = first + i
                    adapter = rows.adapters[rows.wanted[row] if wanted else row]
                    if adapter >= 0 and room.adapters[adapter, layer, site, PART + GAIN]:
                        regain(room, adapter, layer, site, group, held, i)
                    target = out[row, group * LANES : (group + 1) * LANES]
                    if matrix[BIAS] >= 0:
                        bias = model.floats[matrix[BIAS] + group * LANES : matrix[BIAS] + (group + 1) * LANES]
                        for lane in range(LANES):
                            held[i, lane] += bias[lane]
                    if add:
                        for lane in range(LANES):
                            target[lane] += held[i, lane]
                    else:
                        for lane in range(LANES):
                            target[lane] = held[i, lane]
        for row in range(count):
            adapter = rows.adapters[rows.wanted[row] if wanted else row]
            if adapter >= 0:
                add_delta(room, adapter, layer, site, row, piece * step, min(groups, (piece + 1) * step), out)
        done(room, region)
    wait(room, region, pieces)


@njit(nogil=True, error_model="numpy")
def tile(model: Model, room: Room, matrix: np.ndarray, group: int, first: int, some: int, held: np.ndarray) -> None:
    blocks, bits = matrix[BLOCKS], matrix[BITS]
    weights = model.blob.ctypes.data + matrix[W] + group * blocks * (BLOCK * LANES // 8) * bits
    scales = model.blob.ctypes.data + matrix[S] + group * blocks * (4 * LANES)
    width = room.small.shape[1]
    x = room.small.ctypes.data + first * width
    d_by = room.scales.shape[1] * 8
    d = room.scales.ctypes.data + first * d_by
    y, y_by = held.ctypes.data, 4 * LANES
    if bits == 4:
        if some == 1:
            _f1(weights, scales, x, width, d, d_by, y, y_by, blocks)
        elif some == 2:
            _f2(weights, scales, x, width, d, d_by, y, y_by, blocks)
        elif some == 3:
            _f3(weights, scales, x, width, d, d_by, y, y_by, blocks)
        else:
            _f4(weights, scales, x, width, d, d_by, y, y_by, blocks)
    elif some == 1:
        _e1(weights, scales, x, width, d, d_by, y, y_by, blocks)
    elif some == 2:
        _e2(weights, scales, x, width, d, d_by, y, y_by, blocks)
    elif some == 3:
        _e3(weights, scales, x, width, d, d_by, y, y_by, blocks)
    else:
        _e4(weights, scales, x, width, d, d_by, y, y_by, blocks)


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def shrink(rows: Rows, room: Room, row: int, source: int, layer: int, site: int, width: int) -> None:
    """From room.normed to what a product reads: bytes with a scale for each block, and A x of the row's adapter."""
    values = room.normed[row]
    for block in range(width // BLOCK):
        part = values[block * BLOCK : (block + 1) * BLOCK]
        small = room.small[row, block * BLOCK : (block + 1) * BLOCK]
        bits = np.int32(0)  # of the greatest magnitude: whole numbers compare lane by lane, and NaN is the greatest
        for i in range(BLOCK):
            bits = max(bits, np.int32(bits_of(part[i]) & 0x7FFFFFFF))
        most = float_bits(bits)
        scale = most / np.float32(127)
        inverse = np.float32(127) / most if most > 0 else np.float32(0)
        total = np.float32(0)
        for i in range(BLOCK):
            whole = np.floor(part[i] * inverse + np.float32(0.5))
            small[i] = np.int8(np.int32(whole))
            total += whole
        room.scales[row, block, 0] = scale
        room.scales[row, block, 1] = scale * total
    adapter = rows.adapters[source]
    if adapter < 0:
        return
    rank, down = room.adapters[adapter, layer, site, RANK], room.adapters[adapter, layer, site, A]
    x, out = address_of(room.normed, row), address_of(room.ranks, row)
    for first in range(0, rank, LANES):
        if rank - first > LANES // 2:
            _low(x, down + first * width * 2, width, out + first * 4)
        else:
            _half_low(x, down + first * width * 2, width, out + first * 4)
    for i in range(rank):
        room.ranks[row, i] *= rows.strengths[source]


@njit(nogil=True, error_model="numpy")
def add_delta(
    room: Room, adapter: int, layer: int, site: int, row: int, start: int, stop: int, out: np.ndarray
) -> None:
    """out[row] += B (A x) for the groups `start` to `stop`."""
    table = room.adapters
    for part in range(table[adapter, layer, site, COUNT]):
        base = PART + FIELDS * part
        first = max(start, table[adapter, layer, site, base + FROM])
        last = min(stop, table[adapter, layer, site, base + TO])
        if first < last:
            rank = table[adapter, layer, site, base + OF]
            up = table[adapter, layer, site, base + B]
            up += (first - table[adapter, layer, site, base + FROM]) * rank * LANES * 2
            u = address_of(room.ranks, row) + table[adapter, layer, site, base + AT] * 4
            add_low_rank(address_of(out, row) + first * LANES * 4, u, up, rank, last - first)


@njit(nogil=True, error_model="numpy")
def regain(room: Room, adapter: int, layer: int, site: int, group: int, held: np.ndarray, at: int) -> None:
    """DoRA brings the base's own part, held[at], to its gain before anything is added to it."""
    table = room.adapters
    for part in range(table[adapter, layer, site, COUNT]):
        base = PART + FIELDS * part
        first = table[adapter, layer, site, base + FROM]
        if first <= group < table[adapter, layer, site, base + TO]:
            gain = carray(
                address(table[adapter, layer, site, base + GAIN] + (group - first) * LANES * 4), (LANES,), np.float32
            )
            for lane in range(LANES):
                held[at, lane] *= gain[lane]


@njit(nogil=True, inline="always")
def address_of(array: np.ndarray, row: int) -> int:
    """Where a row of a float32 matrix lies."""
    return array.ctypes.data + row * array.shape[1] * 4
