"""What must hold on every page: readable for everybody, nothing beyond the edge, nothing from outside, text as text."""

import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.bench import dialog, lane, open_side, run, text_of, wait_ended, wait_text
from tests.stack import Stack

pytestmark = pytest.mark.browser
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script><b>bold</b> [link](javascript:alert(3))"


def violations(page: Page) -> list[str]:
    """Serious ones, with the elements they are about."""
    found = Axe().run(page).response["violations"]
    return [
        f"{item['id']}: {[node['target'] for node in item['nodes']]}"
        for item in found
        if item["impact"] in ("serious", "critical")
    ]


def overflow(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_state_of_the_page_shuts_anybody_out(open_page: Callable[..., Page], size: str, scheme: str) -> None:
    page = open_page(size, scheme=scheme, axe=True)
    assert violations(page) == []
    run(page, "Go on. [[long]]")
    wait_text(page, 2)
    assert violations(page) == []
    page.keyboard.press("Escape")
    wait_ended(page)
    lane(page, 1).locator("used-details summary").click()
    assert violations(page) == []
    open_side(page, "Parameters")
    page.get_by_role("complementary", name="Parameters").get_by_text("More", exact=True).click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Share", exact=True).click()
    dialog(page).get_by_label("Anyone with the link").check()
    expect(dialog(page).get_by_role("textbox", name="Link")).to_be_visible()
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/sign-in", "/nowhere", "/s/nothing"])
def test_small_pages_shut_nobody_out(open_page: Callable[..., Page], scheme: str, path: str) -> None:
    page = open_page(scheme=scheme, signed_in=False, path=path, axe=True)
    assert violations(page) == []


@pytest.mark.parametrize("path", ["/", "/presets", "/runs", "/sign-in", "/nowhere"])
def test_nothing_lies_beyond_the_edge(open_page: Callable[..., Page], size: str, path: str) -> None:
    page = open_page(size, signed_in=path != "/sign-in", path=path)
    assert overflow(page) <= 0


def test_long_words_and_many_lanes_stay_inside(page: Page) -> None:
    for _ in range(6):
        page.get_by_role("button", name="Lane", exact=True).click()
    expect(page.get_by_role("button", name="Lane", exact=True)).to_be_disabled()
    page.get_by_test_id("prompt").fill("w" * 3000)
    assert overflow(page) <= 0


def test_no_request_leaves_the_server(page: Page, stack: Stack) -> None:
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.reload()
    run(page)
    wait_ended(page)
    page.get_by_role("button", name="Share", exact=True).click()
    expect(dialog(page)).to_be_visible()
    assert hosts == {f"127.0.0.1:{stack.port}"}


def test_markup_of_a_model_stays_text(open_page: Callable[..., Page]) -> None:
    page = open_page()

    def spell(text: str) -> str:
        frame = json.loads(text)
        for event in frame.get("events", []):
            if event["type"] == "lane.token":
                event["text"] = MARKUP
        return json.dumps(frame)

    def between(ws: object) -> None:
        server = ws.connect_to_server()  # type: ignore[attr-defined]
        server.on_message(lambda text: ws.send(spell(text)))  # type: ignore[attr-defined]

    page.route_web_socket(re.compile("/live"), between)
    page.reload()
    run(page)
    wait_ended(page)
    assert text_of(page, 1).startswith(MARKUP + MARKUP)
    assert page.locator("[data-testid=answer] *").count() == 0


def test_markup_in_a_prompt_and_a_name_stays_text(page: Page) -> None:
    page.get_by_test_id("prompt").fill(MARKUP)
    page.get_by_role("button", name="Save", exact=True).click()
    dialog(page).get_by_label("Name").fill(MARKUP)
    dialog(page).get_by_role("button", name="Save preset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    run(page)
    wait_ended(page)
    page.reload()
    expect(page.get_by_test_id("prompt")).to_have_value(MARKUP)
    assert page.locator("main img, aside img, main script, aside b").count() == 0


def test_the_theme_is_chosen_and_kept(open_page: Callable[..., Page]) -> None:
    page = open_page()
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    page.get_by_role("button", name="Theme: dark").wait_for()
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    assert page.evaluate(paper) == dark


def test_the_page_needs_no_pointer(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_test_id("prompt")).to_be_focused()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Control+s")
    expect(dialog(page)).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("2")
    expect(page.get_by_role("log", name="Answer of lane 2")).to_be_focused()


def test_a_page_that_is_asked_for_without_a_session_leads_to_sign_in_and_back(
    open_page: Callable[..., Page], stack: Stack
) -> None:
    page = open_page(signed_in=False, path="/runs")
    expect(page).to_have_url(re.compile("/sign-in"))
    page.get_by_label("Token or address").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This token is not valid")
    page.get_by_label("Token or address").fill(stack.signed_in)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def test_without_javascript_lists_and_forms_still_work(open_page: Callable[..., Page], stack: Stack) -> None:
    page = open_page(path="/presets")
    state = page.context.storage_state()
    browser = page.context.browser
    assert browser
    context = browser.new_context(java_script_enabled=False, storage_state=state)
    plain = context.new_page()
    plain.goto(stack.url + "/presets?q=surely-not-there")
    expect(plain.get_by_text("No preset matches “surely-not-there”.")).to_be_visible()
    context.close()


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest) -> None:
    """A picture that markup tries to load must fail loudly, not by a missing file."""
    if "page" in request.fixturenames:

        def refuse(route: Route) -> None:
            pytest.fail(f"the page asked for {route.request.url}")

        request.getfixturevalue("page").route("**/x", refuse)
