"""Keys and values of rows, and what a row attends to in its slot."""

from typing import Any

import numpy as np
from numba import njit

from .dot import LANES, float_to_half, make_mix, make_scores
from .pointwise import exp
from .records import FAST, Model, Room, Rows

WIDE = 4  # chunks of 16 elements of a head that are mixed in one go
_s1, _s2, _s3, _s4 = (make_scores(heads) for heads in (1, 2, 3, 4))
_m1, _m2, _m3, _m4 = (make_mix(heads, 1) for heads in (1, 2, 3, 4))
_w1, _w2, _w3, _w4 = (make_mix(heads, WIDE) for heads in (1, 2, 3, 4))


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def remember(model: Model, rows: Rows, room: Room, layer: int, row: int) -> None:
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


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def attend(model: Model, rows: Rows, room: Room, layer: int, row: int, group: int, thread: int) -> None:
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
            soften(room.scores[thread, member + i], start, stop, by)
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


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def soften(scores: np.ndarray, start: int, stop: int, by: Any) -> None:
    """Softmax of scores[start:stop] * by, in place."""
    some = scores[start:stop]  # from 0 on: an index that might be negative would keep the loops from running in lanes
    most = np.float32(-3.4e38)
    for i in range(len(some)):
        most = max(most, some[i])
    total = np.float32(0)
    for i in range(len(some)):
        some[i] = exp((some[i] - most) * by)
        total += some[i]
    share = np.float32(1) / total
    for i in range(len(some)):
        some[i] *= share
