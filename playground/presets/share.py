"""Share links: one for each preset or run, with a level; revoked and shared again, it has a new address."""

import secrets
import uuid
from dataclasses import dataclass

from django.db import transaction

from playground.access import lookup
from playground.errors import BadParameter
from playground.models import Preset, PresetVersion, Run, ShareLink, User

Id = uuid.UUID | str


@dataclass(frozen=True)
class Shared:
    """What a link opens: a run, or the newest version of a preset. `mine` is true for its owner."""

    kind: str  # "preset" or "run"
    link: ShareLink
    owner: User
    mine: bool
    preset_version: PresetVersion | None = None
    run: Run | None = None


def share(person: User, kind: str, id: Id, level: str) -> ShareLink:
    """Share what `person` owns, or change the level of its link, whose address stays. NotFound, BadParameter."""
    if level not in ShareLink.Level.values:
        raise BadParameter("level", f"The level must be one of {', '.join(ShareLink.Level.values)}.")
    shared = _owned(person, kind, id)
    with transaction.atomic():
        link, _ = ShareLink.objects.select_for_update().get_or_create(
            **_of(shared), defaults={"token": secrets.token_urlsafe(24), "level": level}
        )
        if link.level != level:
            link.level = level
            link.save(update_fields=["level"])
    return link


def revoke(person: User, kind: str, id: Id) -> None:
    """Make the address worthless for ever; sharing again makes another. Twice is once. Raises NotFound."""
    ShareLink.objects.filter(**_of(_owned(person, kind, id))).delete()


def current(person: User, kind: str, id: Id) -> ShareLink | None:
    """The link as it is. Raises NotFound."""
    return ShareLink.objects.filter(**_of(_owned(person, kind, id))).first()


def open(token: str, person: User | None) -> Shared:
    """What the link shows to `person`, or to a guest (None). Raises NotFound, whatever the reason."""
    link = lookup.link_for(person, token)
    if link.preset is not None:
        version = lookup.version_of(link.preset)
        return Shared("preset", link, link.preset.owner, link.preset.owner == person, preset_version=version)
    assert link.run is not None  # a constraint of the table
    return Shared("run", link, link.run.owner, link.run.owner == person, run=link.run)


def _owned(person: User, kind: str, id: Id) -> Preset | Run:
    if kind == "preset":
        return lookup.preset_for(person, id)
    if kind == "run":
        return lookup.run_for(person, str(id))
    raise BadParameter("kind", "Only a preset or a run can be shared.")


def _of(shared: Preset | Run) -> dict[str, Preset | Run]:
    return {"preset": shared} if isinstance(shared, Preset) else {"run": shared}
