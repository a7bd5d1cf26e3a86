"""Insight into tokens as the database keeps it: compact, bounded JSON text, and back.

Each token's text is written once for all its places, and numbers are rounded to what a page can show. What is still
too long loses alternatives, never a token: first half of them, then half of those, at last all.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from models_backend.protocol.events import Candidate, Insight, Shade

MAX_CHARS = 4_000_000  # of one lane
DIGITS = 5

Known = Sequence[Insight | None]


class _Kept(msgspec.Struct, array_like=True):
    texts: dict[int, str]
    answer: list[Any]
    prompt: list[Any]


def pack(insight: Known, scored: Known) -> str:
    """The text for a lane with this insight into its answer and its prompt; empty where there is none at all."""
    if not any(insight) and not any(scored):
        return ""
    top = max(max(len(seen.top), *(len(shade.top) for shade in seen.shades), 0) for seen in [*insight, *scored] if seen)
    while True:
        kept = _Kept({}, [], [])
        kept.answer = [_row(seen, top, kept.texts) for seen in insight]
        kept.prompt = [_row(seen, top, kept.texts) for seen in scored]
        text = msgspec.json.encode(kept).decode()
        if len(text) <= MAX_CHARS or top == 0:
            return text
        top //= 2


def unpack(text: str) -> tuple[list[Insight | None], list[Insight | None]]:
    """What `pack` was given, rounded. Raises msgspec.DecodeError for anything else."""
    if not text:
        return [], []
    kept = msgspec.json.decode(text, type=_Kept)
    answer = [_insight(row, kept.texts) for row in kept.answer]
    prompt = [_insight(row, kept.texts) for row in kept.prompt]
    return answer, prompt


def _row(seen: Insight | None, top: int, texts: dict[int, str]) -> list[Any] | None:
    if seen is None:
        return None
    # A token's own text may differ from place to place (half a character and its end), that of a candidate may not.
    shades = [
        [
            *(_short(shade.logprob), shade.rank, _short(shade.entropy), _short(shade.kl), _short(shade.reverse_kl)),
            _tops(shade.top, top, texts),
        ]
        for shade in seen.shades
    ]
    figures = [_short(seen.logprob), seen.rank, None if seen.entropy is None else _short(seen.entropy)]
    return [seen.id, seen.text, *figures, _tops(seen.top, top, texts), shades]


def _tops(candidates: Sequence[Candidate], top: int, texts: dict[int, str]) -> list[float]:
    flat: list[float] = []
    for candidate in candidates[:top]:
        # A remote model's candidates have no ids: they are written under numbers of their own, below 0.
        key = -1 - len(texts) if candidate.id is None else candidate.id
        texts.setdefault(key, candidate.text)
        flat += [key, _short(candidate.logprob)]
    return flat


def _insight(row: list[Any] | None, texts: dict[int, str]) -> Insight | None:
    if row is None:
        return None
    id_, text, logprob, rank, entropy, top, shades = row
    return Insight(
        id=id_,
        text=text,
        logprob=logprob,
        rank=rank,
        entropy=entropy,
        top=_candidates(top, texts),
        shades=tuple(_shade(shade, texts) for shade in shades),
    )


def _shade(row: list[Any], texts: dict[int, str]) -> Shade:
    logprob, rank, entropy, kl, reverse_kl, top = row
    return Shade(logprob, rank, entropy, kl, reverse_kl, _candidates(top, texts))


def _candidates(flat: list[Any], texts: dict[int, str]) -> tuple[Candidate, ...]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple(Candidate(int(key) if key >= 0 else None, texts[int(key)], float(logprob)) for key, logprob in pairs)


def _short(number: float) -> float:
    return round(number, DIGITS)
