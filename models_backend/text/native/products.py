"""Products of a packed matrix with rows, and what the rows' adapters add to them."""

import numpy as np
from numba import carray, njit

from .dot import BLOCK, LANES, TILE, address, bits_of, float_bits, make_mix, make_scores, make_tile
from .fields import AT, BIAS, BITS, BLOCKS, COUNT, FIELDS, FROM, GAIN, GROUPS, OF, PART, RANK, TO, A, B, S, W
from .records import FAST, Model, Room, Rows
from .sharing import done, take, wait

_down, _up = make_scores(1), make_mix(1, 1)  # of an adapter: 16 ranks, 16 outputs
_four = {rows: make_tile(rows, 4) for rows in (1, 2, 3, 4)}
_eight = {rows: make_tile(rows, 8) for rows in (1, 2, 3, 4)}
_f1, _f2, _f3, _f4 = (_four[rows] for rows in (1, 2, 3, 4))
_e1, _e2, _e3, _e4 = (_eight[rows] for rows in (1, 2, 3, 4))


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
    which: np.ndarray,
    picked: bool,
) -> None:
    """out (+)= product of the rows in room.small with a matrix, and what their adapters add to it."""
    matrix = model.matrices[layer, site]
    groups, count = matrix[GROUPS], len(which)
    step = max(1, -(-groups // (4 * threads))) if threads > 1 else groups
    pieces = -(-groups // step)
    held = np.empty((TILE + 1, LANES), np.float32)  # the last is for an adapter's part
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
                    source = which[row] if picked else row
                    if rows.adapters[source] >= 0:
                        add_delta(room, rows.adapters[source], layer, site, row, group, held, i)
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
        _down(x, 0, down + first * width * 2, width, out + first * 4, 0)
    for i in range(rank):
        room.ranks[row, i] *= rows.strengths[source]


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def add_delta(room: Room, adapter: int, layer: int, site: int, row: int, group: int, held: np.ndarray, at: int) -> None:
    """held[at] += B (A x) for a group's outputs; with DoRA the base's own part is first brought to its gain."""
    table = room.adapters
    for part in range(table[adapter, layer, site, COUNT]):
        base = PART + FIELDS * part
        first = table[adapter, layer, site, base + FROM]
        if first <= group < table[adapter, layer, site, base + TO]:
            here, rank = group - first, table[adapter, layer, site, base + OF]
            if table[adapter, layer, site, base + GAIN]:
                gain = carray(
                    address(table[adapter, layer, site, base + GAIN] + here * LANES * 4), (LANES,), np.float32
                )
                for lane in range(LANES):
                    held[at, lane] *= gain[lane]
            u = address_of(room.ranks, row) + table[adapter, layer, site, base + AT] * 4
            up = table[adapter, layer, site, base + B] + here * rank * LANES * 2
            _up(u, 0, up, LANES * 2, rank, address_of(held, TILE), 0)
            for lane in range(LANES):
                held[at, lane] += held[TILE, lane]


@njit(nogil=True, inline="always")
def address_of(array: np.ndarray, row: int) -> int:
    """Where a row of a float32 matrix lies."""
    return array.ctypes.data + row * array.shape[1] * 4
