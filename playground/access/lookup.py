"""The only way to fetch a record for a person. What somebody may not see does not exist: both are NotFound.

A new kind of record gets its function here and its `visible_to` in its model; doors and services never fetch by id
themselves, which a test watches over.
"""

import re
import uuid

from playground.errors import NotFound
from playground.models import Preset, PresetVersion, Run, ShareLink, User


def run_for(person: User | None, run_id: str) -> Run:
    """The run, with its lanes. Raises NotFound."""
    if not re.fullmatch("[0-9a-f]{32}", run_id):
        raise NotFound
    run = Run.objects.visible_to(person).prefetch_related("lanes").filter(pk=run_id).first()
    if run is None:
        raise NotFound
    return run


def preset_for(person: User | None, preset_id: uuid.UUID | str, *, deleted: bool = False) -> Preset:
    """The preset; one that is deleted only if `deleted` asks for it. Raises NotFound."""
    presets = Preset.objects.owned_by(person) if deleted else Preset.objects.visible_to(person)
    preset = presets.filter(pk=_uuid(preset_id)).first()
    if preset is None:
        raise NotFound
    return preset


def version_for(person: User | None, preset_id: uuid.UUID | str, number: int | None = None) -> PresetVersion:
    """Version `number` of the preset, or its newest. Raises NotFound."""
    return version_of(preset_for(person, preset_id), number)


def version_of(preset: Preset, number: int | None = None) -> PresetVersion:
    """The same for a preset that has been looked up. Raises NotFound."""
    versions = preset.versions.select_related("preset", "preset__owner")
    version = (versions if number is None else versions.filter(number=number)).first()
    if version is None:
        raise NotFound
    return version


def link_for(person: User | None, token: str) -> ShareLink:
    """The share link behind `token`, if its level lets `person` (None: a guest) read. Raises NotFound."""
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", token):
        raise NotFound
    link = (
        ShareLink.objects.select_related("preset__owner", "run__owner")
        .filter(token=token, preset__deleted_at=None)
        .first()
    )
    if link is None or not _opens(link, person):
        raise NotFound
    return link


def _opens(link: ShareLink, person: User | None) -> bool:
    shared = link.preset or link.run
    assert shared is not None  # a constraint of the table
    if person is not None and shared.owner_id == person.pk:
        return True
    if link.level == ShareLink.Level.ANYONE:
        return True
    return link.level == ShareLink.Level.SIGNED_IN and person is not None


def _uuid(value: uuid.UUID | str) -> uuid.UUID:
    try:
        return value if isinstance(value, uuid.UUID) else uuid.UUID(value)
    except ValueError:
        raise NotFound from None
