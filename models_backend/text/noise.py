"""The dice: Gumbel noise from a counter-based generator, a pure function of (seed, place in the answer, token id)."""

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15  # splitmix64 (Steele, Lea, Flood 2014): the counter's step and its two multipliers
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def gumbel(keys: Tensor, ids: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard Gumbel noise, [rows, n], for `keys` [rows, 1] of `key` and token `ids` [rows, n] or [1, n]."""
    x = keys + ids * _signed(_STEP)
    for shift, multiplier in ((30, _MULTIPLIERS[0]), (27, _MULTIPLIERS[1])):
        x ^= _shift(x, shift)
        x *= _signed(multiplier)
    x ^= _shift(x, 31)
    bits = 52 if dtype == torch.float64 else 23
    uniform = _shift(x, 64 - bits).to(dtype).add_(0.5).mul_(2.0**-bits)
    return uniform.log_().neg_().log_().neg_()


def key(seed: int, place: int) -> int:
    """The generator's key for one draw, a signed 64-bit number."""
    return _signed(mix((mix(seed & _MASK) + place * _STEP) & _MASK))


def mix(x: int) -> int:
    """splitmix64's finaliser over an unsigned 64-bit number."""
    for shift, multiplier in ((30, _MULTIPLIERS[0]), (27, _MULTIPLIERS[1])):
        x = ((x ^ (x >> shift)) * multiplier) & _MASK
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right; torch's own keeps the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)
