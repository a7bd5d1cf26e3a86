"""Answers that can only be what was asked for, at any draw; refusals by name; bounds on what a constraint may cost."""

import json
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_backend.protocol.events import LaneDone, LaneFailed
from models_backend.protocol.params import Choice, Constraint, Grammar, JsonObject, JsonSchema, Params, Regex
from models_backend.protocol.runs import Completion
from models_backend.protocol.workers import ModelInfo
from models_backend.text import constraint, fake
from models_backend.text.choice_form import ChoiceForm
from models_backend.text.constraint import Constraints
from models_backend.text.contract import Backend, EngineError, Form, Request
from models_backend.text.dialect import TokenizerDialect
from models_backend.text.engine import Engine
from models_backend.text.lora import Riders
from models_backend.text.modules import pick_runner

from . import tiny
from .byte_tokens import tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENIZER = tokenizer()
EOS = frozenset({TOKENIZER.eos_token_id})
SCHEMA = """{"type": "object", "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer",
"minimum": 0, "maximum": 120}, "ok": {"type": "boolean"}}, "required": ["name", "age", "ok"],
"additionalProperties": false}"""


@pytest.fixture(scope="module")
def constraints() -> Constraints:
    return Constraints(TOKENIZER, EOS)


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False).input_ids)


def allowed(form: Form, ids: Sequence[int]) -> set[int]:
    bits = form.allowed(ids)
    return {i for i in range(8 * len(bits)) if bits[i >> 3] >> (i & 7) & 1}


def takes(form: Form, text: str) -> bool:
    """Whether `text` may be said, token by token, with an end behind it."""
    ids: list[int] = []
    for token in ids_of(text):
        if token not in allowed(form, ids):
            return False
        ids.append(token)
    return allowed(form, ids) >= EOS


@pytest.mark.parametrize(
    ("one", "good", "bad"),
    [
        (JsonObject(), ['{}', '{"a":[1,{"b":null}]}', '{"a": 1, "b": 2}'], ['[]', '{"a":  1}', ' {}', '{\n}', "{}{}"]),
        (JsonSchema(SCHEMA), ['{"name":"é","age":7,"ok":true}'], ['{"name":"a","age":121,"ok":true}', "{}"]),
        (Regex("[a-c]{2}(yes|no)?"), ["ab", "abyes", "cano"], ["a", "abc", "abyesno", " ab"]),
        (Choice(("yes", 'q"uo\\te', "two\nlines", " yes", "é😀")), ["yes", " yes", 'q"uo\\te', "two\nlines", "é😀"],
         ["y", "yesno", "é"]),
        (Grammar('start: "(" start ")" | "x"'), ["x", "((x))"], ["((x)", "(x))", ""]),
        (Regex("a/b//c"), ["a/b//c"], ["a/b"]),
    ],
)  # fmt: skip
def test_a_form_takes_what_its_constraint_describes_and_nothing_else(
    constraints: Constraints, one: Constraint, good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert takes(constraints.form(one), text), text
    for text in bad:
        assert not takes(constraints.form(one), text), text


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (JsonSchema('{"type": "objct"}'), "objct"),
        (JsonSchema('{"type": "object", "not": {}}'), "not"),
        (JsonSchema("{"), "EOF while parsing"),
        (JsonSchema("[1]"), "Expecting object schema"),
        (JsonSchema("true"), "Expecting object schema"),
        (JsonSchema('{"type": "integer", "minimum": 5, "maximum": 4}'), "Unsatisfiable"),
        (JsonSchema('{"$ref": "http://example.com/x.json"}'), "does not fetch"),
        (JsonSchema('{"$ref": "file:///etc/passwd"}'), "does not fetch"),
        (JsonSchema('{"$ref": "#"}'), "no text at all"),
        (JsonSchema('{"items": ' * 5000 + "{}" + "}" * 5000), "recursion limit"),
        (JsonSchema('{"x-guidance": {"lenient": true}, "type": "object", "not": {}}'), "not"),
        (Regex("(a|b"), "unclosed group"),
        (Regex("(?=a)b"), "look-around"),
        (Regex("(" * 5000 + "a" + ")" * 5000), "nested"),
        (Grammar('start: "a" foo'), "unknown name"),
        (Grammar('foo: "a"'), "no start rule"),
        (Grammar("start: <|im_end|>"), "special token"),
        (Grammar('start: t\nt[temperature=0.7]: "a"'), "temperature"),
        (Grammar("start: " + "(" * 20_000 + '"a"' + ")" * 20_000), "too deeply nested"),
        (Grammar("\x00ÿ{{{"), "lexer error"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(
    constraints: Constraints, one: Constraint, words: str
) -> None:
    with pytest.raises(EngineError, match=words) as refusal:
        constraints.form(one)
    assert refusal.value.code == "invalid_constraint"
    assert refusal.value.field == "constraint"
    assert len(refusal.value.message) < 400
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    "one",
    [
        Grammar("start: A\nA: /.*a.{20}.*/ & /.*b.{20}.*/ & ~/.*c.{20}.*/"),
        JsonSchema('{"allOf": [{"type": "integer", "multipleOf": 99991}, {"multipleOf": 99989}]}'),
    ],
    ids=["patterns that must hold together", "a common multiple"],
)
def test_a_constraint_that_would_take_hours_is_refused_soon_and_not_tried_again(
    constraints: Constraints, one: Constraint
) -> None:
    with pytest.raises(EngineError, match=r"too much (work|time)") as first:
        constraints.form(one)
    begun = time.monotonic()
    with pytest.raises(EngineError) as second:
        constraints.form(one)
    assert second.value is first.value
    assert time.monotonic() - begun < 0.5


def test_a_trial_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, constraints: Constraints) -> None:
    monkeypatch.setattr(constraint, "PATIENCE", 0.001)
    with pytest.raises(EngineError, match="too much time"):
        constraints.form(Regex("hang"))


def test_temperature_is_only_refused_where_it_is_a_setting(constraints: Constraints) -> None:
    assert takes(constraints.form(Grammar('start: "temperature" // temperature\n')), "temperature")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_walk_through_a_form_is_a_pure_function_of_the_ids(data: st.DataObject) -> None:
    """Asked in another order, from the start, by another copy: the same bits, as preemption and resuming need it."""
    made = WALKED[data.draw(st.integers(0, len(WALKED) - 1))]
    form, ids = made(), []
    seen = []
    for _ in range(data.draw(st.integers(0, 12))):
        if form.complete(ids):
            break
        seen.append((list(ids), form.allowed(ids)))
        ends = fake.FakeDialect.eos if isinstance(form, ChoiceForm) else EOS
        options = sorted(allowed(form, ids) - ends)
        if not options:
            break
        ids.append(data.draw(st.sampled_from(options)))
    other = made()
    for before, bits in data.draw(st.permutations(seen)):
        assert other.allowed(before) == bits
        assert form.allowed(before) == bits


SHARED = Constraints(TOKENIZER, EOS)
WALKED: list[Callable[[], Form]] = [
    lambda: SHARED.form(JsonSchema(SCHEMA)),
    lambda: SHARED.form(Regex("(ab|a){2,5}")),
    lambda: SHARED.form(JsonObject()),
    lambda: fake.FakeDialect().form(Choice(("yes", "no", "yesterday"))),
]


@pytest.mark.parametrize("form", WALKED[1:2] + WALKED[3:])
def test_an_id_that_breaks_the_form_is_named_and_leaves_it_usable(form: Callable[[], Form]) -> None:
    one = form()
    before = one.allowed([])
    for ids in ([5], [10**6], [-1 % 2**31]):
        with pytest.raises(EngineError, match=f"id {ids[0]} at place 0") as refusal:
            one.complete(ids)
        assert refusal.value.field == "prefix"
        assert one.allowed([]) == before


def test_a_form_is_complete_when_nothing_but_an_end_can_follow(constraints: Constraints) -> None:
    form = constraints.form(Choice(("yes", "yesyes")))
    yes = ids_of("yes")
    assert [form.complete(ids) for ids in ([], yes, yes + yes)] == [False, False, True]
    assert constraints.form(Regex("a{0}")).complete([])


# Through the engine -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = tiny.model("llama", vocab_size=len(TOKENIZER) + 5)  # as models do, more rows than there are tokens
    runner = pick_runner(made, Riders(), 8, tiny.CONTEXT)
    backend = Backend(TokenizerDialect(TOKENIZER, EOS), runner)
    ready = Engine([ModelInfo(tiny.BASE, tiny.BASE)], lambda note: backend, "w", 8)
    ready.load()
    return ready


def ask(params: Params, lane: int = 0, **more: object) -> Request:
    return Request("r", lane, tiny.BASE, Completion("abc"), params, seed=lane, **more)  # type: ignore[arg-type]


def test_random_weights_write_valid_json_in_every_lane_beside_free_ones(engine: Engine) -> None:
    bound = Params(constraint=JsonSchema(SCHEMA), max_tokens=120, top_p=0.9)
    heard = tiny.answer(engine, *(ask(bound if lane % 2 else Params(max_tokens=20), lane) for lane in range(8)))
    for one in heard[1::2]:
        value = json.loads(one.text)
        assert set(value) == {"name", "age", "ok"} and 0 <= value["age"] <= 120
        assert isinstance(one.end, LaneDone) and one.end.finish == "stop"
        assert not EOS & set(one.ids)  # complete, so it did not have to say so


@pytest.mark.parametrize("one", [JsonSchema(SCHEMA), Regex("(yes|no|ab){3,9}!"), Choice(("true", "null", " yes"))])
def test_an_answer_that_is_gone_on_with_is_the_unbroken_one(engine: Engine, one: Constraint) -> None:
    params = Params(constraint=one, max_tokens=100)
    [whole] = tiny.answer(engine, ask(params))
    for cut in {0, 1, len(whole.ids) // 2, len(whole.ids)}:
        [rest] = tiny.answer(engine, ask(params, resume=tuple(whole.ids[:cut])))
        assert whole.ids[:cut] + rest.ids == whole.ids
        assert isinstance(rest.end, LaneDone)


def test_a_prefix_that_obeys_is_gone_on_with_and_one_that_does_not_is_refused(engine: Engine) -> None:
    params = Params(constraint=Choice(("yesno", "yesyes", "no")), max_tokens=30)
    [good] = tiny.answer(engine, ask(params, prefix=tuple(ids_of("yes"))))
    assert good.text in ("yesno", "yesyes")
    [bad] = tiny.answer(engine, ask(params, prefix=tuple(ids_of("yesab"))))
    assert isinstance(bad.end, LaneFailed)
    assert (bad.end.error.code, bad.end.error.field) == ("constraint_broken", "prefix")


def test_a_refused_constraint_fails_its_lane_at_once_and_names_the_field(engine: Engine) -> None:
    bad, good = tiny.answer(engine, ask(Params(constraint=Regex("("))), ask(Params(max_tokens=3), 1))
    assert isinstance(bad.end, LaneFailed) and isinstance(good.end, LaneDone)
    assert (bad.end.error.code, bad.end.error.field) == ("invalid_constraint", "constraint")


def test_a_form_of_nothing_ends_at_once(engine: Engine) -> None:
    [one] = tiny.answer(engine, ask(Params(constraint=Regex("a{0}"))))
    assert one.ids == [] and isinstance(one.end, LaneDone) and one.end.finish == "stop"


def test_a_ban_that_leaves_the_form_nothing_fails_by_name(engine: Engine) -> None:
    [one] = tiny.answer(engine, ask(Params(constraint=Choice(("x",)), bad_words=("x",))))
    assert isinstance(one.end, LaneFailed) and one.end.error.code == "no_token_left"


def test_a_form_that_is_complete_ends_the_answer_whatever_min_tokens_says(engine: Engine) -> None:
    [one] = tiny.answer(engine, ask(Params(constraint=Choice(("x",)), min_tokens=9)))
    assert one.text == "x" and isinstance(one.end, LaneDone) and one.end.finish == "stop"
    [other] = tiny.answer(engine, ask(Params(constraint=Regex("[a-d]*"), min_tokens=9, temperature=0.0)))
    assert len(other.ids) >= 9


def test_the_fake_model_chooses_and_refuses_other_constraints_by_name() -> None:
    backend = fake.build(4, 0.0, lambda note: None)
    ready = Engine(fake.INFOS, lambda note: backend, "w", 4)
    ready.load()
    requests = [
        Request("r", lane, fake.BASE, Completion("Hello"), Params(constraint=one), seed=lane)
        for lane, one in enumerate([Choice(("yes", "no", " harbour!")), Choice(("yes", "no")), Regex("a")])
    ]
    first, second, third = tiny.answer(ready, *requests)
    assert first.text in ("yes", "no", " harbour!") and second.text in ("yes", "no")
    assert isinstance(third.end, LaneFailed) and third.end.error.field == "constraint.regex"


def test_a_tokenizer_that_cannot_be_followed_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="cannot be held to a constraint") as refusal:
        Constraints(object(), EOS)
    assert refusal.value.field == "constraint"


def test_ids_beyond_the_tokenizers_are_never_said(engine: Engine) -> None:
    heard = tiny.answer(
        engine, *(ask(Params(constraint=Regex("(?s:.){30}"), max_tokens=40), lane) for lane in range(4))
    )
    assert max(token for one in heard for token in one.ids) < len(TOKENIZER)
