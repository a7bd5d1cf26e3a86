"""Whether a run may be started: every refusal names the field, what it was and what is allowed."""

import re
from collections.abc import Iterable

import msgspec

from models_backend.protocol import conversation
from models_backend.protocol.params import Params, merge
from models_backend.protocol.runs import MAX_PROMPT_CHARS, Chat, LaneSpec, Prompt, RunSpec, prompt_chars
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
    return model.queue


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
