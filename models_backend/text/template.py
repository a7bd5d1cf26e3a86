"""Chat templates: programs from strangers, run in jinja's immutable sandbox with limits on time and size.

A template may loop, so the time limit is checked at every line it runs; it may multiply text, so whatever goes into or
comes out of an operation is weighed, lists in lists included, not only the output.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from types import FrameType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from .contract import EngineError

MAX_CHARS = 1 << 20
MAX_SECONDS = 2.0
_DULL = ("center", "format", "indent", "wordwrap", "urlize", "pprint", "random", "xmlattr")  # filters that grow text
_GROWING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate", "encode"})


_HERE = "DIPTYCH_CONTINUES_HERE "  # put behind what is continued, to find its end again


class _Refused(Exception):
    """The template itself says no, by raise_exception()."""


class _TooMuch(Exception):
    """A limit was reached."""


NO_TOOLS = "its template has no place for tools."


def takes_tools(source: str) -> bool:
    """Whether a template does anything with tools. One that does not compile takes none."""
    try:
        return "tools" in _words(_environment().parse(source))
    except (jinja2.TemplateError, RecursionError):
        return False


class ChatTemplate:
    """A compiled chat template. `special` are the tokenizer's special tokens by name, as the template expects them."""

    def __init__(self, source: str, special: dict[str, str], max_seconds: float = MAX_SECONDS) -> None:
        """Raises EngineError, code `bad_template`, if it does not compile."""
        environment = _environment()
        self._special = special
        self._max_seconds = max_seconds
        try:
            self._template = environment.from_string(source)
            words = _words(environment.parse(source))
        except (jinja2.TemplateError, RecursionError) as error:
            raise EngineError("bad_template", f"The model's chat template is broken: {error}") from None
        self.takes_tools = "tools" in words
        self.takes_calls = "tool_calls" in words
        self.takes_answers = "tool" in words

    def render(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = (), continues: bool = False
    ) -> str:
        """The prompt text up to where the assistant begins. Raises EngineError.

        With `continues` it ends within the last message, where that one's content ends: as transformers'
        `continue_final_message`, with the blanks at its end only if the template keeps them.
        """
        messages = list(messages)
        if continues:
            messages[-1] = {**messages[-1], "content": messages[-1]["content"] + _HERE}
        values = {**self._special, "messages": messages, "tools": list(tools) or None, "documents": None}
        text = self._text(add_generation_prompt=not continues, **values)
        return _up_to_here(text, str(messages[-1]["content"])) if continues else text

    def _text(self, **values: Any) -> str:
        try:
            with _Deadline(self._max_seconds):
                return _joined(self._template.generate(**values))
        except _Refused as error:
            message = f"The model's chat template refuses these messages: {error}"
            raise EngineError("template_refused", message) from None
        except (_TooMuch, MemoryError) as error:
            raise EngineError("template_too_costly", f"The model's chat template was stopped: {error}") from None
        except Exception as error:  # a template may raise anything that an expression can
            raise EngineError("bad_template", f"The model's chat template failed: {error}") from None


class _Generator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """`a ~ b`, by a function that has a limit."""
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (abs(left) <= 1 << 32 and abs(right) <= 64):
            raise _TooMuch("it computes a number that is too big.")
        if operator == "*" and (
            _length(left) * _number(right) > MAX_CHARS or _length(right) * _number(left) > MAX_CHARS
        ):
            raise _TooMuch("it makes a text that is too long.")
        if operator == "%" and isinstance(left, str):
            raise _TooMuch("it formats text with %, which is not supported.")
        return _bounded(super().call_binop(context, operator, left, right))

    def concatenated(self, parts: Sequence[Any]) -> str:
        return str(_bounded("".join(str(_bounded(part)) for part in parts)))

    def call(self, __context: Any, __function: Any, *args: Any, **kwargs: Any) -> Any:
        method = getattr(__function, "__wrapped__", __function)  # the sandbox itself wraps str.format
        name = getattr(method, "__name__", "")
        if isinstance(getattr(method, "__self__", None), str) and name in _GROWING:
            raise _TooMuch(f"it calls .{name}() on a text, which is not supported.")
        if name == "replace":
            _check_replace(method.__self__, *args)
        _bounded((getattr(method, "__self__", None), args, kwargs))
        return _bounded(super().call(__context, __function, *args, **kwargs))


class _Generation(Extension):
    """`{% generation %}` marks the answer for trainers; for us its body is plain text."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Deadline:
    """Raises _TooMuch inside the running code once the time is over; costs a call for each line of the template."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._end = time.monotonic() + self._seconds
        self._before = sys.gettrace()
        sys.settrace(self._look)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _look(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if time.monotonic() > self._end:
            raise _TooMuch(f"it ran for more than {self._seconds:g} s.")
        return self._look


def _environment() -> "_Sandbox":
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], finalize=_bounded
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise, strftime_now=_strftime)
    for name in _DULL:
        environment.filters.pop(name, None)
    environment.filters = {name: _guarded(name, made) for name, made in environment.filters.items()}
    return environment


def _words(template: nodes.Template) -> set[str]:
    """All that a template names: variables, attributes, and texts that stand alone, as in message['role'] == 'tool'."""
    names = {node.name for node in template.find_all(nodes.Name)}
    names |= {node.attr for node in template.find_all(nodes.Getattr)}
    return names | {node.value for node in template.find_all(nodes.Const) if isinstance(node.value, str)}


def _up_to_here(text: str, content: str) -> str:
    """`text` before the mark at the end of `content`."""
    mark = _HERE.rstrip()
    at = text.rfind(mark)
    if at < 0 or content.removesuffix(_HERE).strip() not in text[:at]:
        message = "This model's chat template changes or leaves out the last message, so it cannot be continued."
        raise EngineError("template_refused", message, "continue_final")
    kept = text.startswith(_HERE, at)  # else the template trims: then what it trims behind the mark goes before it, too
    return text[:at] if kept else text[:at].rstrip()


def _joined(parts: Iterable[str]) -> str:
    texts, length = [], 0
    for part in parts:
        length += len(part)
        if length > MAX_CHARS:
            raise _TooMuch(f"its output is longer than {MAX_CHARS} characters.")
        texts.append(part)
    return "".join(texts)


def _guarded(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that weighs what it is given and what it gives."""

    @wraps(made)  # jinja's marks for filters that want the environment are attributes
    def weighed(*args: Any, **kwargs: Any) -> Any:
        _bounded((args, kwargs))
        if name == "replace":
            _check_replace(*args[1:])  # the first is the environment
        return _bounded(made(*args, **kwargs))

    return weighed


def _check_replace(text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    if (str(text).count(str(old)) + 1) * len(str(new)) > MAX_CHARS:
        raise _TooMuch("it makes a text that is too long.")


def _bounded(value: Any) -> Any:
    """Return `value`, which weighs no more than the longest output."""
    heavy, seen = [value], 0
    while heavy:
        part = heavy.pop()
        seen += 1 + (len(part) if isinstance(part, str | bytes) else 0)
        if seen > MAX_CHARS:
            raise _TooMuch("it makes a text or a list that is too long.")
        if isinstance(part, Namespace):
            part = object.__getattribute__(part, "_Namespace__attrs")  # it shows its contents to templates alone
        if isinstance(part, dict):
            heavy += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            heavy += part
    return value


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _raise(message: str) -> None:
    raise _Refused(message)


def _strftime(format: str) -> str:
    return datetime.now().strftime(str(format)[:200])


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    """Plain JSON: jinja's own filter escapes for HTML, which no chat template wants."""
    step = None if indent is None else min(indent, 8)
    return str(_bounded(json.dumps(value, ensure_ascii=ensure_ascii, indent=step)))
