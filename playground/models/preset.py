"""Presets and their versions: a prompt with its parameters and models, saved under a name."""

import uuid

import msgspec
from django.db import models

from models_backend.protocol.runs import RunSpec

from .person import User

MAX_NAME = 120
MAX_DESCRIPTION = 2000
MAX_NOTE = 500


class PresetSet(models.QuerySet["Preset"]):
    def visible_to(self, person: User | None) -> "PresetSet":
        """Presets that `person` may open and change by their id, the deleted ones not among them."""
        return self.owned_by(person).filter(deleted_at=None)

    def owned_by(self, person: User | None) -> "PresetSet":
        return self.none() if person is None else self.filter(owner=person)


class Preset(models.Model):
    """A name for a row of versions. Deleting only marks it, so that it can be undone."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="presets")
    name = models.CharField(max_length=MAX_NAME)
    description = models.TextField(max_length=MAX_DESCRIPTION, blank=True)
    search = models.TextField()  # case-folded name and description
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(db_index=True)
    deleted_at = models.DateTimeField(null=True)

    objects = PresetSet.as_manager()

    class Meta:
        ordering = ["-changed_at", "-id"]

    def __str__(self) -> str:
        return self.name


class PresetVersion(models.Model):
    """One immutable state of a preset. Numbers count from 1 without gaps."""

    preset = models.ForeignKey(Preset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    note = models.CharField(max_length=MAX_NOTE, blank=True)
    spec_json = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["preset", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.preset} v{self.number}"

    @property
    def spec(self) -> RunSpec:
        return msgspec.json.decode(self.spec_json, type=RunSpec)
