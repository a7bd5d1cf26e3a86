"""A model's tokenizer and chat template as the engine's Dialect. Knows transformers' tokenizers by what they offer."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from models_backend.protocol.params import Constraint
from models_backend.protocol.runs import Completion, Prompt

from .chat import turns
from .constraint import Constraints
from .contract import EngineError, Form
from .template import ChatTemplate


class TokenizerDialect:
    """Text to ids as transformers does it: a chat brings its own special tokens, plain text gets the tokenizer's."""

    def __init__(self, tokenizer: Any, eos: frozenset[int]) -> None:
        self.eos = eos
        self._tokenizer = tokenizer
        special = special_tokens(tokenizer)
        self._templates = {name: ChatTemplate(text, special) for name, text in named(tokenizer.chat_template).items()}
        # The lanes of a run bring the same prompt; a long one takes a tenth of a second to read.
        self._cached = lru_cache(maxsize=4)(self._encode)

    def encode(self, prompt: Prompt) -> list[int]:
        return self._cached(prompt)

    def decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        bare = word.lstrip(" ")
        written = [
            tuple(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
            for text in ([bare, f" {bare}"] if bare else [word])
        ]
        return list(dict.fromkeys(ids for ids in written if ids))

    def form(self, constraint: Constraint) -> Form:
        return self._constraints.form(constraint)

    @cached_property
    def _constraints(self) -> Constraints:
        return Constraints(self._tokenizer, self.eos)  # half a second and some megabytes: when first asked for

    def _encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, Completion):
            return list(self._tokenizer(prompt.text, verbose=False).input_ids)
        plain = self._templates.get("default")
        template = self._templates.get("tool_use", plain) if prompt.tools else plain
        if template is None:
            raise EngineError(
                "no_chat_template",
                "This model has no chat template, so it cannot answer messages. Use Completion: it goes on with text.",
            )
        text = turns(prompt, template)
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def named(template: Any) -> dict[str, str]:
    """The chat templates by name that we know: `default`, and `tool_use` where a model has one of its own for tools."""
    several = template if isinstance(template, dict) else {"default": template}
    return {name: several[name] for name in ("default", "tool_use") if several.get(name)}


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """`bos_token`, `eos_token` ... as texts."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
