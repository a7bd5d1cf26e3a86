"""One event of a server's stream, read with suspicion: what is not as it should be is unknown, or ends the answer."""

import json
import math
from dataclasses import dataclass
from typing import Any

import msgspec

from models_backend.protocol.events import Candidate, Insight
from models_backend.protocol.params import BOUNDS, MAX_TOKEN_ID

from .errors import UpstreamError, told

MAX_COUNT = 2**31
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event says. None: it does not say. `insight` has an entry for each token of the event, or none."""

    text: str = ""
    thought: str = ""  # text of a model's thinking, which some servers send apart
    ids: tuple[int, ...] = ()
    insight: tuple[Insight, ...] = ()
    finish: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0


def read(data: str, top: int | None, key: str) -> Chunk:
    """Read the data of one event. `top` is how many alternatives were asked for, None for no log-probabilities.

    Raises UpstreamError for an error that the server tells, and for what is no JSON object.
    """
    event = parse(data)
    raise_error(event, key)
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta = _object(choice, "delta")
    usage = _object(event, "usage")
    told_ids = choice.get("token_ids")
    ids = tuple(told_ids) if isinstance(told_ids, list) and all(_is_id(id_) for id_ in told_ids) else ()
    insight = () if top is None else insight_of(choice.get("logprobs"), top)
    if len(ids) == len(insight):
        insight = tuple(msgspec.structs.replace(seen, id=id_) for seen, id_ in zip(insight, ids, strict=True))
    prompt_ids = event.get("prompt_token_ids") or choice.get("prompt_token_ids")
    prompt_tokens = _count(usage.get("prompt_tokens"))
    if prompt_tokens is None and isinstance(prompt_ids, list):
        prompt_tokens = len(prompt_ids)
    return Chunk(
        text=_text(delta.get("content")) or _text(choice.get("text")),
        thought=_text(delta.get("reasoning_content")) or _text(delta.get("reasoning")),
        ids=ids,
        insight=insight,
        finish=choice.get("finish_reason") if isinstance(choice.get("finish_reason"), str) else None,
        model=event.get("model") if isinstance(event.get("model"), str) else None,
        prompt_tokens=prompt_tokens,
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(_object(usage, "prompt_tokens_details").get("cached_tokens")) or 0,
    )


def parse(data: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises UpstreamError. Halves of surrogate pairs, which no text may hold, become U+FFFD."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        try:
            text = data.decode(errors="replace") if isinstance(data, bytes) else data
            value = json.loads(text, parse_constant=lambda name: None)
        except (ValueError, RecursionError):
            raise UpstreamError("upstream_garbage", "it sent something that is not JSON.") from None
    if not isinstance(value, dict):
        raise UpstreamError("upstream_garbage", "it sent JSON that is no object.")
    return value


def raise_error(event: dict[str, Any], key: str) -> None:
    """Raise what a server says inside its stream: `{"error": {...}}`, `{"error": "..."}` or `{"object": "error"}`."""
    error = event.get("error")
    if error is None and event.get("object") == "error":
        error = event
    if error is None:
        return
    facts = error if isinstance(error, dict) else {"message": error}
    code = facts.get("code")
    retry = isinstance(code, int) and not isinstance(code, bool) and (code >= 500 or code == 429)
    why = told(facts.get("message"), key) or "no reason was given"
    raise UpstreamError("upstream_error", f"it broke the answer off: {why}", retry=retry)


def insight_of(logprobs: Any, top: int) -> tuple[Insight, ...]:
    """Log-probabilities as chats have them (`content`), or as plain text has them (lists beside each other).

    A rank is known where the token is among the `top` likeliest; the entropy never is.
    """
    if not isinstance(logprobs, dict):
        return ()
    if isinstance(logprobs.get("content"), list):
        rows = [(row, row.get("top_logprobs")) for row in logprobs["content"] if isinstance(row, dict)]
    else:
        rows = _legacy(logprobs)
    seen = [_insight(row, alternatives, top) for row, alternatives in rows]
    return tuple(each for each in seen if each is not None) if all(seen) else ()


def _legacy(logprobs: dict[str, Any]) -> list[tuple[dict[str, Any], Any]]:
    tokens, chosen, tops = (logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not (isinstance(tokens, list) and isinstance(chosen, list) and len(tokens) == len(chosen)):
        return []
    tops = tops if isinstance(tops, list) and len(tops) == len(tokens) else [None] * len(tokens)
    rows = []
    for token, logprob, alternatives in zip(tokens, chosen, tops, strict=True):
        pairs = alternatives.items() if isinstance(alternatives, dict) else ()
        rows.append(
            ({"token": token, "logprob": logprob}, [{"token": text, "logprob": value} for text, value in pairs])
        )
    return rows


def _insight(row: dict[str, Any], alternatives: Any, top: int) -> Insight | None:
    chosen = _candidate(row)
    if chosen is None:
        return None
    rows = alternatives if isinstance(alternatives, list) else []
    found = [each for each in map(_candidate, rows[: int(BOUNDS["top_logprobs"][1]) + 2]) if each is not None]
    best = tuple(sorted(found, key=lambda each: -each.logprob)[:top])
    same = [i for i, each in enumerate(best) if each.logprob == chosen.logprob and each.text == chosen.text]
    return Insight(chosen.id, chosen.text, chosen.logprob, same[0] + 1 if same else None, None, best)


def _candidate(row: Any) -> Candidate | None:
    if not isinstance(row, dict):
        return None
    logprob = row.get("logprob")
    if not isinstance(logprob, int | float) or isinstance(logprob, bool) or not math.isfinite(logprob):
        return None
    text, raw, id_ = row.get("token"), row.get("bytes"), row.get("id")
    if isinstance(raw, list) and raw and all(isinstance(byte, int) and 0 <= byte < 256 for byte in raw):
        text = bytes(raw).decode(errors="replace")
    return Candidate(id_ if _is_id(id_) else None, _text(text)[:1000], min(float(logprob), 0.0))


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT else None


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKEN_ID
