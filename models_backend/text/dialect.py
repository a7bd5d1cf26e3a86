"""A model's tokenizer and chat template as the engine's Dialect. Knows transformers' tokenizers by what they offer."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from models_backend.protocol.runs import Completion, Prompt

from .contract import EngineError
from .template import ChatTemplate


class TokenizerDialect:
    """Text to ids as transformers does it: a chat brings its own special tokens, plain text gets the tokenizer's."""

    def __init__(self, tokenizer: Any, eos: frozenset[int]) -> None:
        self.eos = eos
        self._tokenizer = tokenizer
        template = tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        self._template = ChatTemplate(template, special_tokens(tokenizer)) if template else None
        # The lanes of a run bring the same prompt; a long one takes a tenth of a second to read.
        self._cached = lru_cache(maxsize=4)(self._encode)

    def encode(self, prompt: Prompt) -> list[int]:
        return self._cached(prompt)

    def decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, Completion):
            return list(self._tokenizer(prompt.text, verbose=False).input_ids)
        if self._template is None:
            raise EngineError(
                "no_chat_template",
                "This model has no chat template, so it cannot answer messages. Use Completion: it goes on with text.",
            )
        text = self._template.render([{"role": one.role, "content": one.content} for one in prompt.messages])
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def special_tokens(tokenizer: Any) -> dict[str, str]:
    """`bos_token`, `eos_token` ... as texts."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
