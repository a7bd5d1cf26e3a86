"""What a pass is given: the model, the rows, and the memory that it works in."""

from typing import NamedTuple

import numpy as np

REGIONS = 10  # of a layer; three more are around the layers
LINE = 8  # int64 of a cache line: counters on one line would slow each other
FAST = {"reassoc", "contract", "nsz"}  # sums may be taken lane by lane; the same way for every row


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
