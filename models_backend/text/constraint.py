"""Answers that can only be what a constraint allows: JSON, a regular expression, a choice, a grammar (llguidance).

JSON is written without blanks, save one after a comma or a colon where the model likes it so: a small model that may
write any number of blanks writes nothing else. Grammars are Lark's, as llguidance reads them; their tokens are text,
never a model's special tokens. What a constraint may cost is bounded three times: by a trial in another process (see
constraint_gate.py), by the library's limits, and by the number of steps.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from models_backend.protocol.params import Choice, Constraint, Grammar, JsonObject, JsonSchema, Regex

from .contract import EngineError

GATE = Path(__file__).with_name("constraint_gate.py")
PATIENCE = 5.0  # seconds for the trial, which ends itself after one second of work
LEXER_STATES = 25_000  # at 1 to 2 kB each
MOST_KEPT = 16  # compiled constraints: the lanes of a run share one
MAX_REASON = 300
_JSON = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?", "lenient": False}
_LITERAL = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/|//[^\n]*|#[^\n]*')
_PLACE = re.compile(r"^(at )?\d+\(\d+\): ")


class Constraints:
    """Compiles constraints for one tokenizer. `eos` are the ids that end an answer."""

    def __init__(self, tokenizer: Any, eos: frozenset[int]) -> None:
        """`tokenizer` is one of transformers'. Takes up to a second; raises EngineError if it cannot be followed."""
        from llguidance.hf import from_tokenizer

        self._eos = eos
        try:
            self._tokenizer = from_tokenizer(tokenizer, eos_token=sorted(eos) or None)
        except (ValueError, AttributeError, TypeError, RuntimeError) as error:
            raise EngineError(
                "invalid_constraint",
                f"This model's tokenizer cannot be held to a constraint: {_shortened(str(error))}",
                "constraint",
            ) from None
        self._compiled = lru_cache(maxsize=MOST_KEPT)(self._compile)

    def form(self, constraint: Constraint) -> "GrammarForm":
        """A new follower of `constraint`. Raises EngineError."""
        made = self._compiled(constraint)
        if isinstance(made, EngineError):
            raise made
        return GrammarForm(made.deep_copy(), self._eos, self._tokenizer.vocab_size)

    def _compile(self, constraint: Constraint) -> Any:
        """A matcher at its beginning, or the refusal: what was refused once is not tried again and again."""
        from llguidance import LLMatcher, LLParserLimits

        try:
            grammar = grammar_for(constraint)
            if not isinstance(constraint, JsonObject | Choice):
                _try_out(grammar)
            limits = LLParserLimits(max_lexer_states=LEXER_STATES, verbose_errors=False)
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
            if not matcher.is_error():
                matcher.compute_bitmask()
            if matcher.is_error():
                raise _invalid(matcher.get_error())
            return matcher
        except EngineError as error:
            return error


class GrammarForm:
    """A contract.Form over the library's matcher, which is moved to where the ids are."""

    def __init__(self, matcher: Any, eos: frozenset[int], vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._ids: list[int] = []
        self._allowed: bytes | None = None
        self._eos = eos

    def allowed(self, ids: Sequence[int]) -> bytes:
        self._go_to(ids)
        if self._allowed is None:
            self._allowed = self._matcher.compute_bitmask()
            if self._matcher.is_error():
                raise _too_costly(self._matcher.get_error())
        return self._allowed

    def complete(self, ids: Sequence[int]) -> bool:
        self._go_to(ids)
        if not self._matcher.is_accepting():
            return False
        left = bytearray(self.allowed(ids))
        for token in self._eos:
            if token >> 3 < len(left):
                left[token >> 3] &= ~(1 << (token & 7))
        return not any(left)

    def _go_to(self, ids: Sequence[int]) -> None:
        known = len(self._ids)
        if known > len(ids) or list(ids[:known]) != self._ids:
            self._matcher.reset()
            self._ids, self._allowed, known = [], None, 0
        fresh = list(ids[known:])
        if not fresh:
            return
        known_ids = next((place for place, token in enumerate(fresh) if token >= self._vocabulary), len(fresh))
        taken = self._matcher.try_consume_tokens(fresh[:known_ids])  # never gets over an id that it does not know
        self._ids += fresh[:taken]
        self._allowed = None
        if self._matcher.is_error():
            raise _too_costly(self._matcher.get_error())
        if taken < len(fresh):
            raise EngineError(
                "constraint_broken",
                f"prefix: id {fresh[taken]} at place {len(self._ids)} is not allowed there by the constraint.",
                "prefix",
            )


def grammar_for(constraint: Constraint) -> str:
    """`constraint` in the library's own notation. Raises EngineError `invalid_constraint`."""
    from llguidance import LLMatcher

    try:
        match constraint:
            case JsonObject():
                return str(LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=_JSON))
            case JsonSchema(schema=schema):
                return str(LLMatcher.grammar_from_json_schema(schema, overrides=_JSON))
            case Regex(pattern=pattern):
                return str(LLMatcher.grammar_from_regex(pattern))
            case Choice(options=options):
                return str(LLMatcher.grammar_from_lark("start: " + " | ".join(json.dumps(one) for one in options)))
            case Grammar(lark=lark):
                if "temperature" in _LITERAL.sub("", lark):
                    raise ValueError("a temperature inside a grammar is not supported; use the parameter.")
                return str(LLMatcher.grammar_from_lark(lark))
    except ValueError as error:
        raise _invalid(str(error)) from None


def _try_out(grammar: str) -> None:
    """Compile `grammar` where it can do no harm. Raises EngineError if the library refuses it, or it costs too much."""
    command = [sys.executable, "-I", str(GATE)]
    try:
        trial = subprocess.run(command, input=grammar.encode(), capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise _invalid("it takes too much time.") from None
    if trial.returncode:
        raise _invalid("it takes too much work.")
    if trial.stdout:
        raise _invalid(trial.stdout.decode(errors="replace"))


def _invalid(reason: str) -> EngineError:
    return EngineError("invalid_constraint", f"The constraint cannot be used: {_shortened(reason)}", "constraint")


def _too_costly(reason: str) -> EngineError:
    return EngineError(
        "constraint_too_costly",
        f"The constraint became too costly to follow, so the answer ends here: {_shortened(reason)}",
        "constraint",
    )


def _shortened(reason: str) -> str:
    """The library's words without the excerpts and the state that it shows around them."""
    if reason.startswith("NoExtensionBias"):
        return "no text at all can satisfy it."
    if "fuel" in reason:
        return "it takes too much work."
    lines = [line.strip() for line in reason.split("\n<")[0].splitlines() if line.strip()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    why = (told or lines or [""])[0]
    return _PLACE.sub("", why)[:MAX_REASON]
