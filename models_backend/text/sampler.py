"""From logits to a token, for rows that each have their own settings and seed.

Order and meaning are those of transformers' processors: penalties, temperature, top_k, top_p, min_p; temperature 0 is
argmax. The draw is Gumbel-max: argmax(logit / temperature + g), where g is made by a counter-based generator from
(seed, place in the answer, token id). No state, so a row's draws depend neither on its neighbours, nor on the device,
nor on whether another worker began the answer; lanes with one seed throw the same dice.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models_backend.protocol.events import Error
from models_backend.protocol.params import Used

from .contract import Draw, Outcome

WINDOWS = (256, 4096)  # candidates looked at before all are sorted; the first is above the largest top_k
_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15  # splitmix64 (Steele, Lea, Flood 2014): the counter's step and its two multipliers
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_BAD = Error(
    "invalid_logits",
    "The model gave numbers that are not finite, so no token can be chosen. Its weights may be damaged.",
)


def choose(logits: Tensor, draws: Sequence[Draw]) -> list[Outcome]:
    """Return each row's next token, or why it has none. `logits` is [rows, vocabulary] and may be overwritten."""
    logits = logits.float()
    sound = torch.isfinite(logits.amax(-1)).tolist()
    for row, draw in enumerate(draws):
        if sound[row]:
            _penalise(logits[row], draw)
    best = logits.argmax(-1)
    open_rows = [row for row, draw in enumerate(draws) if sound[row] and draw.used.temperature > 0]
    plain = [row for row in open_rows if not _ranked(draws[row].used)]
    ranked = [row for row in open_rows if _ranked(draws[row].used)]
    for rows, pick in ((plain, _pick_plain), (ranked, _pick_ranked)):
        if rows:
            settings = _Settings([draws[row] for row in rows], logits.device)
            best[rows] = pick(logits[rows].to(settings.dtype) / settings.temperature, settings)
    return [Outcome(token=token) if sound[row] else Outcome(error=_BAD) for row, token in enumerate(best.tolist())]


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
    return _signed(_mix((_mix(seed & _MASK) + place * _STEP) & _MASK))


class _Settings:
    """The settings of some rows as column tensors."""

    def __init__(self, draws: Sequence[Draw], device: torch.device) -> None:
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        used = [draw.used for draw in draws]

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=self.dtype, device=device)[:, None]

        self.temperature = column([one.temperature for one in used])
        self.top_p = column([one.top_p for one in used])
        self.min_p = [one.min_p for one in used]
        self.log_min_p = column(self.min_p).log()
        self.top_k = torch.tensor([one.top_k for one in used], device=device)[:, None]
        self.keys = torch.tensor(
            [[key(draw.used.seed, len(draw.answer))] for draw in draws], dtype=torch.int64, device=device
        )

    def only(self, rows: Tensor) -> "_Settings":
        part = object.__new__(_Settings)
        part.dtype = self.dtype
        for name in ("temperature", "top_p", "log_min_p", "top_k", "keys"):
            setattr(part, name, getattr(self, name)[rows])
        return part


def _ranked(used: Used) -> bool:
    return used.top_k > 0 or used.top_p < 1


def _pick_plain(scores: Tensor, settings: _Settings) -> Tensor:
    """Rows whose candidates need no order: all tokens, or those above min_p of the best.

    Row by row: a vocabulary is long enough to be one operation, and what several need no longer fits a core's cache.
    """
    ids = torch.arange(scores.shape[-1], device=scores.device)[None]
    picked = []
    for row in range(scores.shape[0]):
        noisy = gumbel(settings.keys[row : row + 1], ids, settings.dtype)[0].add_(scores[row])
        if settings.min_p[row]:
            noisy.masked_fill_(scores[row] < scores[row].max() + settings.log_min_p[row], -torch.inf)
        picked.append(noisy.argmax())
    return torch.stack(picked)


def _pick_ranked(scores: Tensor, settings: _Settings) -> Tensor:
    """Rows with top_k or top_p: look at a window of the best, and at a wider one only where that is too small."""
    vocabulary = scores.shape[-1]
    total = scores.logsumexp(-1, keepdim=True)
    tokens = scores.new_empty(len(scores), dtype=torch.int64)
    rows = torch.arange(len(scores), device=scores.device)
    for size in (*(window for window in WINDOWS if window < vocabulary), vocabulary):
        best = scores[rows].topk(size)
        tokens[rows], whole = _pick_among(best.values, best.indices, total[rows], settings.only(rows))
        rows = rows[~whole]
        if not len(rows):
            break
    return tokens


def _pick_among(best: Tensor, ids: Tensor, total: Tensor, settings: _Settings) -> tuple[Tensor, Tensor]:
    """Choose among candidates in falling order; also says, per row, whether they hold the whole kept set."""
    limited = settings.top_k > 0
    last = best.gather(-1, settings.top_k.clamp(1, best.shape[-1]) - 1)
    keep = ~limited | (best >= last)  # ties with the k-th stay, as in transformers
    total = torch.where(limited, best.masked_fill(~keep, -torch.inf).logsumexp(-1, keepdim=True), total)
    mass = (best - total).exp() * keep
    keep &= ((mass.cumsum(-1) - mass) < settings.top_p) | (settings.top_p >= 1)
    keep &= best >= best[:, :1] + settings.log_min_p
    keep[:, 0] = True
    noisy = best.masked_fill(~keep, -torch.inf) + gumbel(settings.keys, ids, settings.dtype)
    return ids.gather(-1, noisy.argmax(-1, keepdim=True))[:, 0], ~keep[:, -1]


def _penalise(row: Tensor, draw: Draw) -> None:
    """Apply the penalties to one row [vocabulary] in place."""
    used = draw.used
    if used.repetition_penalty != 1:
        seen = torch.tensor(list({*draw.prompt, *draw.answer}), device=row.device)
        score = row[seen]
        row[seen] = torch.where(score < 0, score * used.repetition_penalty, score / used.repetition_penalty)
    if draw.answer and (used.frequency_penalty or used.presence_penalty):
        said, times = torch.tensor(draw.answer, device=row.device).unique(return_counts=True)
        row[said] -= times * used.frequency_penalty + used.presence_penalty


def _mix(x: int) -> int:
    for shift, multiplier in ((30, _MULTIPLIERS[0]), (27, _MULTIPLIERS[1])):
        x = ((x ^ (x >> shift)) * multiplier) & _MASK
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right; torch's own keeps the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)
