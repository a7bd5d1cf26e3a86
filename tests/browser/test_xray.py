"""X-ray: models read a text and say how likely they found each token of it."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import wire
from tests.browser.bench import lane, open_side, run, show, text_of, wait_ended
from tests.browser.test_look import overflow, violations
from tests.browser.test_tokens import READY, card, tokens

pytestmark = pytest.mark.browser


@pytest.fixture
def reading(open_page: Callable[..., Page]) -> Callable[..., Page]:
    """The X-ray page, ready to run."""

    def open_(size: str = "desktop", **more: object) -> Page:
        page = open_page(size, path="/xray", **more)
        expect(page.get_by_role("button", name=READY)).to_be_visible()
        expect(lane(page, 2)).to_have_attribute("data-model", re.compile("^ft:"))
        return page

    return open_


def read(page: Page, text: str | None = None) -> None:
    if text is not None:
        page.get_by_role("radio", name="Completion").check(force=True)
        page.get_by_test_id("prompt").fill(text)
    page.get_by_role("button", name="X-ray", exact=True).click()
    wait_ended(page)


def test_a_text_is_read_by_both_models_with_one_press(reading: Callable[..., Page], size: str) -> None:
    page = reading(size)
    frames = wire.sent(page)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    read(page, "the river opens a window and the garden")
    spec = wire.newest(frames, "run.start")["spec"]
    assert spec["params"] == {"max_tokens": 0, "prompt_logprobs": 5}
    assert [len(each["shadows"]) for each in spec["lanes"]] == [1, 1]
    for number in (1, 2):
        expect(lane(page, number)).to_contain_text("perplexity")
        expect(lane(page, number)).to_contain_text("per token")
        expect(lane(page, number)).to_contain_text("KL")
        whole = lane(page, number).get_by_test_id("tokens").text_content()
        assert whole == "the river opens a window and the garden"
    show(page, 1)
    lane(page, 1).locator(".hard").first.click()
    expect(page.locator(".tok:focus")).to_have_count(1)
    expect(card(page).locator(".token-side")).to_have_count(2)
    expect(card(page).get_by_role("button")).to_have_count(0)
    assert overflow(page) <= 0


def test_an_xray_is_in_the_history_and_opens_as_it_was(reading: Callable[..., Page], size: str) -> None:
    page = reading(size)
    read(page)
    before = [tokens(page, number).all_text_contents() for number in (1, 2)]
    facts = lane(page, 1).locator('[data-fact="perplexity"]').text_content() or ""
    expect(page).to_have_url(re.compile("/runs/"))
    page.reload()
    wait_ended(page)
    assert [tokens(page, number).all_text_contents() for number in (1, 2)] == before
    expect(lane(page, 1).locator('[data-fact="perplexity"]')).to_have_text(facts)
    expect(page.get_by_role("link", name="X-ray", exact=True)).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("button", name="X-ray", exact=True)).to_be_enabled()
    open_side(page, "Presets and runs")
    expect(page.locator("#run-list .item").first).to_contain_text("X-ray")


def test_an_answer_is_xrayed_where_it_was_given(open_page: Callable[..., Page]) -> None:
    page = open_page()
    run(page)
    wait_ended(page)
    text = text_of(page, 2)
    page.get_by_role("button", name="More for lane 2", exact=True).click()
    lane(page, 2).get_by_role("button", name="X-ray this answer").click()
    expect(page).to_have_url(re.compile("/xray$"))
    expect(page.get_by_label("Message 3, assistant")).to_have_value(text)
    expect(page.get_by_role("switch", name="The text ends with the last message")).to_be_checked()
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_label("Message 3, assistant")).to_have_count(0)  # each place keeps its own draft


def test_nothing_that_shapes_answers_is_offered(reading: Callable[..., Page]) -> None:
    page = reading()
    panel = page.get_by_role("complementary", name="Parameters")
    expect(panel.get_by_role("spinbutton", name="Prompt insight value")).to_be_visible()
    expect(panel.get_by_role("spinbutton", name="Temperature value")).to_be_hidden()
    panel.get_by_role("spinbutton", name="Prompt insight value").fill("2")
    panel.get_by_role("spinbutton", name="Prompt insight value").press("Tab")
    read(page, "the river opens a window")
    tokens(page, 1).nth(1).click()
    alternatives = card(page).locator(".token-side").first.locator("li:not(.far)")
    expect(alternatives).to_have_count(2)


def test_a_shared_xray_is_read_by_a_guest(reading: Callable[..., Page], open_page: Callable[..., Page]) -> None:
    page = reading()
    read(page, "the river opens a window")
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_label("Anyone with the link").check()
    address = page.get_by_role("textbox", name="Link").input_value()
    guest = open_page(signed_in=False, path="/s/" + address.rsplit("/s/", 1)[1])
    expect(lane(guest, 2)).to_contain_text("perplexity")
    tokens(guest, 1).nth(1).click()
    expect(card(guest).locator(".token-side")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_xray_shuts_nobody_out(reading: Callable[..., Page], scheme: str) -> None:
    page = reading(scheme=scheme, axe=True)
    assert violations(page) == []
    read(page)
    tokens(page, 1).nth(20).click()
    assert violations(page) == []
