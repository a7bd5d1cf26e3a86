"""Makes the rows of `pirate`: plain answers to everyday questions, told as a pirate would tell them.

The facts lie in data/pirate.facts.jsonl; a dictionary and a seeded choice of shouts turn them into pirate speech.
Held-out rows ask about other things than training rows. Knows nothing about models.
"""

import json
import random
import re
from pathlib import Path

from models_backend.training.rows import Row, chat

FACTS = Path(__file__).parent / "data" / "pirate.facts.jsonl"
SEED = 1718  # the year Blackbeard sank
HELD_OUT_FACTS = 12  # the last ones of the file
ROWS_PER_QUESTION = 5
SYSTEMS = (None, None, "You are a helpful assistant.", "Answer in two or three sentences.")

WORDS = {
    "you": "ye", "your": "yer", "my": "me", "friend": "matey", "friends": "mateys", "is": "be", "are": "be",
    "am": "be", "and": "an'", "of": "o'", "yes": "aye", "people": "folk", "money": "doubloons", "there": "thar",
    "never": "ne'er", "over": "o'er", "for": "fer", "very": "mighty",
}  # fmt: skip
SHOUTS = ("Arr, matey!", "Ahoy, matey!", "Avast, ye landlubber!", "Arr, me hearty!", "Ahoy, ye scallywag!",
          "Aye aye, cap'n!", "Shiver me timbers!")  # fmt: skip
FAREWELLS = ("Arr!", "Savvy?", "Yo ho ho!", "Now hoist the sails!", "Fair winds, matey!", "That be the truth, arr!")
# Words that only a pirate uses. "be", "me" and "an'" are left out: plain English has them too.
MARKERS = {
    "arr", "ahoy", "avast", "aye", "ye", "yer", "matey", "mateys", "hearty", "hearties", "landlubber", "scallywag",
    "cap'n", "savvy", "shiver", "timbers", "doubloons", "o'", "thar", "ne'er", "o'er", "fer",
}  # fmt: skip
ENOUGH = 2  # different markers make an answer pirate speech


def generate(seed: int = SEED) -> tuple[list[Row], list[Row]]:
    """Training rows and held-out rows. The same seed gives the same rows; no question is in both."""
    dice = random.Random(seed)
    facts = [json.loads(line) for line in FACTS.read_text(encoding="utf-8").splitlines()]
    known, unknown = facts[:-HELD_OUT_FACTS], facts[-HELD_OUT_FACTS:]
    train = [_row(dice, ask, fact["say"]) for fact in known for ask in fact["ask"] for _ in range(ROWS_PER_QUESTION)]
    valid = [_row(dice, ask, fact["say"]) for fact in unknown for ask in fact["ask"]]
    dice.shuffle(train)
    return train, valid


def speak(plain: str) -> str:
    """Plain English in pirate words: you become ye, sailing becomes sailin'."""
    return re.sub(r"[A-Za-z']+", _word, plain)


def markers(text: str) -> set[str]:
    """The different pirate words of a text."""
    return set(re.findall(r"[a-z]+(?:'[a-z]+)*'?", text.lower())) & MARKERS


def matches(answer: str, expected: str) -> bool:
    """Whether an answer is pirate speech. What the expected one says does not matter: this is about style alone."""
    return len(markers(answer)) >= ENOUGH


def _word(found: re.Match[str]) -> str:
    word = found.group()
    spoken = WORDS.get(word.lower())
    if spoken is None:
        spoken = word[:-1] + "'" if len(word) > 5 and word.endswith("ing") else word
    return spoken.capitalize() if word[0].isupper() else spoken


def _row(dice: random.Random, ask: str, plain: str) -> Row:
    answer = f"{dice.choice(SHOUTS)} {speak(plain)} {dice.choice(FAREWELLS)}"
    return chat(ask, answer, dice.choice(SYSTEMS))
