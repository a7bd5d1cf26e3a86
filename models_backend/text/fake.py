"""A model made of words, for tests and for work on the page: no torch, no weights, the same engine around it.

Answers are a function of (prompt, model, seed, place in the answer). `ft:fake-base:shout` says what the base would, but
loudly. Of the parameters it obeys those that end an answer, the seed, temperature 0 and a choice. Marks in the prompt
make trouble on purpose: `[[crash]]` ends the process when the row starts, `[[fail]]` fails the row after a few tokens,
`[[long]]` answers until max_tokens.

It also has an opinion of every token: a small distribution that depends on what stands before it, and in which capitals
are less likely for the base. All figures follow from it as a real model's would.
"""

import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from models_backend.protocol.events import Error
from models_backend.protocol.params import Choice, Constraint
from models_backend.protocol.runs import Completion, Prompt
from models_backend.protocol.workers import ModelInfo, Proof

from .choice_form import ChoiceForm
from .contract import Backend, EngineError, Feed, Form, Note, Outcome, Seen

BASE = "fake-base"
SHOUT = "ft:fake-base:shout"
CONTEXT = 32_768
FAIL_AFTER = 3  # tokens
OPINIONS = 24  # tokens that can follow, as far as the figures know

_WORDS = re.findall(
    r"\w+",
    """the a one this every small bright quiet patient early river harbour garden window letter engine lantern mountain
morning answer question story bridge market winter paper carries follows remembers repairs opens measures
borrows keeps finds crosses paints slowly twice together again nearby without before under beyond because while
and or but until café naïve Zürich""",
)
_EMOJI = ("🌊", "🌿", "👩🏽‍🚀", "✨", "🇳🇴", "日本")
_EOS = 256
_PIECES = [f" {word}" for word in _WORDS]
_LOUD = [piece.upper() for piece in _PIECES]
_TEXT = [*_PIECES, *_LOUD]
_FIRST = 257  # id of the first word; the ids below are bytes, so an emoji takes several and is cut at every step
_WORD_ID = {text: _FIRST + i for i, text in reversed(list(enumerate(_TEXT)))}
_RANKS = (1, 1, 1, 2, 1, 1, 3, 1, 2, 5)  # of what is said, mostly the first
_SHA = sha256("\n".join(_TEXT).encode()).hexdigest()

_CANNOT = {
    f"constraint.{kind}": "the fake model follows no constraint but a choice."
    for kind in ("json_object", "json_schema", "regex", "grammar")
}
INFOS = (
    ModelInfo(
        id=BASE,
        title="Fake base",
        description="Answers with made-up words, without a model.",
        context=CONTEXT,
        defaults={"temperature": 0.8},
        licence="Apache-2.0",
        sha256=_SHA,
        cannot=_CANNOT,
    ),
    ModelInfo(
        id=SHOUT,
        title="Fake shout",
        description="The fake base, but loud.",
        base=BASE,
        context=CONTEXT,
        defaults={"temperature": 0.8},
        licence="Apache-2.0",
        sha256=sha256(b"shout").hexdigest(),
        cannot=_CANNOT,
    ),
)


class FakeDialect:
    """Known words are one id, everything else is its UTF-8 bytes."""

    eos = frozenset({_EOS})

    def encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, Completion):
            return self._ids(prompt.text)
        turns = [f"<{message.role}>{message.content}</{message.role}>" for message in prompt.messages]
        return self._ids("".join([*turns, "<assistant>"]))

    def decode(self, ids: Sequence[int]) -> str:
        raw = [_TEXT[i - _FIRST].encode() if i >= _FIRST else bytes([i]) for i in ids if i != _EOS]
        return b"".join(raw).decode(errors="replace")

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        return [tuple(self._ids(word)), tuple(self._ids(f" {word}"))]

    def form(self, constraint: Constraint) -> Form:
        if not isinstance(constraint, Choice):
            raise EngineError("invalid_constraint", "The fake model follows no constraint but a choice.", "constraint")
        return ChoiceForm([self._ids(option) for option in constraint.options], _EOS)

    @staticmethod
    def _ids(text: str) -> list[int]:
        ids: list[int] = []
        for piece in re.findall(r"\s?[^\s]+|\s", text):
            ids += [_WORD_ID[piece]] if piece in _WORD_ID else list(piece.encode())
        return ids


class FakeRunner:
    """Remembers the ids fed to each slot and follows a script that is drawn from their digest."""

    device = "fake"
    precision = "words"
    context = CONTEXT
    vocabulary = _FIRST + len(_TEXT)
    copies = True
    cache_slots = 2
    tokens: int | None = None
    chunk: int | None = 1024

    def __init__(self, slots: int, delay: float = 0.0) -> None:
        self.slots = slots
        self._delay = delay / 1000
        self._fed: dict[int, list[int]] = {}
        self._scripts: dict[int, Script] = {}
        self._dialect = FakeDialect()

    def forward(self, feeds: Sequence[Feed]) -> list[Outcome]:
        if self._delay:
            time.sleep(self._delay)
        for feed in feeds:
            self._fed.setdefault(feed.slot, [])[feed.start :] = feed.tokens
        made = []
        for place, feed in enumerate(feeds):
            shadows = [one for one in feeds if one.shadows == place]
            made.append(self._one(feed, shadows) if feed.shadows is None else Outcome())
        return made

    def copy(self, source: int, target: int, length: int) -> None:
        self._fed[target] = self._fed.get(source, [])[:length]

    def release(self, slot: int) -> None:
        self._scripts.pop(slot, None)

    def _one(self, feed: Feed, shadows: Sequence[Feed]) -> Outcome:
        ids = self._fed[feed.slot]
        models = [feed, *shadows]
        scored: list[Seen] = []
        if feed.score is not None:
            first = len(ids) - feed.wanted + 1
            for place, target in enumerate(feed.score.targets, first):
                scored.append(_seen(ids[:place], target, models, feed.score.top))
        if feed.draw is None:
            return Outcome(scored=scored)
        if ids != [*feed.draw.prompt, *feed.draw.answer]:
            return Outcome(error=Error("engine_error", "The ids fed are not the prompt and the answer so far."))
        script = self._scripts.get(feed.slot)
        if script is None:
            script = self._scripts[feed.slot] = Script(self._dialect.decode(feed.draw.prompt), feed)
        if script.fails and len(feed.draw.answer) >= FAIL_AFTER:
            return Outcome(error=Error("engine_error", "The prompt asked this answer to fail."))
        token = script.token(feed.draw.answer, feed.draw.rules.form)
        if token == _EOS and len(feed.draw.answer) < feed.draw.used.min_tokens:
            token = _FIRST
        top = feed.draw.used.top_logprobs
        seen = None if top is None and not shadows else _seen(ids, token, models, top or 0)
        return Outcome(token=token, seen=seen, scored=scored)


def _loud(feed: Feed) -> bool:
    return feed.adapter is not None and feed.strength > 0


def _seen(before: Sequence[int], token: int, models: Sequence[Feed], top: int) -> Seen:
    """What the models of some feeds think of `token` behind the ids `before`."""
    opinions = [_opinion(before, token, _loud(feed)) for feed in models]
    first, *others = [
        Seen(
            token,
            opinion[token],
            1 + list(opinion).index(token),
            -sum(math.exp(value) * value for value in opinion.values()),
            tuple(opinion.items())[:top],
            _distance(opinions[0], opinion),
            _distance(opinion, opinions[0]),
        )
        for opinion in opinions
    ]
    return replace(first, shades=tuple(others))


def _opinion(before: Sequence[int], token: int, loud: bool) -> dict[int, float]:
    """Log-probabilities of the tokens that can follow, the likeliest first. `token` is among them."""
    digest = sha256(f"{len(before)} {list(before[-8:])}".encode()).digest()
    words = ((digest[0] + i) // 2 % len(_PIECES) + i % 2 * len(_PIECES) for i in range(OPINIONS))  # soft and loud
    others = (_FIRST + word for word in words)
    order = [other for other in others if other != token][: OPINIONS - 1]
    unlike = token >= _FIRST and (token >= _FIRST + len(_PIECES)) != loud
    order.insert(_RANKS[digest[1] % len(_RANKS)] - 1 + (3 if unlike else 0), token)
    fall = math.log(0.3 + digest[2] / 512)
    total = math.log(sum(math.exp(fall * rank) for rank in range(len(order))))
    return {id_: fall * rank - total for rank, id_ in enumerate(order)}


def _distance(one: dict[int, float], other: dict[int, float]) -> float:
    """KL(one || other), which know the same tokens."""
    return max(0.0, sum(math.exp(value) * (value - other[id_]) for id_, value in one.items()))


class Script:
    """All the tokens of one answer, written as far as they have been asked for.

    Where the answer is not what was written, a new script goes on from there, which depends on what was said instead.
    """

    def __init__(self, prompt: str, feed: Feed) -> None:
        if "[[crash]]" in prompt:
            os.abort()
        assert feed.draw is not None
        used = feed.draw.used
        seed = used.seed if used.temperature else "greedy"
        self.fails = "[[fail]]" in prompt
        self._loud = _loud(feed)
        self._key = f"{seed}\n{prompt}"
        self._words = 0
        self._ids: list[int] = []
        self._said = 0  # ids of the answer that were held against the script
        self._length = None if "[[long]]" in prompt else 20 + self._draw("length") % 40

    def token(self, answer: Sequence[int], form: Form | None = None) -> int:
        """What follows `answer`, which is the one of the last call or longer."""
        if form is not None:
            bits = form.allowed(answer)
            allowed = [i for i in range(8 * len(bits)) if bits[i >> 3] >> (i & 7) & 1]
            return allowed[self._draw(f"form {len(answer)}") % len(allowed)]
        for place in range(self._said, len(answer)):
            if self._at(place) != answer[place]:
                self._ids[place:] = [answer[place]]
                self._key += f"\n{place} {answer[place]}"
            self._said = place + 1
        return self._at(len(answer))

    def _at(self, place: int) -> int:
        while len(self._ids) <= place:
            self._ids += self._next()
            self._words += 1
        return self._ids[place]

    def _next(self) -> list[int]:
        if self._length is not None and self._words >= self._length:
            return [_EOS]
        number = self._draw(f"word {self._words}")
        if self._words % 7 == 6:
            return list(f" {_EMOJI[number % len(_EMOJI)]}".encode())
        if self._words % 7 == 5 and self._loud:
            return list(b"!")
        word = number % len(_PIECES)
        return [_FIRST + word + (len(_PIECES) if self._loud else 0)]

    def _draw(self, what: str) -> int:
        return int.from_bytes(sha256(f"{self._key}\n{what}".encode()).digest()[:6])


def build(slots: int, delay: float, note: Note) -> Backend:
    """Load nothing, at once."""
    note("The fake engine needs no weights.")
    digest = INFOS[1].sha256 or ""
    proof = Proof("proven", True, 1.0, digest, "A fake model, so a fake proof: its answers are in capitals.")
    return Backend(FakeDialect(), FakeRunner(slots, delay), {SHOUT: proof})
