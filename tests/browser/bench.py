"""What a person does on the compare page, in their words, so that the stories read as such. Works at every width."""

import re

from playwright.sync_api import Locator, Page, expect

ENDED = re.compile("^(done|stopped|failed)$")


def lane(page: Page, number: int) -> Locator:
    return page.get_by_test_id("lane").nth(number - 1)


def answer(page: Page, number: int) -> Locator:
    return lane(page, number).get_by_test_id("answer")


def text_of(page: Page, number: int) -> str:
    return answer(page, number).text_content() or ""


def run(page: Page, prompt: str | None = None) -> None:
    if prompt is not None:
        page.get_by_test_id("prompt").fill(prompt)
    page.get_by_role("button", name="Run", exact=True).click()


def wait_ended(page: Page, *numbers: int) -> None:
    for number in numbers or range(1, page.get_by_test_id("lane").count() + 1):
        expect(lane(page, number)).to_have_attribute("data-state", ENDED)


def wait_text(page: Page, number: int) -> None:
    expect(answer(page, number)).not_to_be_empty()


def show(page: Page, number: int) -> None:
    """Bring a lane into view where only some are."""
    tab = page.get_by_role("button", name=re.compile(f"^Show lane {number}:"))
    if tab.is_visible():
        tab.click()


def open_side(page: Page, name: str) -> None:
    """Open the drawer called `name`, where it is one."""
    button = page.get_by_role("button", name=name, exact=True)
    if button.is_visible() and button.get_attribute("aria-expanded") != "true":
        button.click()


def close_side(page: Page, name: str) -> None:
    button = page.get_by_role("button", name=f"Close {name.lower()}", exact=True)
    if button.is_visible():
        button.click()


def dialog(page: Page) -> Locator:
    return page.locator("#dialog")


def save_preset(page: Page, name: str, note: str = "") -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    dialog(page).get_by_label("Name").fill(name)
    dialog(page).get_by_label("Note on this version").fill(note)
    dialog(page).get_by_role("button", name="Save preset").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def preset_menu(page: Page, name: str, item: str) -> None:
    open_side(page, "Presets and runs")
    entry = page.locator("#preset-list .item").filter(has_text=name).first
    entry.hover()
    entry.get_by_role("button", name=f"More for {name}").click()
    entry.get_by_role("button", name=item, exact=True).click()
