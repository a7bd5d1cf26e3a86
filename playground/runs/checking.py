"""Whether a run may be started: every refusal names the field, what it was and what is allowed."""

import re
from collections.abc import Iterable

import msgspec

from models_backend.protocol import abilities, conversation
from models_backend.protocol.params import Params, merge
from models_backend.protocol.runs import MAX_PROMPT_CHARS, Chat, LaneSpec, Prompt, RunSpec, Variant, prompt_chars
from models_backend.protocol.workers import ModelInfo
from playground.errors import BadParameter, NoWorker

CLIENT_ID = re.compile("[0-9a-f]{32}")
MOST_NAMED = 12  # model ids that an error lists


def check_client_id(client_id: str) -> None:
    if not CLIENT_ID.fullmatch(client_id):
        raise BadParameter("client_id", "client_id must be 32 hexadecimal digits, new for each run.")


def check_spec(spec: RunSpec, models: Iterable[ModelInfo]) -> list[str]:
    """Check all of `spec` and return the queue of each lane. Raises BadParameter or NoWorker."""
    known = {model.id: model for model in models}
    check_prompt(spec.prompt)
    return [check_lane(spec, lane, known, f"lanes[{index}]") for index, lane in enumerate(spec.lanes)]


def check_prompt(prompt: Prompt) -> None:
    length = prompt_chars(prompt)
    if length > MAX_PROMPT_CHARS:
        raise BadParameter("prompt", f"The prompt has {length:,} characters; at most {MAX_PROMPT_CHARS:,} are allowed.")
    if isinstance(prompt, Chat) and (wrong := conversation.trouble(prompt)):
        raise BadParameter(f"prompt.{wrong[0]}", wrong[1])
    texts = [message.content for message in prompt.messages] if isinstance(prompt, Chat) else [prompt.text]
    if not any(text.strip() for text in texts):
        raise BadParameter("prompt", "The prompt is empty. Write something first.")
    if isinstance(prompt, Chat) and prompt.continue_final and prompt.messages[-1].role != "assistant":
        raise BadParameter("prompt.continue_final", "Only an assistant's message, and the last, can be continued.")


def check_lane(spec: RunSpec, lane: LaneSpec, known: dict[str, ModelInfo], place: str) -> str:
    """Check one lane against the run's prompt and parameters; return its queue."""
    check_overrides(spec.params, lane, place)
    if not known:
        raise NoWorker
    model = known.get(lane.model)
    if model is None:
        names = sorted(known)
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        raise BadParameter(
            f"{place}.model", f"There is no model {lane.model!r}. Known are: {', '.join(names[:MOST_NAMED])}{more}."
        )
    if isinstance(spec.prompt, Chat) and not model.chat:
        raise BadParameter(
            f"{place}.model", f"{model.id} has no chat template. Use a completion prompt, or choose another model."
        )
    check_abilities(spec, lane, model, place)
    for index, shadow in enumerate(lane.shadows):
        check_shadow(shadow, model, known, f"{place}.shadows[{index}]")
    return model.queue


def check_abilities(spec: RunSpec, lane: LaneSpec, model: ModelInfo, place: str) -> None:
    """Refuse what the lane's model says that it cannot do, in the words of its engine."""
    params = spec.lane_params(lane)
    names = abilities.asked(spec.prompt, params, lane.strength, lane.prefix, lane.shadows)
    refused = abilities.refusal(model, names)
    if refused is not None:
        name, why = refused
        raise BadParameter(_field(name, lane, place), why)


def check_shadow(shadow: Variant, model: ModelInfo, known: dict[str, ModelInfo], place: str) -> None:
    """A shadow reads along in the same forward pass, so it must be of the same base."""
    other = known.get(shadow.model)
    if other is None or other.queue != model.queue:
        raise BadParameter(
            f"{place}.model", f"{shadow.model!r} cannot shadow {model.id}: a shadow is {model.queue} or tuned from it."
        )
    refused = abilities.refusal(other, ["strength"] if shadow.strength not in (None, 1) else [])
    if refused is not None:
        raise BadParameter(f"{place}.strength", refused[1])


def _field(name: str, lane: LaneSpec, place: str) -> str:
    """Where in the spec the thing stands that `abilities` calls `name`."""
    first = name.partition(".")[0]
    if first in ("tools", "continue_final"):
        return f"prompt.{first}"
    if first == "completion":
        return f"{place}.model"
    if first in ("strength", "prefix", "shadows"):
        return f"{place}.{first}"
    return f"{place}.overrides.{first}" if first in lane.overrides else f"params.{first}"


def check_overrides(shared: Params, lane: LaneSpec, place: str) -> None:
    try:
        merge(shared, lane.overrides)
    except (msgspec.ValidationError, TypeError) as error:
        field, why = explain(error)
        raise BadParameter(f"{place}.overrides" + (f".{field}" if field else ""), why) from None


def explain(error: Exception) -> tuple[str | None, str]:
    """Split msgspec's text into the path of the field and what was wrong with it."""
    why, *path = re.split(" - at (?:`key` in )?`\\$", str(error), maxsplit=1)  # a key stands in an object of that path
    field = "".join(path).rstrip("`").lstrip(".") or None
    if unknown := re.search("unknown field `(.*)`", why):
        field = f"{field}.{unknown[1]}" if field else unknown[1]
    return field, f"{field}: {why}" if field else why


def differing(shared: Params, wanted: Params) -> dict[str, object]:
    """The overrides that turn `shared` into `wanted`; what is on in `shared` and off in `wanted` becomes None."""
    before, after = msgspec.to_builtins(shared), msgspec.to_builtins(wanted)
    return {name: after.get(name) for name in {**before, **after} if before.get(name) != after.get(name)}
