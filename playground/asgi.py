"""The ASGI application: pages over HTTP, `/live` over a websocket. Runs under Daphne and under uvicorn."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "playground.settings")
pages = get_asgi_application()  # sets Django up, which the imports below need

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import re_path  # noqa: E402

from .live.doors import BodyLimit, OwnOrigin, nowhere  # noqa: E402
from .urls import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": BodyLimit(pages, settings.BODY_LIMIT),
        "websocket": OwnOrigin(URLRouter([*websocket_urlpatterns, re_path("", nowhere)])),
    }
)
