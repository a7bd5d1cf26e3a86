"""Share links: who holds the token may read one preset, or one run."""

from django.db import models

from .preset import Preset
from .run import Run


class ShareLink(models.Model):
    """The link of one preset or run; there is at most one. `private` keeps the token and opens for the owner alone."""

    class Level(models.TextChoices):
        PRIVATE = "private"
        SIGNED_IN = "signed_in"
        ANYONE = "anyone"

    token = models.CharField(max_length=43, unique=True)
    level = models.CharField(max_length=9, choices=Level)
    preset = models.OneToOneField(Preset, null=True, on_delete=models.CASCADE, related_name="link")
    run = models.OneToOneField(Run, null=True, on_delete=models.CASCADE, related_name="link")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(preset__isnull=True, run__isnull=False)
                | models.Q(preset__isnull=False, run__isnull=True),
                name="shares_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.level} link to {self.kind}"

    @property
    def kind(self) -> str:
        return "preset" if self.preset_id else "run"

    @property
    def url(self) -> str:
        return f"/s/{self.token}"
