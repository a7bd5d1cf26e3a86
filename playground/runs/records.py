"""Rows of runs and lanes: written before the bus is told, so that a run that is anywhere is in the history."""

import datetime
import uuid

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone

from models_backend.protocol.runs import MAX_TAKES, Chat, LaneSpec, Prompt, RunSpec
from playground.access import lookup
from playground.errors import BadParameter, Conflict
from playground.models import Lane, Run, User
from playground.models.run import MAX_TITLE


def find(person: User, client_id: str, spec: RunSpec) -> Run | None:
    """The run that was created with `client_id`, if there is one. Raises Conflict if that was another spec."""
    run = Run.objects.visible_to(person).prefetch_related("lanes").filter(client_id=client_id).first()
    if run is not None and run.spec != spec:
        raise Conflict("This client_id was used for another run. Use a new one for each run.", field="client_id")
    return run


def create(person: User, client_id: str, spec: RunSpec, queues: list[str]) -> Run:
    """Write the run and its lanes; what somebody else wrote first under the same `client_id` is returned instead."""
    now = timezone.now()
    title = title_of(spec.prompt)
    models = " ".join(lane.model for lane in spec.lanes)
    run = Run(
        id=uuid.uuid4().hex,
        owner=person,
        client_id=client_id,
        spec_json=_json(spec),
        title=title,
        search=f"{title}\n{text_of(spec.prompt)}\n{models}".casefold(),
        created_at=now,
    )
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            Lane.objects.bulk_create(
                Lane(run=run, index=index, spec_json=_json(lane), queue=queue, created_at=now)
                for index, (lane, queue) in enumerate(zip(spec.lanes, queues, strict=True))
            )
    except IntegrityError:
        first = find(person, client_id, spec)
        if first is None:
            raise
        return first
    return lookup.run_for(person, run.id)


def append(run: Run, client_id: str, spec: LaneSpec, queue: str, replaces: int | None) -> Lane:
    """Write one more lane of a run, once for each `client_id`. Raises Conflict, or BadParameter for too many."""
    with transaction.atomic():
        lanes = list(Run.objects.select_for_update().get(pk=run.pk).lanes.all())
        same = next((lane for lane in lanes if lane.client_id == client_id), None)
        if same is not None:
            if same.spec != spec or same.replaces != replaces:
                raise Conflict("This client_id was used for another lane. Use a new one.", field="client_id")
            return same
        if len(lanes) >= MAX_TAKES:
            raise BadParameter("lane", f"A run holds at most {MAX_TAKES} answers. Start a new run.")
        return Lane.objects.create(
            run=run,
            index=len(lanes),
            client_id=client_id,
            replaces=replaces,
            spec_json=_json(spec),
            queue=queue,
            created_at=timezone.now(),
        )


def reload(run: Run) -> Run:
    """The same run as it is now, lanes included; for services that have already asked for it in a person's name."""
    return Run.objects.prefetch_related("lanes").get(pk=run.pk)


def whole(run: Run) -> Run:
    """As `reload`, with all that is kept of the lanes."""
    return Run.objects.prefetch_related("lanes__insight").get(pk=run.pk)


def discard(lane: Lane) -> None:
    """Take back a lane that the bus would not have."""
    lane.delete()


def title_of(prompt: Prompt) -> str:
    """The first words of what was asked last."""
    if isinstance(prompt, Chat):
        asked = [m.content for m in prompt.messages if m.role == "user" and m.content.strip()]
        text = asked[-1] if asked else text_of(prompt)
    else:
        text = prompt.text
    title = " ".join(text[: MAX_TITLE * 8].split())
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1].rstrip() + "…"


def text_of(prompt: Prompt) -> str:
    """All words of the prompt, for search."""
    if isinstance(prompt, Chat):
        return "\n".join(message.content for message in prompt.messages)
    return prompt.text


def milliseconds(moment: datetime.datetime) -> float:
    return moment.timestamp() * 1000


def _json(value: RunSpec | LaneSpec) -> str:
    return msgspec.json.encode(value).decode()
