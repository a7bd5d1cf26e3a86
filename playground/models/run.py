"""Runs and their lanes, as the recorder leaves them. While a lane runs, its truth is the log on the bus."""

import msgspec
from django.db import models

from models_backend.protocol import events
from models_backend.protocol.runs import LaneSpec, RunSpec

from .fields import ExactTextField
from .person import User

MAX_TITLE = 120


class RunSet(models.QuerySet["Run"]):
    def visible_to(self, person: User | None) -> "RunSet":
        """Runs that `person` may open by their id; a share link opens others."""
        return self.none() if person is None else self.filter(owner=person)


class Run(models.Model):
    """What was asked, once. `spec_json` is the RunSpec as sent; `client_id` makes sending it twice harmless."""

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="runs")
    client_id = models.CharField(max_length=64)
    spec_json = models.TextField()
    title = ExactTextField()
    search = ExactTextField()  # case-folded title, prompt and models
    created_at = models.DateTimeField(db_index=True)

    objects = RunSet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["owner", "client_id"], name="one_run_per_client_id")]

    def __str__(self) -> str:
        return f"{self.id[:8]} {self.title}"

    @property
    def spec(self) -> RunSpec:
        return msgspec.json.decode(self.spec_json, type=RunSpec)

    @property
    def state(self) -> str:
        """`open` while a lane has not ended, else the worst end of those that no repeat has replaced."""
        lanes = list(self.lanes.all())
        replaced = {lane.replaces for lane in lanes}
        states = {lane.state for lane in lanes if lane.index not in replaced}
        if Lane.State.OPEN in states:
            return "open"
        return next((state for state in ("failed", "stopped") if state in states), "done")


class Lane(models.Model):
    """One answer. `started_json` is the newest lane.started event, `ended_json` the event that ended it."""

    class State(models.TextChoices):
        OPEN = "open"
        DONE = "done"
        STOPPED = "stopped"
        FAILED = "failed"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="lanes")
    index = models.PositiveSmallIntegerField()
    client_id = models.CharField(max_length=64, null=True)  # of a lane that was added to the run later
    replaces = models.PositiveSmallIntegerField(null=True)
    queue = models.CharField(max_length=200)  # the base model whose workers answer it
    spec_json = models.TextField()
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    text = ExactTextField(default="")
    ids_json = models.TextField(default="[]")
    started_json = models.TextField(default="")
    ended_json = models.TextField(default="")
    search = ExactTextField(default="")  # case-folded answer and model
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["index"]
        constraints = [
            models.UniqueConstraint(fields=["run", "index"], name="one_lane_per_index"),
            models.UniqueConstraint(fields=["run", "client_id"], name="one_lane_per_client_id"),
        ]
        indexes = [models.Index(fields=["created_at"], condition=models.Q(state="open"), name="open_lanes")]

    def __str__(self) -> str:
        return f"lane {self.index} of {self.run_id[:8]}"

    @property
    def spec(self) -> LaneSpec:
        return msgspec.json.decode(self.spec_json, type=LaneSpec)

    @property
    def ids(self) -> tuple[int, ...]:
        return msgspec.json.decode(self.ids_json, type=tuple[int, ...])

    @property
    def started(self) -> events.LaneStarted | None:
        return msgspec.json.decode(self.started_json, type=events.LaneStarted) if self.started_json else None

    @property
    def ended(self) -> events.LaneDone | events.LaneStopped | events.LaneFailed | None:
        if not self.ended_json:
            return None
        return msgspec.json.decode(self.ended_json, type=events.LaneDone | events.LaneStopped | events.LaneFailed)


class LaneInsight(models.Model):
    """What a lane's model thought of each token, packed by runs/insights.py.

    Apart from the lane, so that a list of runs does not read megabytes.
    """

    lane = models.OneToOneField(Lane, on_delete=models.CASCADE, primary_key=True, related_name="insight")
    packed_json = models.TextField()

    def __str__(self) -> str:
        return f"insight of {self.lane}"
