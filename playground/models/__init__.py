"""Records, one concept a file: fields, constraints and tiny properties. Decisions are made by services."""

from .person import SignInLink, User
from .preset import Preset, PresetVersion
from .run import Lane, LaneInsight, Run
from .share import ShareLink

__all__ = ["Lane", "LaneInsight", "Preset", "PresetVersion", "Run", "ShareLink", "SignInLink", "User"]
