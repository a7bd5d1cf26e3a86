"""The one Django app of the web house; its rooms are packages."""

from django.apps import AppConfig


class PlaygroundConfig(AppConfig):
    name = "playground"
    verbose_name = "Diptych"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers them)
