"""Presets: what can be done with them, each for a person who owns them. Versions are never changed, only added."""

import uuid
from datetime import timedelta
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from models_backend.protocol.params import merge
from models_backend.protocol.runs import MAX_PROMPT_CHARS, RunSpec, prompt_chars
from playground.access import lookup
from playground.errors import BadParameter, Conflict
from playground.models import Preset, PresetVersion, User
from playground.models.preset import MAX_DESCRIPTION, MAX_NAME, MAX_NOTE

MAX_PRESETS = 2000  # of one person
MAX_VERSIONS = 1000  # of one preset
MAX_QUERY = 200
KEEP_DELETED_DAYS = 30
Id = uuid.UUID | str


def create(person: User, name: str, description: str, spec: dict[str, Any], note: str = "") -> Preset:
    """A new preset with version 1. Raises BadParameter, which names the field."""
    name, description = _named(name, description)
    text, note = _spec(spec), _note(note)
    if Preset.objects.visible_to(person).count() >= MAX_PRESETS:
        raise BadParameter("name", f"You have {MAX_PRESETS} presets. Delete some first.")
    with transaction.atomic():
        preset = Preset.objects.create(
            owner=person,
            name=name,
            description=description,
            search=_search(name, description),
            changed_at=timezone.now(),
        )
        PresetVersion.objects.create(preset=preset, number=1, note=note, spec_json=text)
    return preset


def save_version(
    person: User, preset_id: Id, spec: dict[str, Any], note: str = "", expected: int | None = None
) -> PresetVersion:
    """Add a version. `expected` is the newest number that the writer has seen; None: whatever there is.

    Raises Conflict when somebody has saved another in between, NotFound, BadParameter.
    """
    text, note = _spec(spec), _note(note)
    with transaction.atomic():
        preset = _locked(person, preset_id)
        newest = lookup.version_of(preset)
        if expected is not None and expected != newest.number:
            raise Conflict(
                f"Version {newest.number} was saved in the meantime, after the version {expected} that you have open. "
                "Open it to compare, or save yours on top of it.",
                field="expected",
            )
        if newest.number >= MAX_VERSIONS:
            raise BadParameter("note", f"A preset has at most {MAX_VERSIONS} versions. Duplicate it to go on.")
        version = PresetVersion.objects.create(preset=preset, number=newest.number + 1, note=note, spec_json=text)
        preset.changed_at = timezone.now()
        preset.save(update_fields=["changed_at"])
    return version


def rename(person: User, preset_id: Id, name: str, description: str) -> Preset:
    """Raises NotFound, BadParameter."""
    name, description = _named(name, description)
    with transaction.atomic():
        preset = _locked(person, preset_id)
        preset.name, preset.description, preset.search = name, description, _search(name, description)
        preset.changed_at = timezone.now()
        preset.save(update_fields=["name", "description", "search", "changed_at"])
    return preset


def duplicate(person: User, preset_id: Id, number: int | None = None) -> Preset:
    """A new preset of one's own from one version (None: the newest). Its history begins anew. Raises NotFound."""
    version = lookup.version_for(person, preset_id, number)
    return duplicate_version(person, version)


def duplicate_version(person: User, version: PresetVersion) -> Preset:
    """The same for a version that a share link has opened."""
    source = version.preset
    name = f"{source.name[: MAX_NAME - len(' (copy)')]} (copy)"
    note = f"From version {version.number} of {source.name}"[:MAX_NOTE]
    return create(person, name, source.description, msgspec.to_builtins(version.spec), note)


def delete(person: User, preset_id: Id) -> Preset:
    """Mark the preset as deleted: it is gone for everybody, until `restore`. Twice is once. Raises NotFound."""
    preset = lookup.preset_for(person, preset_id, deleted=True)
    if preset.deleted_at is None:
        preset.deleted_at = timezone.now()
        preset.save(update_fields=["deleted_at"])
    return preset


def restore(person: User, preset_id: Id) -> Preset:
    """Undo `delete`. Raises NotFound."""
    preset = lookup.preset_for(person, preset_id, deleted=True)
    preset.deleted_at = None
    preset.save(update_fields=["deleted_at"])
    return preset


def purge() -> int:
    """Remove for good what was deleted long ago; returns how many presets."""
    before = timezone.now() - timedelta(days=KEEP_DELETED_DAYS)
    _, counts = Preset.objects.filter(deleted_at__lt=before).delete()
    return counts.get("playground.Preset", 0)


def listing(person: User, query: str = "") -> list[Preset]:
    """The person's presets, last changed first; all words of `query` must be in its name or description."""
    presets = Preset.objects.visible_to(person)
    for word in query[:MAX_QUERY].casefold().replace("\x00", " ").split():
        presets = presets.filter(search__contains=word)
    return list(presets)


def versions(person: User, preset_id: Id) -> list[PresetVersion]:
    """All versions, the newest first. Raises NotFound."""
    return list(lookup.preset_for(person, preset_id).versions.select_related("preset"))


def open_version(person: User, preset_id: Id, number: int | None = None) -> PresetVersion:
    """One version (None: the newest) with its preset. Raises NotFound."""
    return lookup.version_for(person, preset_id, number)


def _locked(person: User, preset_id: Id) -> Preset:
    """The preset, held until the end of the transaction, so that versions get their numbers one after the other."""
    found = lookup.preset_for(person, preset_id)
    Preset.objects.select_for_update().filter(pk=found.pk).first()
    return lookup.preset_for(person, preset_id)


def _named(name: str, description: str) -> tuple[str, str]:
    name = " ".join(name.split())
    if not name:
        raise BadParameter("name", "Give the preset a name.")
    if len(name) > MAX_NAME:
        raise BadParameter("name", f"The name has {len(name)} characters; at most {MAX_NAME} are allowed.")
    if not name.isprintable():
        raise BadParameter("name", "The name has characters that cannot be shown.")
    description = description.strip()
    if len(description) > MAX_DESCRIPTION:
        raise BadParameter("description", f"The description is longer than {MAX_DESCRIPTION} characters.")
    if "\x00" in description:
        raise BadParameter("description", "The description has characters that cannot be shown.")
    return name, description


def _note(note: str) -> str:
    note = " ".join(note.split())
    if len(note) > MAX_NOTE or not note.isprintable():
        raise BadParameter("note", f"A note has at most {MAX_NOTE} characters, all of which can be shown.")
    return note


def _spec(spec: dict[str, Any]) -> str:
    """The JSON to keep, of a spec that could be run if its models are there."""
    try:
        checked = msgspec.convert(spec, RunSpec)
        for lane in checked.lanes:
            merge(checked.params, lane.overrides)
        text = msgspec.json.encode(checked).decode()
    except (msgspec.ValidationError, TypeError, UnicodeEncodeError) as error:
        raise BadParameter("spec", f"This cannot be saved: {error}") from None
    if prompt_chars(checked.prompt) > MAX_PROMPT_CHARS:
        raise BadParameter("prompt", f"The prompt is longer than {MAX_PROMPT_CHARS:,} characters.")
    return text


def _search(name: str, description: str) -> str:
    return f"{name}\n{description}".casefold()
