"""One forward pass of a Llama-like model over any mix of rows, as a single compiled function that several threads run.

A row here is one token: of a prompt or of an answer, at its own position of its own cache slot, with its own adapter.
The threads share the work of a region (a norm, a product ...) piece by piece: each takes the next piece until none is
left, and goes on when all are done. Nobody waits at a door for a thread that the machine has put to sleep, unless that
one holds a piece.

Every row is computed by the same instructions in the same order, whatever else is in the pass.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types

from .dot import (
    BLOCK,
    LANES,
    TILE,
    address,
    bits_of,
    fetch_add,
    float_bits,
    float_to_half,
    half_to_float,
    make_mix,
    make_scores,
    make_tile,
    peek,
)
from .fields import (
    AT,
    BIAS,
    BITS,
    BLOCKS,
    COUNT,
    DOWN,
    EMBEDDING,
    FIELDS,
    FROM,
    GAIN,
    GROUPS,
    HEAD,
    OF,
    OUT,
    PART,
    QKV,
    RANK,
    TO,
    UP,
    A,
    B,
    S,
    W,
)

REGIONS = 10  # of a layer; three more are around the layers
WIDE = 4  # chunks of 16 elements of a head that are mixed in one go
LINE = 8  # int64 of a cache line: counters on one line would slow each other


class Model(NamedTuple):
    """The weights. `norms` [layers + 1, 4] are offsets into `floats`: before attention, before the MLP, of q, of k.

    -1 is none; the last row's first is the final norm.
    """

    blob: np.ndarray  # uint8
    floats: np.ndarray  # float32, the same memory
    matrices: np.ndarray  # int64 [layers + 1, 4, MATRIX]; the last row: head, embedding
    norms: np.ndarray  # int64
    cos: np.ndarray  # float32 [context, head size / 2]
    sin: np.ndarray
    heads: int
    kv_heads: int
    window: int  # positions a row looks back, 0 for all
    epsilon: float


class Rows(NamedTuple):
    """What a pass is about: T rows, V of which want logits."""

    tokens: np.ndarray  # int64 [T]
    slots: np.ndarray
    places: np.ndarray
    wanted: np.ndarray  # int64 [V], indices of rows in rising order
    adapters: np.ndarray  # int64 [T], -1: none
    strengths: np.ndarray  # float32 [T]


class Room(NamedTuple):
    """Memory of a pass, used again by the next; enough for as many rows as `state` has."""

    keys: (
        np.ndarray
    )  # uint16 (float16) [slots, layers, kv heads, context / 16, head size, 16]: 16 positions side by side
    values: np.ndarray  # uint16 (float16) [slots, layers, kv heads, context, head size]
    state: np.ndarray  # float32 [T, hidden]
    normed: np.ndarray  # float32 [T, widest input]
    small: np.ndarray  # int8 [T, widest input]
    scales: np.ndarray  # float32 [T, blocks, 2]: scale, and scale * sum
    wide: np.ndarray  # float32 [T, widest output of a layer]
    ranks: np.ndarray  # float32 [T, widest rank]
    scores: np.ndarray  # float32 [threads, heads per kv head, context]
    adapters: np.ndarray  # int64 [adapters, layers + 1, SITES, SITE]
    counters: np.ndarray  # int64 [regions, 2, LINE]: pieces taken, pieces done


_fast = {"reassoc", "contract", "nsz"}  # sums may be taken lane by lane; the same way for every row
_yield = types.ExternalFunction("sched_yield", types.int32())
_four = {rows: make_tile(rows, 4) for rows in (1, 2, 3, 4)}
_eight = {rows: make_tile(rows, 8) for rows in (1, 2, 3, 4)}
_f1, _f2, _f3, _f4 = (_four[rows] for rows in (1, 2, 3, 4))
_e1, _e2, _e3, _e4 = (_eight[rows] for rows in (1, 2, 3, 4))
_s1, _s2, _s3, _s4 = (make_scores(heads) for heads in (1, 2, 3, 4))
_m1, _m2, _m3, _m4 = (make_mix(heads, 1) for heads in (1, 2, 3, 4))
_w1, _w2, _w3, _w4 = (make_mix(heads, WIDE) for heads in (1, 2, 3, 4))


@njit(nogil=True, cache=True, error_model="numpy")
def forward(model: Model, rows: Rows, room: Room, logits: np.ndarray, thread: int, threads: int) -> None:
    """Run by each of `threads` threads at once, with counters that are all zero. Writes `logits` [V, vocabulary]."""
    count, layers = len(rows.tokens), len(model.matrices) - 1
    hidden = room.state.shape[1]
    size = 2 * model.cos.shape[1]
    inner = model.matrices[0, DOWN, BLOCKS] * BLOCK
    spread = model.heads * size
    region = 0
    while True:
        row = _take(room, region, count)
        if row < 0:
            break
        _embed(model, rows, room, row)
        _done(room, region)
    _wait(room, region, count)
    for layer in range(layers):
        for half in range(2):
            before, after = (QKV, OUT) if half == 0 else (UP, DOWN)
            region += 1
            while True:
                row = _take(room, region, count)
                if row < 0:
                    break
                _norm(model, room, row, row, model.norms[layer, half], hidden)
                _shrink(rows, room, row, row, layer, before, hidden)
                _done(room, region)
            _wait(room, region, count)
            region += 1
            _multiply(model, rows, room, layer, before, room.wide, False, region, threads, rows.tokens, False)
            if half == 0:
                region += 1
                while True:
                    row = _take(room, region, count)
                    if row < 0:
                        break
                    _remember(model, rows, room, layer, row)
                    _done(room, region)
                _wait(room, region, count)
                region += 1
                pieces = count * model.kv_heads
                while True:
                    piece = _take(room, region, pieces)
                    if piece < 0:
                        break
                    _attend(model, rows, room, layer, piece // model.kv_heads, piece % model.kv_heads, thread)
                    _done(room, region)
                _wait(room, region, pieces)
            region += 1
            while True:
                row = _take(room, region, count)
                if row < 0:
                    break
                if half == 1:
                    _gate(room, row, inner)
                _shrink(rows, room, row, row, layer, after, spread if half == 0 else inner)
                _done(room, region)
            _wait(room, region, count)
            region += 1
            _multiply(model, rows, room, layer, after, room.state, True, region, threads, rows.tokens, False)
    last = len(rows.wanted)
    region += 1
    while True:
        row = _take(room, region, last)
        if row < 0:
            break
        _norm(model, room, rows.wanted[row], row, model.norms[layers, 0], hidden)
        _shrink(rows, room, row, rows.wanted[row], layers, HEAD, hidden)
        _done(room, region)
    _wait(room, region, last)
    if last:
        _multiply(model, rows, room, layers, HEAD, logits, False, region + 1, threads, rows.wanted, True)


# Sharing work ------------------------------------------------------------------------------------------------------


@njit(nogil=True, inline="always")
def _take(room: Room, region: int, pieces: int) -> int:
    """The next piece of a region, or -1 when all are taken."""
    piece = fetch_add(room.counters.ctypes.data + region * 2 * LINE * 8, 1)
    return piece if piece < pieces else -1


@njit(nogil=True, inline="always")
def _done(room: Room, region: int) -> None:
    fetch_add(room.counters.ctypes.data + (region * 2 + 1) * LINE * 8, 1)


@njit(nogil=True)
def _wait(room: Room, region: int, pieces: int) -> None:
    """Until all pieces are done. Spins for some microseconds, then lets others have the core."""
    spot = room.counters.ctypes.data + (region * 2 + 1) * LINE * 8
    spins = 0
    while peek(spot) < pieces:
        spins += 1
        if spins > 2000:
            _yield()


# Products ----------------------------------------------------------------------------------------------------------


@njit(nogil=True, error_model="numpy")
def _multiply(
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
        piece = _take(room, region, pieces)
        if piece < 0:
            break
        for group in range(piece * step, min(groups, (piece + 1) * step)):
            for first in range(0, count, TILE):
                some = min(TILE, count - first)
                _tile(model, room, matrix, group, first, some, held)
                for i in range(some):
                    row = first + i
                    source = which[row] if picked else row
                    if rows.adapters[source] >= 0:
                        _add_delta(room, rows.adapters[source], layer, site, row, group, held, i)
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
        _done(room, region)
    _wait(room, region, pieces)


@njit(nogil=True, error_model="numpy")
def _tile(model: Model, room: Room, matrix: np.ndarray, group: int, first: int, some: int, held: np.ndarray) -> None:
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


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _shrink(rows: Rows, room: Room, row: int, source: int, layer: int, site: int, width: int) -> None:
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
        _s1(x, 0, down + first * width * 2, width, out + first * 4, 0)
    for i in range(rank):
        room.ranks[row, i] *= rows.strengths[source]


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _add_delta(
    room: Room, adapter: int, layer: int, site: int, row: int, group: int, held: np.ndarray, at: int
) -> None:
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
            _m1(u, 0, up, LANES * 2, rank, address_of(held, TILE), 0)
            for lane in range(LANES):
                held[at, lane] += held[TILE, lane]


@njit(nogil=True, inline="always")
def address_of(array: np.ndarray, row: int) -> int:
    """Where a row of a float32 matrix lies."""
    return array.ctypes.data + row * array.shape[1] * 4


# Between the products ----------------------------------------------------------------------------------------------


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _embed(model: Model, rows: Rows, room: Room, row: int) -> None:
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


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _norm(model: Model, room: Room, source: int, row: int, weight: int, width: int) -> None:
    """room.normed[row] = RMS norm of room.state[source]."""
    x, out, weights = room.state[source], room.normed[row], model.floats[weight : weight + width]
    square = np.float32(0)
    for i in range(width):
        square += x[i] * x[i]
    by = np.float32(1) / np.sqrt(square / np.float32(width) + np.float32(model.epsilon))
    for i in range(width):
        out[i] = weights[i] * (x[i] * by)


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _remember(model: Model, rows: Rows, room: Room, layer: int, row: int) -> None:
    """Turn the row's queries and keys to their position, and write keys and values into its slot."""
    half = model.cos.shape[1]
    size, place, slot = 2 * half, rows.places[row], rows.slots[row]
    cos, sin = model.cos[place], model.sin[place]
    for head in range(model.heads + model.kv_heads):
        x = room.wide[row, head * size : (head + 1) * size]
        weight = model.norms[layer, 2 if head < model.heads else 3]
        if weight >= 0:
            square = np.float32(0)
            for i in range(size):
                square += x[i] * x[i]
            by = np.float32(1) / np.sqrt(square / np.float32(size) + np.float32(model.epsilon))
            for i in range(size):
                x[i] = model.floats[weight + i] * (x[i] * by)
        for i in range(half):
            low, high = x[i], x[i + half]
            x[i] = low * cos[i] - high * sin[i]
            x[i + half] = high * cos[i] + low * sin[i]
    for head in range(model.kv_heads):
        key = room.wide[row, (model.heads + head) * size : (model.heads + head + 1) * size]
        value = room.wide[
            row, (model.heads + model.kv_heads + head) * size : (model.heads + model.kv_heads + head + 1) * size
        ]
        for i in range(size):
            room.keys[slot, layer, head, place // LANES, i, place % LANES] = float_to_half(key[i])
            room.values[slot, layer, head, place, i] = float_to_half(value[i])


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _attend(model: Model, rows: Rows, room: Room, layer: int, row: int, group: int, thread: int) -> None:
    """room.normed[row] = attention of the query heads that share one key head."""
    size = 2 * model.cos.shape[1]
    each = model.heads // model.kv_heads
    stop = rows.places[row] + 1
    start = max(0, stop - model.window) if model.window else 0
    keys = room.keys.ctypes.data + ((rows.slots[row] * room.keys.shape[1] + layer) * model.kv_heads + group) * (
        room.keys.shape[3] * size * 2 * LANES
    )
    values = room.values.ctypes.data + ((rows.slots[row] * room.values.shape[1] + layer) * model.kv_heads + group) * (
        room.values.shape[3] * size * 2
    )
    by = np.float32(1) / np.sqrt(np.float32(size))
    first = start // LANES  # whole blocks of 16 are computed; what lies outside of start..stop is then left out
    for member in range(0, each, 4):
        some = min(4, each - member)
        head = group * each + member
        queries = room.wide.ctypes.data + (row * room.wide.shape[1] + head * size) * 4
        scores = room.scores.ctypes.data + (thread * room.scores.shape[1] + member) * room.scores.shape[2] * 4
        by_row = room.scores.shape[2] * 4
        for block in range(first, (stop - 1) // LANES + 1):
            key, out = keys + block * size * 2 * LANES, scores + block * LANES * 4
            if some == 1:
                _s1(queries, size * 4, key, size, out, by_row)
            elif some == 2:
                _s2(queries, size * 4, key, size, out, by_row)
            elif some == 3:
                _s3(queries, size * 4, key, size, out, by_row)
            else:
                _s4(queries, size * 4, key, size, out, by_row)
        for i in range(some):
            _soften(room.scores[thread, member + i], start, stop, by)
        spot = room.normed.ctypes.data + (row * room.normed.shape[1] + head * size) * 4
        weights, begin, count = scores + start * 4, values + start * size * 2, stop - start
        wide = WIDE * LANES if size % (WIDE * LANES) == 0 else LANES
        for chunk in range(0, size, wide):
            value, out = begin + chunk * 2, spot + chunk * 4
            if wide == LANES:
                if some == 1:
                    _m1(weights, by_row, value, size * 2, count, out, size * 4)
                elif some == 2:
                    _m2(weights, by_row, value, size * 2, count, out, size * 4)
                elif some == 3:
                    _m3(weights, by_row, value, size * 2, count, out, size * 4)
                else:
                    _m4(weights, by_row, value, size * 2, count, out, size * 4)
            elif some == 1:
                _w1(weights, by_row, value, size * 2, count, out, size * 4)
            elif some == 2:
                _w2(weights, by_row, value, size * 2, count, out, size * 4)
            elif some == 3:
                _w3(weights, by_row, value, size * 2, count, out, size * 4)
            else:
                _w4(weights, by_row, value, size * 2, count, out, size * 4)


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _soften(scores: np.ndarray, start: int, stop: int, by: Any) -> None:
    """Softmax of scores[start:stop] * by, in place."""
    some = scores[start:stop]  # from 0 on: an index that might be negative would keep the loops from running in lanes
    most = np.float32(-3.4e38)
    for i in range(len(some)):
        most = max(most, some[i])
    total = np.float32(0)
    for i in range(len(some)):
        some[i] = _exp((some[i] - most) * by)
        total += some[i]
    share = np.float32(1) / total
    for i in range(len(some)):
        some[i] *= share


@njit(nogil=True, fastmath=_fast, error_model="numpy")
def _gate(room: Room, row: int, inner: int) -> None:
    """room.normed[row] = silu(gate) * up."""
    gates, ups, out = room.wide[row, :inner], room.wide[row, inner : 2 * inner], room.normed[row]
    for i in range(inner):
        out[i] = gates[i] / (np.float32(1) + _exp(-gates[i])) * ups[i]


@njit(nogil=True, fastmath=_fast, error_model="numpy", inline="always")
def _exp(x: Any) -> Any:
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
