"""One forward pass of a Llama-like model over any mix of rows, as a single compiled function that several threads run.

A row here is one token: of a prompt or of an answer, at its own position of its own cache slot, with its own adapter.
The threads share the work of a region (a norm, a product ...) piece by piece: each takes the next piece until none is
left, and goes on when all are done. Nobody waits at a door for a thread that the machine has put to sleep, unless that
one holds a piece.

Every row is computed by the same instructions in the same order, whatever else is in the pass.
"""

import numpy as np
from numba import njit

from .attention import attend, remember
from .dot import BLOCK
from .fields import BLOCKS, DOWN, HEAD, OUT, QKV, UP
from .pointwise import embed, gate, norm
from .products import multiply, shrink
from .records import Model, Room, Rows
from .sharing import done, take, wait


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
        row = take(room, region, count)
        if row < 0:
            break
        embed(model, rows, room, row)
        done(room, region)
    wait(room, region, count)
    for layer in range(layers):
        for half in range(2):
            before, after = (QKV, OUT) if half == 0 else (UP, DOWN)
            region += 1
            while True:
                row = take(room, region, count)
                if row < 0:
                    break
                norm(model, room, row, row, model.norms[layer, half], hidden)
                shrink(rows, room, row, row, layer, before, hidden)
                done(room, region)
            wait(room, region, count)
            region += 1
            multiply(model, rows, room, layer, before, room.wide, False, region, threads, False)
            if half == 0:
                region += 1
                while True:
                    row = take(room, region, count)
                    if row < 0:
                        break
                    remember(model, rows, room, layer, row)
                    done(room, region)
                wait(room, region, count)
                region += 1
                pieces = count * model.kv_heads
                while True:
                    piece = take(room, region, pieces)
                    if piece < 0:
                        break
                    attend(model, rows, room, layer, piece // model.kv_heads, piece % model.kv_heads, thread)
                    done(room, region)
                wait(room, region, pieces)
            region += 1
            while True:
                row = take(room, region, count)
                if row < 0:
                    break
                if half == 1:
                    gate(room, row, inner)
                shrink(rows, room, row, row, layer, after, spread if half == 0 else inner)
                done(room, region)
            wait(room, region, count)
            region += 1
            multiply(model, rows, room, layer, after, room.state, True, region, threads, False)
    last = len(rows.wanted)
    region += 1
    while True:
        row = take(room, region, last)
        if row < 0:
            break
        norm(model, room, rows.wanted[row], row, model.norms[layers, 0], hidden)
        shrink(rows, room, row, rows.wanted[row], layers, HEAD, hidden)
        done(room, region)
    wait(room, region, last)
    if last:
        multiply(model, rows, room, layers, HEAD, logits, False, region + 1, threads, True)
