"""A whole Diptych with the fake engine, Chromium, and pages at the two sizes in which every story must work."""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.chromium import launch
from tests.stack import Stack

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
DELAY = 15  # ms for a token: long enough to press Stop in the middle of an answer

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="db-") as home, Stack(Path(home), delay=DELAY) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, stack: Stack) -> Iterator[Callable[..., Page]]:
    """Open pages in windows of their own. What a page complains of in its console fails the test."""
    contexts, complaints = [], []

    def open_(
        size: str = "desktop", *, scheme: str = "light", signed_in: bool = True, path: str = "/", axe: bool = False
    ) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            has_touch=size == "phone",
            permissions=["clipboard-read", "clipboard-write"],
            reduced_motion="reduce",
            bypass_csp=axe,  # axe styles the page while it looks
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if _is_complaint(message) else None)
        page.goto(stack.signed_in if signed_in else stack.url + path)
        if signed_in and path != "/":
            page.goto(stack.url + path)
        if signed_in and path == "/":
            expect(page.get_by_test_id("lane").nth(1)).to_have_attribute("data-model", re.compile("^ft:fake-base"))
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not complaints, complaints


@pytest.fixture(params=list(SIZES))
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def page(open_page: Callable[..., Page], size: str) -> Page:
    """A signed-in compare page on its first visit."""
    return open_page(size)


def _is_complaint(message: object) -> bool:
    """Errors, save for answers 4xx that a story asks for, and a connection that it cuts."""
    text = message.text  # type: ignore[attr-defined]
    expected = ("the server responded with a status of 4", "WebSocket connection to", "net::ERR_")
    return message.type == "error" and not any(words in text for words in expected)  # type: ignore[attr-defined]
