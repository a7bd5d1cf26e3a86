"""What `manage.py check` looks at beyond Django's own checks: settings that work, but not as somebody meant them."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

SHORTEST_TOKEN = 16  # characters; a guess at ten tries a minute never gets there


@register
def check_token(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A short token can be guessed by whoever reaches the port."""
    if not settings.DIPTYCH_TOKEN or len(settings.DIPTYCH_TOKEN) >= SHORTEST_TOKEN:
        return []
    open_to_all = settings.DIPTYCH_HOST not in ("127.0.0.1", "localhost", "::1")
    kind = Error if open_to_all else Warning
    return [
        kind(
            f"DIPTYCH_TOKEN has fewer than {SHORTEST_TOKEN} characters.",
            hint="Leave it out to get a random one at each start, or set a longer one.",
            id="diptych.token",
        )
    ]


@register
def check_origins(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Any host at all would let a foreign page speak to a server on this machine (DNS rebinding)."""
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        Error(
            "DIPTYCH_ALLOWED_HOSTS must name hosts; '*' lets any web page reach this server.",
            hint="List the names under which people open the page, separated by commas.",
            id="diptych.hosts",
        )
    ]
