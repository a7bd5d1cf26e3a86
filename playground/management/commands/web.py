"""The web server: pages, sockets and machine doors, by Daphne."""

from typing import Any

from asgiref.compatibility import guarantee_single_callable
from channels.routing import get_default_application
from django.conf import settings
from django.core.management.base import BaseCommand

PING_SECONDS = 5
DEAD_SECONDS = 10  # a peer that has answered no ping for so long is gone
CLOSE_SECONDS = 5


class Command(BaseCommand):
    help = "Serve the pages and the API at DIPTYCH_HOST and DIPTYCH_PORT."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        from daphne.endpoints import build_endpoint_description_strings

        from playground.management.web_server import WebServer

        WebServer(
            application=guarantee_single_callable(get_default_application()),
            endpoints=build_endpoint_description_strings(host=settings.DIPTYCH_HOST, port=settings.DIPTYCH_PORT),
            body_limit=settings.BODY_LIMIT,
            ping_interval=PING_SECONDS,
            ping_timeout=DEAD_SECONDS,
            websocket_timeout=-1,
            application_close_timeout=CLOSE_SECONDS,
            server_name="",
            verbosity=0,
        ).run()
