"""What a model cannot do is refused at the door: by name, with its engine's reason."""

import msgspec
import pytest

from models_backend.protocol.params import Params
from models_backend.protocol.runs import Chat, Completion, LaneSpec, Message, RunSpec, Tool, Variant
from models_backend.protocol.workers import ModelInfo
from playground.errors import BadParameter
from playground.runs.checking import check_spec

CANNOT = {
    name: f"why not {name}."
    for name in ("top_k", "typical_p", "constraint.regex", "strength", "prefix", "shadows", "tools", "continue_final",
                 "completion", "dice")
}  # fmt: skip
MODELS = [
    ModelInfo("far", "Far", cannot=CANNOT),
    ModelInfo("near", "Near"),
    ModelInfo("ft:near:x", "X", base="near"),
    ModelInfo("ft:near:dora", "DoRA", base="near", cannot={"strength": "its size is not linear."}),
]
USER = Message("user", "Hello")
CHAT = Chat((USER,))


def refused(lane, prompt=CHAT, **params):
    spec = RunSpec(prompt, (LaneSpec("near"), lane), msgspec.convert(params, Params))
    with pytest.raises(BadParameter) as caught:
        check_spec(spec, MODELS)
    return caught.value.field, caught.value.message


@pytest.mark.parametrize(("lane", "prompt", "params", "field", "name"), [
    (LaneSpec("far"), CHAT, {"top_k": 5}, "params.top_k", "top_k"),
    (LaneSpec("far", {"typical_p": 0.5}), CHAT, {}, "lanes[1].overrides.typical_p", "typical_p"),
    (LaneSpec("far"), CHAT, {"constraint": {"kind": "regex", "pattern": "a"}}, "params.constraint", "constraint.regex"),
    (LaneSpec("far", strength=0.5), CHAT, {}, "lanes[1].strength", "strength"),
    (LaneSpec("far", prefix=(1,)), CHAT, {}, "lanes[1].prefix", "prefix"),
    (LaneSpec("far", shadows=(Variant("far"),)), CHAT, {}, "lanes[1].shadows", "shadows"),
    (LaneSpec("far"), Chat((USER,), (Tool("f"),)), {}, "prompt.tools", "tools"),
    (LaneSpec("far"), Chat((USER, Message("assistant", "a")), (), True), {}, "prompt.continue_final", "continue_final"),
    (LaneSpec("far"), Completion("Once"), {}, "lanes[1].model", "completion"),
    (LaneSpec("far"), CHAT, {"dice": "same"}, "params.dice", "dice"),
])  # fmt: skip
def test_each_ability_that_is_missing_is_refused_where_it_was_asked_for(lane, prompt, params, field, name):
    where, why = refused(lane, prompt, **params)
    assert where == field
    assert CANNOT[name] in why and why.startswith("far cannot do ")


def test_what_is_off_or_what_every_model_does_is_not_refused():
    lanes = (
        LaneSpec("far", {"top_k": None}),
        LaneSpec("far", {"top_k": None, "dice": "own"}, strength=1.0),
        LaneSpec("ft:near:dora", strength=1.0),
        LaneSpec("near", strength=0.5, prefix=(1,), shadows=(Variant("ft:near:x", 0.5), Variant("near"))),
    )
    assert check_spec(RunSpec(CHAT, lanes, Params(top_k=3)), MODELS) == ["far", "far", "near", "near"]


@pytest.mark.parametrize("shadow", [Variant("far"), Variant("nobody")])
def test_a_shadow_of_another_base_is_refused(shadow):
    field, why = refused(LaneSpec("ft:near:x", shadows=(Variant("near"), shadow)))
    assert field == "lanes[1].shadows[1].model" and "near or tuned from it" in why


def test_a_shadow_whose_strength_cannot_be_set_is_refused():
    field, why = refused(LaneSpec("near", shadows=(Variant("ft:near:dora", 0.5),)))
    assert field == "lanes[1].shadows[0].strength" and "not linear" in why


def test_only_an_assistants_message_is_continued():
    assert refused(LaneSpec("near"), Chat((USER,), (), True))[0] == "prompt.continue_final"
