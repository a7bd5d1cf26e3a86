"""Presets, versions, share links, history: kept, found again, shown to others as far as they may see."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.bench import (
    answer,
    close_side,
    dialog,
    lane,
    open_side,
    preset_menu,
    run,
    save_preset,
    text_of,
    wait_ended,
)

pytestmark = pytest.mark.browser


def save_version(page: Page, note: str) -> None:
    page.get_by_role("button", name="Save version", exact=True).click()
    dialog(page).get_by_label("Note").fill(note)
    dialog(page).get_by_role("button", name=re.compile("Save version")).click()
    expect(dialog(page)).to_be_hidden()


def share(page: Page, level: str) -> str:
    page.get_by_role("button", name="Share", exact=True).click()
    dialog(page).get_by_label(level).check()
    address = dialog(page).get_by_role("textbox", name="Link").input_value()
    dialog(page).get_by_role("button", name="Done").click()
    return address


def test_a_preset_grows_versions_and_goes_back_to_an_older_one(page: Page, size: str) -> None:
    name = f"Versions {size}"
    page.get_by_test_id("prompt").fill("First wording")
    save_preset(page, name, "the first")
    expect(page).to_have_url(re.compile("/presets/[0-9a-f-]{36}$"))
    page.get_by_test_id("prompt").fill("Second wording")
    expect(page.get_by_text("edited", exact=True)).to_be_visible()
    save_version(page, "sharper")
    expect(page.get_by_text("edited", exact=True)).to_be_hidden()
    expect(page.get_by_text("v2 · sharper")).to_be_visible()
    page.get_by_role("button", name="Versions", exact=True).click()
    dialog(page).get_by_role("link", name=re.compile("v1 the first")).click()
    expect(page).to_have_url(re.compile("/v/1$"))
    expect(page.get_by_test_id("prompt")).to_have_value("First wording")
    expect(page.get_by_text("v1 of 2, an older one")).to_be_visible()
    page.get_by_role("button", name="Save version", exact=True).click()
    expect(dialog(page)).to_contain_text("You began from version 1; version 2 is newer.")
    dialog(page).get_by_role("button", name="Save version 3").click()
    expect(page.get_by_text("v3", exact=True)).to_be_visible()
    expect(page.get_by_test_id("prompt")).to_have_value("First wording")


def test_a_preset_is_renamed_duplicated_deleted_and_brought_back(page: Page, size: str) -> None:
    name = f"Parcel {size}"
    save_preset(page, name)
    preset_menu(page, name, "Rename…")
    dialog(page).get_by_label("Name").fill(f"{name} <b>bold</b>")
    dialog(page).get_by_role("button", name="Rename").click()
    renamed = f"{name} <b>bold</b>"
    expect(page.get_by_role("heading", level=1)).to_have_text(renamed)
    preset_menu(page, renamed, "Duplicate")
    expect(page.get_by_text(f"Duplicated as “{renamed} (copy)”.")).to_be_visible()
    expect(page.locator("#preset-list").get_by_text(f"{renamed} (copy)", exact=True)).to_be_visible()
    preset_menu(page, f"{renamed} (copy)", "Delete")
    expect(page.locator("#preset-list").get_by_text(f"{renamed} (copy)", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#preset-list").get_by_text(f"{renamed} (copy)", exact=True)).to_be_visible()


def test_a_name_that_is_refused_says_why_and_keeps_what_was_typed(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    dialog(page).get_by_label("Name").fill("   ")
    dialog(page).get_by_label("Description").fill("Long thought about")
    dialog(page).get_by_role("button", name="Save preset").click()
    expect(dialog(page).get_by_role("alert")).to_have_text("Give the preset a name.")
    expect(dialog(page).get_by_label("Description")).to_have_value("Long thought about")


def test_a_shared_run_is_read_by_a_guest_until_it_is_revoked(
    page: Page, size: str, open_page: Callable[..., Page]
) -> None:
    run(page, f"A run to be shown, {size}")
    wait_ended(page)
    text = text_of(page, 2)
    address = share(page, "Anyone with the link")
    path = "/s/" + address.rsplit("/s/", 1)[1]
    guest = open_page(size, signed_in=False, path=path)
    expect(answer(guest, 2)).to_have_text(text.strip())
    expect(guest.get_by_text("read-only")).to_be_visible()
    expect(guest.get_by_role("button", name="Run", exact=True)).to_have_count(0)
    expect(guest.get_by_test_id("prompt")).to_have_attribute("readonly", "")
    expect(guest.get_by_role("link", name="Sign in to run it")).to_be_visible()
    page.get_by_role("button", name="Share", exact=True).click()
    dialog(page).get_by_role("button", name="Revoke link").click()
    expect(dialog(page).get_by_label("Private")).to_be_checked()
    guest.reload()
    expect(guest.get_by_role("heading", name="Not here")).to_be_visible()


def test_a_shared_preset_for_those_signed_in_hides_from_guests_and_can_be_taken(
    page: Page, size: str, open_page: Callable[..., Page]
) -> None:
    page.get_by_test_id("prompt").fill("Wording worth sharing")
    save_preset(page, f"Shared {size}")
    address = share(page, "Signed-in")
    guest = open_page(size, signed_in=False, path="/s/" + address.rsplit("/s/", 1)[1])
    expect(guest.get_by_role("heading", name="Not here")).to_be_visible()
    page.goto(address)
    page.get_by_role("button", name="Use as my draft").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New prompt")
    expect(page.get_by_test_id("prompt")).to_have_value("Wording worth sharing")
    page.goto(address)
    page.get_by_role("button", name="Duplicate").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Shared {size} (copy)")


def test_history_is_searched_opened_and_run_again_as_it_was(page: Page, size: str) -> None:
    run(page, f"About the zebra, {size}")
    wait_ended(page)
    first = page.url
    run(page, f"About the giraffe, {size}")
    wait_ended(page)
    open_side(page, "Presets and runs")
    runs = page.locator("#run-list")
    expect(runs.locator(".item").first).to_contain_text("giraffe")
    page.get_by_role("searchbox").fill(f"zebra {size}")
    expect(runs.locator(".item")).to_have_count(1)
    runs.get_by_role("link", name=re.compile("zebra")).click()
    expect(page).to_have_url(first)
    expect(page.get_by_test_id("prompt")).to_have_value(f"About the zebra, {size}")
    wait_ended(page)
    page.get_by_test_id("prompt").fill("Edited on top")
    page.get_by_test_id("prompt").press("Tab")
    page.reload()
    expect(page.get_by_test_id("prompt")).to_have_value("Edited on top")
    page.goto(first)
    expect(page.get_by_test_id("prompt")).to_have_value(f"About the zebra, {size}")
    expect(page.get_by_role("button", name="Bring my edits back")).to_be_visible()
    run(page)
    expect(page).not_to_have_url(first)
    wait_ended(page)
    expect(lane(page, 1)).to_have_attribute("data-state", "done")
    page.go_back()
    expect(page).to_have_url(first)
    expect(answer(page, 1)).not_to_be_empty()
    close_side(page, "Presets and runs")


def test_a_run_from_an_unsaved_preset_keeps_the_preset_over_a_reload(page: Page, size: str) -> None:
    save_preset(page, f"Bound {size}")
    run(page)
    wait_ended(page)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Bound {size}")
    expect(page.get_by_role("button", name="Save version")).to_be_visible()
