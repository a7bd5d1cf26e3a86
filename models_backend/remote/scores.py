"""What vLLM says of the tokens of a prompt: `prompt_logprobs`, a list with a table for each of them."""

import math
from collections.abc import Iterator
from typing import Any

from models_backend.protocol.events import Candidate, Insight
from models_backend.protocol.params import MAX_TOKEN_ID

from .errors import UpstreamError

PIECE = 128  # tokens in one event, so that none is large


def pieces(answer: dict[str, Any], top: int) -> Iterator[tuple[int, tuple[Insight, ...]]]:
    """Stretches of insight with the place of their first token in the prompt. Raises UpstreamError for anything else.

    The first token of a prompt has nothing before it, and so no table. The token itself is the one that
    `prompt_token_ids` names, else the first of its table.
    """
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    tables = answer.get("prompt_logprobs") or choice.get("prompt_logprobs")
    ids = answer.get("prompt_token_ids") or choice.get("prompt_token_ids")
    if not isinstance(tables, list) or not tables:
        raise UpstreamError("upstream_garbage", "it did not score the prompt, though it was asked to.")
    ids = ids if isinstance(ids, list) and len(ids) == len(tables) else [None] * len(tables)
    seen = [_insight(table, id_, top) for table, id_ in zip(tables[1:], ids[1:], strict=True)]
    for start in range(0, len(seen), PIECE):
        yield start + 1, tuple(seen[start : start + PIECE])


def _insight(table: Any, id_: Any, top: int) -> Insight:
    rows = {int(key): row for key, row in table.items() if _is_row(key, row)} if isinstance(table, dict) else {}
    key = id_ if isinstance(id_, int) and id_ in rows else next(iter(rows), None)
    if key is None:
        raise UpstreamError("upstream_garbage", "its score of the prompt cannot be read.")
    chosen = rows[key]
    best = sorted(rows.items(), key=lambda item: -item[1]["logprob"])[:top]
    rank = chosen.get("rank")
    return Insight(
        id=key,
        text=_text(chosen),
        logprob=min(float(chosen["logprob"]), 0.0),
        rank=rank if type(rank) is int and rank > 0 else None,
        entropy=None,
        top=tuple(Candidate(other, _text(row), min(float(row["logprob"]), 0.0)) for other, row in best),
    )


def _is_row(key: Any, row: Any) -> bool:
    if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= MAX_TOKEN_ID):
        return False
    logprob = row.get("logprob") if isinstance(row, dict) else None
    return isinstance(logprob, int | float) and not isinstance(logprob, bool) and math.isfinite(logprob)


def _text(row: dict[str, Any]) -> str:
    text = row.get("decoded_token")
    return text[:1000] if isinstance(text, str) else ""
