"""What each kind of server can do, and under which names: the one table that requests and refusals are made from.

A parameter that a server would take without a word and ignore is counted as one that it cannot do.
"""

from dataclasses import dataclass, field, replace

from models_backend.protocol.params import Params

# Ours: the server's. Every kind takes these.
_COMMON = {name: name for name in ("temperature", "top_p", "max_tokens", "stop", "seed")}
_PENALTIES = {name: name for name in ("frequency_penalty", "presence_penalty")}
_LOCAL = {name: name for name in ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids")}
_JSON = frozenset({"json_object", "json_schema"})
_ALL_CONSTRAINTS = ("json_object", "json_schema", "regex", "choice", "grammar")

_NEVER = {
    "strength": "an adapter's strength is set where its weights are, and {title} does not offer that.",
    "prefix": "a branch begins with token ids, which {title} does not take as the beginning of an answer.",
    "shadows": "shadows need the distribution behind every token, which {title} does not give.",
    "tools": "{title} answers with calls of tools apart from the text, and a lane holds text.",
    "dice": "{title} draws with dice of its own; the same ones for all lanes need one engine.",
    "proof": "the weights are elsewhere: that this adapter is really at work rests on the word of {title}.",
}


@dataclass(frozen=True)
class Kind:
    """`fields` are the parameters that can be sent, by our names. `constraints` are the kinds of constraints.

    `chat_only` cannot be sent with plain text. `continues` says how a chat answer is begun for the model: "flags" by
    two fields, "last" by a final assistant message alone, "" not at all. `stream_options` ask for counts.
    `own` are further reasons, and win over the general one.
    """

    name: str
    title: str
    fields: dict[str, str]
    constraints: frozenset[str] = frozenset()
    chat_only: frozenset[str] = frozenset()
    continues: str = ""
    ids: bool = False
    stream_options: dict[str, bool] | None = field(default_factory=lambda: {"include_usage": True})
    most: dict[str, int] = field(default_factory=dict)  # upper limits that are narrower than ours
    own: dict[str, str] = field(default_factory=dict)

    def cannot(self, *, tuned: bool) -> dict[str, str]:
        """What a model of this server cannot do, each with the reason in words."""
        missing = {
            name: "{title} does not offer it."
            for name in Params.__struct_fields__
            if name not in self.fields and name not in ("dice", "constraint")
        }
        if not self.constraints:
            missing["constraint"] = "{title} does not offer it."
        else:
            for kind in _ALL_CONSTRAINTS:
                if kind not in self.constraints:
                    missing[f"constraint.{kind}"] = "{title} takes no constraint of this kind."
        if not self.continues:
            missing["continue_final"] = "{title} always begins a new message."
        never = {name: why for name, why in _NEVER.items() if tuned or name != "proof"}
        reasons = {**missing, **never, **self.own}
        return {name: why.format(title=self.title) for name, why in reasons.items()}


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "openai",
            "this server",
            {**_COMMON, **_PENALTIES, "logit_bias": "logit_bias", "top_logprobs": "top_logprobs"},
            constraints=_JSON,
            chat_only=frozenset({"constraint"}),
        ),
        Kind(
            "vllm",
            "vLLM",
            {
                **_COMMON,
                **_PENALTIES,
                **_LOCAL,
                "bad_words": "bad_words",
                "logit_bias": "logit_bias",
                "top_logprobs": "top_logprobs",
                "prompt_logprobs": "prompt_logprobs",
            },
            constraints=frozenset(_ALL_CONSTRAINTS),
            continues="flags",
            ids=True,
            stream_options={"include_usage": True, "continuous_usage_stats": True},
        ),
        Kind(
            "sglang",
            "SGLang",
            {
                **_COMMON,
                **_PENALTIES,
                **_LOCAL,
                "logit_bias": "logit_bias",
                "top_logprobs": "top_logprobs",
            },
            constraints=_JSON | {"regex", "choice"},
            continues="flags",
            ids=True,
            stream_options={"include_usage": True, "continuous_usage_stats": True},
            own={"constraint.grammar": "{title} reads another notation of grammars than Lark's."},
        ),
        Kind(
            "llamacpp",
            "llama.cpp",
            {
                **_COMMON,
                **_PENALTIES,
                "top_k": "top_k",
                "min_p": "min_p",
                "typical_p": "typical_p",
                "repetition_penalty": "repeat_penalty",
                "logit_bias": "logit_bias",
                "top_logprobs": "top_logprobs",
            },
            constraints=_JSON | {"choice"},
            continues="last",
            most={"seed": 2**32 - 2},  # the next one stands for "any"
            own={
                "constraint.grammar": "{title} reads another notation of grammars than Lark's.",
                "constraint.regex": "{title} takes regular expressions inside JSON strings alone.",
            },
        ),
        Kind(
            "ollama",
            "Ollama",
            {**_COMMON, **_PENALTIES, "top_logprobs": "top_logprobs"},
            constraints=_JSON,
            own={"completion": "{title} puts plain text into the model's chat template. Use a chat prompt."},
        ),
        Kind(
            "transformers",
            "transformers serve",
            {
                "temperature": "temperature",
                "top_p": "top_p",
                "max_tokens": "max_tokens",
                "seed": "seed",
                "top_k": "generation_config.top_k",
                "min_p": "generation_config.min_p",
                "typical_p": "generation_config.typical_p",
                "repetition_penalty": "generation_config.repetition_penalty",
                "min_tokens": "generation_config.min_new_tokens",
            },
            stream_options=None,  # refused; the counts come by themselves
            own={
                "stop": "{title} leaves the stop text in the answer.",
                "frequency_penalty": "{title} makes a repetition penalty of it, which is something else.",
            },
        ),
    )
}


def with_logprobs(kind: Kind, offered: bool) -> Kind:
    """The same kind without log-probabilities, for versions of a server that do not have them yet."""
    if offered:
        return kind
    fields = {name: theirs for name, theirs in kind.fields.items() if name != "top_logprobs"}
    own = {**kind.own, "top_logprobs": "this version of {title} does not give log-probabilities."}
    return replace(kind, fields=fields, own=own)
