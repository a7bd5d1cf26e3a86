"""From logits to a token, for rows that each have their own settings, rules and seed.

The order is fixed. It is that of transformers' generate(); vLLM applies min_p before top_k, and has no typical_p.
1. Rules: the constraint's mask, biases, banned words, no end before min_tokens. They add up, so that their own order is
   of no account, and what is ruled out stays out, whatever a bias or a penalty says.
2. Penalties: repetition over prompt and answer (transformers), frequency and presence over the answer (OpenAI).
3. Temperature; 0 takes the best token and skips the rest.
4. Filters: top_k, top_p, min_p, typical_p.

The draw is Gumbel-max: argmax(logit / temperature + noise), see noise.py. No state, so a row's draws depend neither on
its neighbours, nor on the device, nor on whether another worker began the answer; lanes with one seed throw the same
dice.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models_backend.protocol.events import Error
from models_backend.protocol.params import Used

from .contract import Draw, EngineError, Outcome
from .filters import keep_only, kept_among
from .insight import top
from .noise import gumbel, key

WINDOW = 256  # candidates looked at before all are; above the largest top_k
_DAMAGED, _EMPTY = -1, -2
_ERRORS = {
    _DAMAGED: Error(
        "invalid_logits",
        "The model gave numbers that are not finite, so no token can be chosen. Its weights may be damaged.",
    ),
    _EMPTY: Error(
        "no_token_left",
        "No token is left to choose from: all that could follow here is ruled out by the parameters together.",
    ),
}


def choose(logits: Tensor, draws: Sequence[Draw]) -> list[Outcome]:
    """Return each row's next token, or why it has none. `logits` is [rows, vocabulary] and may be overwritten."""
    logits = logits.float()
    sound = torch.isfinite(logits.amax(-1))
    errors = _obey(logits, draws)
    _penalise(logits, draws)
    highest, best = logits.max(-1)
    best = best.masked_fill(highest == -torch.inf, _EMPTY).masked_fill_(~sound, _DAMAGED)
    warm = [row for row, draw in enumerate(draws) if draw.used.temperature > 0]
    if logits.device.type == "cpu":  # elsewhere to look would be to wait, and rows without a token do no harm
        usable = (best >= 0).tolist()
        warm = [row for row in warm if usable[row]]
    plain = [row for row in warm if not _filtered(draws[row].used)]
    filtered = [row for row in warm if _filtered(draws[row].used)]
    for rows, pick in ((plain, _pick_plain), (filtered, _pick_filtered)):
        if rows:
            settings = _Settings([draws[row] for row in rows], logits.device)
            picked = pick(logits if len(rows) == len(logits) else logits[rows], settings)
            best[rows] = torch.where(best[rows] >= 0, picked, best[rows])
    return [
        Outcome(error=errors.get(row) or _ERRORS[token]) if token < 0 or row in errors else Outcome(token=token)
        for row, token in enumerate(best.tolist())
    ]


class _Settings:
    """The settings of some rows as column tensors."""

    def __init__(self, draws: Sequence[Draw], device: torch.device) -> None:
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.used = used = [draw.used for draw in draws]

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=self.dtype, device=device)[:, None]

        self.temperature = column([one.temperature for one in used])
        self.top_p = column([one.top_p for one in used])
        self.log_min_p = column([one.min_p for one in used]).log()
        self.typical_p = column([one.typical_p for one in used]) if any(one.typical_p < 1 for one in used) else None
        self.top_k = torch.tensor([one.top_k for one in used], device=device)[:, None]
        self.keys = torch.tensor(
            [[key(draw.used.seed, len(draw.answer))] for draw in draws], dtype=torch.int64, device=device
        )


def _filtered(used: Used) -> bool:
    return used.top_k > 0 or used.top_p < 1 or used.typical_p < 1


def _pick_plain(logits: Tensor, settings: _Settings) -> Tensor:
    """Rows whose candidates need no order: all tokens, or those above min_p of the best.

    Row by row: a vocabulary is long enough to be one operation, and what several need no longer fits a core's cache.
    """
    ids = torch.arange(logits.shape[-1], device=logits.device)[None]
    picked = []
    for row in range(logits.shape[0]):
        scores = logits[row].to(settings.dtype) / settings.temperature[row]
        noisy = gumbel(settings.keys[row : row + 1], ids, settings.dtype)[0].add_(scores)
        if settings.used[row].min_p:
            noisy.masked_fill_(scores < scores.max() + settings.log_min_p[row], -torch.inf)
        picked.append(noisy.argmax())
    return torch.stack(picked)


def _pick_filtered(logits: Tensor, settings: _Settings) -> Tensor:
    """Rows with filters: look at a window of the best, and at all of them only where that is too small.

    A device that sorts fast sorts all at once, for a look at which window is too small would wait for it.
    """
    vocabulary = logits.shape[-1]
    window = min(WINDOW, vocabulary) if logits.device.type == "cpu" else vocabulary
    highest, ids = top(logits, window)
    best = highest.to(settings.dtype) / settings.temperature
    keep, short = kept_among(
        best,
        _total(logits, highest[:, :1], settings),
        settings.top_k,
        settings.top_p,
        settings.log_min_p,
        settings.typical_p,
    )
    noisy = best.masked_fill(~keep, -torch.inf) + gumbel(settings.keys, ids, settings.dtype)
    picked = ids.gather(-1, noisy.argmax(-1, keepdim=True))[:, 0]
    if window < vocabulary:
        all_ids = torch.arange(vocabulary)[None]
        for row in short.nonzero()[:, 0].tolist():
            noise = gumbel(settings.keys[row : row + 1], all_ids, settings.dtype)[0]
            scores = logits[row].to(settings.dtype) / settings.temperature[row]
            picked[row] = noise.add_(keep_only(scores, settings.used[row])).argmax()
    return picked


def _total(logits: Tensor, highest: Tensor, settings: _Settings) -> Tensor:
    """[rows, 1]: the logarithm of the sum that makes probabilities of scores. The terms in float32, their sum finer."""
    terms = (logits - highest).div_(settings.temperature.float()).clamp_(min=-60).exp_()  # numbers near 0 are slow
    return terms.sum(-1, keepdim=True, dtype=settings.dtype).log_() + highest / settings.temperature


def _obey(logits: Tensor, draws: Sequence[Draw]) -> dict[int, Error]:
    """Apply the rules of the rows in place; returns the rows whose constraint cannot be followed any further."""
    errors: dict[int, Error] = {}
    changes: list[tuple[int, Sequence[int], Sequence[float]]] = []  # row, ids, what is added
    for row, draw in enumerate(draws):
        rules, ids = draw.rules, draw.answer
        if rules.form is not None:
            try:
                logits[row].masked_fill_(_forbidden(rules.form.allowed(ids), logits), -torch.inf)
            except EngineError as error:
                errors[row] = error.as_error()
        if rules.biases[0]:
            changes.append((row, *rules.biases))
        banned = [*rules.banned] if rules.banned else []
        if rules.banned_after:
            banned += _completing(draw)
        if len(ids) < draw.used.min_tokens:
            banned += rules.ends
        if banned:
            changes.append((row, banned, [-np.inf] * len(banned)))
    _add(logits, changes)
    return errors


def _forbidden(allowed: bytes, logits: Tensor) -> Tensor:
    """[vocabulary] bools from bits of which the lowest is the first id; what has no bit is forbidden."""
    bits = np.unpackbits(np.frombuffer(allowed, np.uint8), bitorder="little", count=logits.shape[-1])
    return torch.from_numpy(bits == 0).to(logits.device)


def _completing(draw: Draw) -> list[int]:
    """The last ids of banned words whose other ids have just been said, be it by the prompt."""
    prompt, answer = draw.prompt, draw.answer
    newest = answer[-1:] or prompt[-1:]
    banned = []
    for before, last in draw.rules.banned_after.get(newest[0], ()) if newest else ():
        missing = len(before) - len(answer)
        said = [*prompt[-missing:], *answer] if missing > 0 else answer[-len(before) :]
        if list(said) == list(before):
            banned.append(last)
    return banned


def _penalise(logits: Tensor, draws: Sequence[Draw]) -> None:
    """Apply the penalties of the rows in place."""
    repeated = [(row, draw) for row, draw in enumerate(draws) if draw.used.repetition_penalty != 1]
    if repeated:
        lists = [(row, [*(draw.rules.seen or draw.prompt), *draw.answer]) for row, draw in repeated]
        rows, ids = _flat(lists, logits.device)
        by = torch.tensor([draw.used.repetition_penalty for _, draw in repeated], device=logits.device)
        by = by.repeat_interleave(torch.tensor([len(each) for _, each in lists], device=logits.device))
        score = logits[rows, ids]
        logits[rows, ids] = torch.where(score < 0, score * by, score / by)  # an id that comes twice is written twice
    changes: list[tuple[int, Sequence[int], Sequence[float]]] = []
    for row, draw in enumerate(draws):
        used = draw.used
        if (used.frequency_penalty or used.presence_penalty) and draw.answer:
            said, times = np.unique(np.asarray(draw.answer), return_counts=True)
            changes.append((row, said, -(times * used.frequency_penalty + used.presence_penalty)))
    _add(logits, changes)


def _add(logits: Tensor, changes: Sequence[tuple[int, Sequence[int], Sequence[float]]]) -> None:
    """Add numbers to some logits of some rows, in place."""
    if not changes:
        return
    rows, ids = _flat([(row, ids) for row, ids, _ in changes], logits.device)
    added = np.concatenate([np.asarray(values, np.float32) for _, _, values in changes])
    logits.index_put_((rows, ids), torch.from_numpy(added).to(logits.device), accumulate=True)


def _flat(lists: Sequence[tuple[int, Sequence[int]]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of rows and of ids, both [n], for lists of ids of some rows."""
    rows = np.repeat([row for row, _ in lists], [len(ids) for _, ids in lists])
    ids = np.concatenate([np.asarray(ids, np.int64) for _, ids in lists])
    return torch.from_numpy(rows.astype(np.int64)).to(device), torch.from_numpy(ids).to(device)
