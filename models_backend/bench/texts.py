"""What is read: prompts of a given length, no two alike, and the fixed texts on which precision is judged."""

import random
import tomllib
from pathlib import Path
from typing import Any

SHORT = 64  # tokens of a prompt whose answer's speed is measured
_WHEN = ("One evening", "Before the rain", "At first light", "Some days later", "In the third week", "Near midnight")
_WHO = ("the lighthouse keeper", "a young teacher", "the ferryman", "my grandmother", "the engineer", "an old sailor")
_DID = ("wrote a letter about", "looked long at", "asked everybody about", "could not forget", "drew a map of")
_WHAT = ("the ship that had passed", "the garden behind the wall", "the noise in the harbour", "the broken clock")
_WHY = ("because nobody else would", "and said nothing", "while the gulls cried", "as if it were the last time")


def known() -> list[str]:
    """The set on which precision is judged."""
    return list(tomllib.loads((Path(__file__).parent / "known_texts.toml").read_text(encoding="utf-8"))["texts"])


class Prompts:
    """Cuts made-up stories to a number of tokens. Prompts differ from their first words on: none is half known."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` holds the tokenizer of the model; None counts words instead."""
        self._tokenizer: Any = None
        if folder is not None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def of(self, tokens: int, number: int) -> str:
        """Prompt `number` with about so many tokens (a cut text is read again in one token more or less)."""
        told = story(number, tokens)
        if self._tokenizer is None:
            return " ".join(told.split()[:tokens])
        ids = self._tokenizer.encode(told, add_special_tokens=False).ids[:tokens]
        return str(self._tokenizer.decode(ids)).rstrip()


def story(number: int, words: int) -> str:
    """At least so many words, always the same for a number."""
    draw = random.Random(number)
    told: list[str] = []
    count = 0
    while count < words:
        sentence = " ".join(draw.choice(part) for part in (_WHEN, _WHO, _DID, _WHAT, _WHY))
        told.append(f"{sentence}.")
        count += len(sentence.split())
    return f"Story {number}. " + " ".join(told)
