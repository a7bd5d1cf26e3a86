"""What a server is, and which models it has, as its own pages tell it."""

import logging
import re
from dataclasses import dataclass, field
from typing import Any

from models_backend.protocol.params import BOUNDS
from models_backend.protocol.workers import ModelInfo

from .client import Client
from .errors import UpstreamError
from .kinds import KINDS, Kind, with_logprobs
from .upstreams import Upstream

MAX_MODELS = 500
MAX_ID = 150  # characters, which leaves room for a server's name before them
MAX_LIST_BYTES = 4 * 1024 * 1024
_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp"}
_OLLAMA_LOGPROBS = (0, 12, 11)  # the first version that has them
# llama.cpp's names of what /props tells of its settings
_PROPS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}

log = logging.getLogger("diptych.remote")


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out: the kind of server, and its models by the ids that people see."""

    kind: Kind
    infos: tuple[ModelInfo, ...] = ()
    theirs: dict[str, str] = field(default_factory=dict)  # id that is shown -> name to send


async def discover(client: Client, prefix: str) -> Found:
    """Ask the server for its models. `prefix` goes before the ids that people see. Raises UpstreamError."""
    spec = client.remote.spec
    try:
        listed = await client.get(f"{client.remote.url}/models", MAX_LIST_BYTES)
    except UpstreamError as error:
        # It is there and has no list, or one that breaks: the models that are allowed are known without it.
        if not spec.models or error.retry or error.code == "upstream_refused_key":
            raise
        listed = {"data": []}
    rows = _rows(listed, spec)
    kind = KINDS[spec.kind] if spec.kind != "auto" else await _kind(client, rows)
    if kind.name == "ollama":
        kind = with_logprobs(kind, await _ollama_version(client) >= _OLLAMA_LOGPROBS)
    defaults = await _defaults(client) if kind.name == "llamacpp" else {}
    infos = tuple(_info(row, spec, kind, prefix, defaults) for row in rows)
    return Found(kind, infos, {info.id: _sent(row, kind) for info, row in zip(infos, rows, strict=True)})


def unseen(spec: Upstream, prefix: str) -> Found:
    """What the settings alone say of a server that has not answered yet: the models that are allowed."""
    kind = KINDS["openai" if spec.kind == "auto" else spec.kind]
    rows = [{"id": id_} for id_ in spec.models]
    infos = tuple(_info(row, spec, kind, prefix, {}, loaded=False) for row in rows)
    return Found(kind, infos, {info.id: str(row["id"]) for info, row in zip(infos, rows, strict=True)})


def _rows(listed: dict[str, Any], spec: Upstream) -> list[dict[str, Any]]:
    data = listed.get("data")
    if not isinstance(data, list):
        raise UpstreamError("upstream_garbage", "its list of models has no `data`.")
    rows: dict[str, dict[str, Any]] = {}
    for row in data:
        id_ = row.get("id") if isinstance(row, dict) else None
        if not (isinstance(id_, str) and 0 < len(id_) <= MAX_ID and id_.isprintable()):
            continue
        if not spec.models or id_ in spec.models:
            rows.setdefault(id_, row)
    for id_ in spec.models:  # some servers bring models that they do not list
        rows.setdefault(id_, {"id": id_})
    if len(rows) > MAX_MODELS:
        log.warning("%s has %d models; the first %d are taken", spec.name, len(rows), MAX_MODELS)
    return list(rows.values())[:MAX_MODELS]


def _info(
    row: dict[str, Any], spec: Upstream, kind: Kind, prefix: str, defaults: dict[str, Any], *, loaded: bool = True
) -> ModelInfo:
    parent = row.get("parent")
    base = f"{prefix}{parent}" if isinstance(parent, str) and parent and parent != row["id"] else None
    said = f"Answered by {spec.name}, a server elsewhere ({kind.title})."
    if base is not None:
        said += " That its adapter is at work rests on that server's word: it cannot be proven from here."
    return ModelInfo(
        id=f"{prefix}{row['id']}",
        title=str(row["id"]),
        description=said,
        base=base,
        context=spec.context or _context(row),
        defaults=defaults,
        loaded=loaded,
        cannot=kind.cannot(tuned=base is not None),
    )


def _sent(row: dict[str, Any], kind: Kind) -> str:
    """The name that a request carries. SGLang takes an adapter behind its base, with a colon between."""
    id_, parent = str(row["id"]), row.get("parent")
    if kind.name == "sglang" and isinstance(parent, str) and parent and parent != id_:
        return f"{parent}:{id_}"
    return id_


def _context(row: dict[str, Any]) -> int:
    meta = row.get("meta")
    told = [row.get("max_model_len"), row.get("context_length"), meta.get("n_ctx") if isinstance(meta, dict) else None]
    return next((value for value in told if type(value) is int and 0 < value < 2**31), 0)


async def _kind(client: Client, rows: list[dict[str, Any]]) -> Kind:
    for row in rows:
        if row.get("owned_by") in _OWNERS:
            return KINDS[_OWNERS[str(row["owned_by"])]]
    if await _ollama_version(client):
        return KINDS["ollama"]
    try:
        routes = (await client.get(f"{client.remote.root}/openapi.json", MAX_LIST_BYTES)).get("paths")
    except UpstreamError:
        routes = None
    if isinstance(routes, dict) and "/load_model" in routes:
        return KINDS["transformers"]
    return KINDS["openai"]


async def _ollama_version(client: Client) -> tuple[int, ...]:
    """Its version as numbers; empty for what is not Ollama."""
    try:
        version = (await client.get(f"{client.remote.root}/api/version", MAX_LIST_BYTES)).get("version")
    except UpstreamError:
        return ()
    return tuple(int(part) for part in re.findall(r"\d{1,6}", version)[:3]) if isinstance(version, str) else ()


async def _defaults(client: Client) -> dict[str, Any]:
    """The settings that llama.cpp uses where none are sent."""
    try:
        settings = (await client.get(f"{client.remote.root}/props", MAX_LIST_BYTES)).get("default_generation_settings")
    except UpstreamError:
        return {}
    params = settings.get("params", settings) if isinstance(settings, dict) else {}
    found = {}
    for theirs, ours in _PROPS.items():
        value = params.get(theirs) if isinstance(params, dict) else None
        low, high = BOUNDS[ours]
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            found[ours] = int(value) if ours == "top_k" else round(float(value), 6)
    return found
