"""From a request to what is sent: the messages or the text, and the parameters under the server's names."""

import json
import re
from typing import Any

import msgspec

from models_backend.engine import EngineError, Request
from models_backend.protocol.params import Choice, Grammar, JsonObject, JsonSchema, Params, Regex, Used
from models_backend.protocol.runs import Chat, Message

from .kinds import Kind

MAX_TOKENS = 256  # where none were sent: as every engine here
OWN_SEEDS = 2**31  # seeds that were not asked for stay below this, which every server reads


def used(request: Request, defaults: dict[str, Any]) -> Used:
    """What is known of the settings: those sent, those the server tells, and None for what it keeps to itself."""
    params = request.params

    def known(name: str) -> Any:
        sent = getattr(params, name)
        return defaults.get(name) if sent is None else sent

    seed = params.seed if params.seed is not None else request.seed % OWN_SEEDS
    if params.dice == "own":
        seed = (seed + 0x9E3779B1 * (request.lane + 1)) % OWN_SEEDS
    return Used(
        temperature=known("temperature"),
        top_p=known("top_p"),
        max_tokens=MAX_TOKENS if params.max_tokens is None else params.max_tokens,
        top_k=known("top_k"),
        min_p=known("min_p"),
        repetition_penalty=known("repetition_penalty"),
        frequency_penalty=known("frequency_penalty"),
        presence_penalty=known("presence_penalty"),
        stop=params.stop or (),
        seed=seed,
        min_tokens=params.min_tokens or 0,
        typical_p=1.0 if params.typical_p is None else params.typical_p,
        stop_token_ids=params.stop_token_ids or (),
        bad_words=params.bad_words or (),
        logit_bias=params.logit_bias or {},
        constraint=params.constraint,
        dice="own",
        top_logprobs=params.top_logprobs,
        prompt_logprobs=params.prompt_logprobs,
    )


def check(request: Request, kind: Kind) -> None:
    """Refuse what depends on values or on the prompt's mode. Raises EngineError `unsupported` with the field."""
    params, chat = request.params, isinstance(request.prompt, Chat)
    who = kind.title[0].upper() + kind.title[1:]
    for name, most in kind.most.items():
        value = getattr(params, name)
        if value is not None and value > most:
            raise EngineError("unsupported", f"{who} takes {name} up to {most}, not {value}.", name)
    if chat:
        return
    for name in sorted(kind.chat_only):
        if getattr(params, name) is not None:
            raise EngineError("unsupported", f"{who} takes {name} with a chat prompt alone.", name)
    if kind.name in ("openai", "ollama") and (params.top_logprobs or 0) > 5:
        raise EngineError("unsupported", f"{who} gives at most 5 alternatives for plain text.", "top_logprobs")


def build(request: Request, model: str, kind: Kind, used: Used, said: str, count: int) -> dict[str, Any]:
    """The body of a streaming request that goes on behind `said`, the text so far, which counts `count` tokens."""
    body: dict[str, Any] = {"model": model, "stream": True, **_prompt(request, kind, said)}
    if kind.stream_options is not None:
        body["stream_options"] = kind.stream_options
    if kind.ids:
        body["return_token_ids"] = True
    body.update(_parameters(request.params, kind, used, chat=isinstance(request.prompt, Chat), count=count))
    return body


def scoring(request: Request, model: str, kind: Kind, used: Used) -> dict[str, Any]:
    """The body of a request for log-probabilities of the prompt, which makes one token that nobody reads."""
    body = build(request, model, kind, used, "", 0)
    for name in ("stream_options", "min_tokens", "logprobs", "top_logprobs", "structured_outputs"):
        body.pop(name, None)
    return {**body, "stream": False, "max_tokens": 1, "prompt_logprobs": used.prompt_logprobs}


def path(request: Request) -> str:
    return "/chat/completions" if isinstance(request.prompt, Chat) else "/completions"


def _prompt(request: Request, kind: Kind, said: str) -> dict[str, Any]:
    prompt = request.prompt
    if not isinstance(prompt, Chat):
        return {"prompt": prompt.text + said}
    messages = [_message(message) for message in prompt.messages]
    begun = prompt.continue_final
    if said and begun:
        messages[-1]["content"] += said
    elif said:
        messages.append({"role": "assistant", "content": said})
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    return {"messages": messages, **(flags if (said or begun) and kind.continues == "flags" else {})}


def _message(message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        sent["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    return sent


def _parameters(params: Params, kind: Kind, used: Used, *, chat: bool, count: int) -> dict[str, Any]:
    """Off is not sent, save for the bound on the length, and the seed, without which no answer comes twice."""
    sent = {name: getattr(params, name) for name in kind.fields if getattr(params, name) is not None}
    for special in ("top_logprobs", "prompt_logprobs"):
        sent.pop(special, None)
    sent["max_tokens"] = used.max_tokens - count
    sent["seed"] = used.seed
    if "min_tokens" in sent:
        sent["min_tokens"] = max(0, sent["min_tokens"] - count)
    body: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for name, value in sent.items():
        group, _, field = kind.fields[name].rpartition(".")
        (inner if group else body)[field] = value
    if "logit_bias" in body:
        body["logit_bias"] = {str(id_): bias for id_, bias in body["logit_bias"].items()}
    if kind.name == "transformers":
        # Without this its models answer greedily, whatever the temperature, where their own settings say so.
        inner["do_sample"] = params.temperature != 0
        body["generation_config"] = json.dumps(inner)
    penalties = {"repetition_penalty", "frequency_penalty", "presence_penalty"}
    if kind.name == "llamacpp" and penalties & sent.keys():
        body["repeat_last_n"] = -1  # over all of the answer, not its last 64 tokens
    if params.top_logprobs is not None:
        # Of none at all llama.cpp makes "no log-probabilities": one is asked for, and left out when it comes.
        top = max(params.top_logprobs, 1) if kind.name == "llamacpp" else params.top_logprobs
        body.update({"logprobs": True, "top_logprobs": top} if chat else {"logprobs": top})
    if params.constraint is not None:
        body.update(_constraint(params.constraint, kind, chat=chat))
    return body


def _constraint(
    constraint: JsonObject | JsonSchema | Regex | Choice | Grammar, kind: Kind, *, chat: bool
) -> dict[str, Any]:
    schema: dict[str, Any] | None = None
    if isinstance(constraint, JsonSchema):
        try:
            schema = msgspec.json.decode(constraint.schema)
        except msgspec.MsgspecError as error:
            raise EngineError("invalid_value", f"The schema is not JSON: {error}", "constraint") from None
        if not isinstance(schema, dict):
            raise EngineError("invalid_value", "The schema is not a JSON object.", "constraint")
    if kind.name == "vllm":
        return {"structured_outputs": _structured(constraint, schema)}
    if isinstance(constraint, Regex):
        return {"regex": constraint.pattern}
    if isinstance(constraint, Choice):
        if kind.name == "llamacpp":
            options = [json.dumps(option, ensure_ascii=False) for option in constraint.options]
            return {"grammar": f"root ::= {' | '.join(options)}"}
        return {"regex": "(" + "|".join(re.escape(option) for option in constraint.options) + ")"}
    schema = schema or {"type": "object"}
    if kind.name == "llamacpp" and not chat:
        return {"json_schema": schema}
    if isinstance(constraint, JsonObject):
        return {"response_format": {"type": "json_object"}}
    format_ = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    return {"response_format": format_}


def _structured(constraint: Any, schema: dict[str, Any] | None) -> dict[str, Any]:
    if isinstance(constraint, JsonSchema):
        return {"json": schema}
    if isinstance(constraint, Regex):
        return {"regex": constraint.pattern}
    if isinstance(constraint, Choice):
        return {"choice": list(constraint.options)}
    if isinstance(constraint, Grammar):
        return {"grammar": constraint.lark}
    return {"json_object": True}
