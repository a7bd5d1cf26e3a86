"""All addresses: health for machines, the socket, and everything else a page."""

from django.urls import include, path

from .api import health
from .live.consumer import LiveConsumer

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("", include("playground.pages.urls")),
]
websocket_urlpatterns = [
    path("live", LiveConsumer.as_asgi()),
]
