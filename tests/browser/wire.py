"""What the server says to a page, changed on its way: for stories of engines and moments that no test stack has."""

import json
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, WebSocketRoute

Frame = dict[str, Any]


def rewrite(page: Page, change: Callable[[Frame], None]) -> None:
    """From the next load on, let `change` rewrite each frame that comes from the server."""

    def dress(text: str | bytes) -> str:
        frame = json.loads(text)
        change(frame)
        return json.dumps(frame)

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda text: socket.send(dress(text)))

    page.route_web_socket(re.compile("/live"), between)


def tokens(frame: Frame) -> list[Frame]:
    """The token events in a frame."""
    return [event for event in frame.get("events", []) if event["type"] == "lane.token"]


def sent(page: Page) -> list[Frame]:
    """Every frame that the page sends from its next load on; filled as they are sent."""
    frames: list[Frame] = []
    page.on("websocket", lambda ws: ws.on("framesent", lambda text: frames.append(json.loads(text))))
    return frames


def newest(frames: list[Frame], type_: str) -> Frame:
    return next(frame for frame in reversed(frames) if frame["type"] == type_)


def wait_for(page: Page, frames: list[Frame], type_: str, seconds: float = 15) -> Frame:
    """The newest frame of a type, as soon as one is sent."""
    for _ in range(int(seconds * 20)):
        if any(frame["type"] == type_ for frame in frames):
            return newest(frames, type_)
        page.wait_for_timeout(50)
    raise TimeoutError(f"the page never sent {type_}")
