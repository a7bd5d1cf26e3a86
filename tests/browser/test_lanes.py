"""Columns: more of them, fewer, in another order, with other models."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.bench import lane, run, show, text_of, wait_ended

pytestmark = pytest.mark.browser


def menu(page: Page, number: int, item: str) -> None:
    show(page, number)
    page.get_by_role("button", name=f"More for lane {number}", exact=True).click()
    lane(page, number).get_by_role("button", name=item, exact=True).click()


def test_a_third_and_fourth_lane_answer_beside_the_others(page: Page) -> None:
    page.get_by_role("button", name="Lane", exact=True).click()
    page.get_by_role("button", name="Lane", exact=True).click()
    expect(page.get_by_test_id("lane")).to_have_count(4)
    show(page, 3)
    page.get_by_label("Model of lane 3").select_option("fake-base")
    expect(lane(page, 3)).to_have_attribute("data-model", "fake-base")
    run(page)
    wait_ended(page, 1, 2, 3, 4)
    assert text_of(page, 3) == text_of(page, 1)  # same model, same seed
    assert len({pane.get_attribute("data-tone") for pane in page.get_by_test_id("lane").all()}) == 4


def test_a_removed_lane_comes_back_with_its_text(page: Page) -> None:
    run(page)
    wait_ended(page)
    text = text_of(page, 1)
    menu(page, 1, "Remove lane")
    expect(page.get_by_test_id("lane")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_test_id("lane")).to_have_count(2)
    assert text_of(page, 1) == text


def test_sides_are_swapped_with_their_answers(page: Page) -> None:
    run(page)
    wait_ended(page)
    before = [text_of(page, 1), text_of(page, 2)]
    menu(page, 1, "Swap with next lane")
    expect(lane(page, 1)).to_have_attribute("data-model", re.compile("^ft:"))
    assert [text_of(page, 1), text_of(page, 2)] == before[::-1]
    page.reload()
    expect(lane(page, 1)).to_have_attribute("data-model", re.compile("^ft:"))
    expect(lane(page, 1).get_by_test_id("answer")).to_have_text(before[1].strip())


def test_a_lane_is_duplicated_and_run_alone_in_the_same_run(page: Page) -> None:
    run(page)
    wait_ended(page)
    address = page.url
    menu(page, 2, "Duplicate lane")
    expect(page.get_by_test_id("lane")).to_have_count(3)
    show(page, 3)
    page.get_by_role("button", name="Run lane 3 alone", exact=True).click()
    wait_ended(page, 3)
    assert text_of(page, 3)
    assert page.url == address


def test_another_model_says_that_the_shown_answer_is_not_its_own(page: Page) -> None:
    run(page)
    wait_ended(page)
    page.get_by_label("Model of lane 1").select_option("ft:fake-base:shout")
    expect(lane(page, 1)).to_contain_text("This answer is from fake-base.")


def test_a_lane_fills_the_screen_and_gives_it_back(page: Page) -> None:
    page.get_by_role("button", name="Full screen of lane 1").click()
    box = lane(page, 1).bounding_box()
    assert box
    assert box["width"] == page.viewport_size["width"]  # type: ignore[index]
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Full screen of lane 1")).to_be_visible()


def test_an_answer_is_copied_whole(page: Page) -> None:
    run(page)
    wait_ended(page)
    page.get_by_role("button", name="Copy the answer of lane 1").click()
    expect(lane(page, 1).locator('[data-do="copy"] use')).to_have_attribute("href", "#i-check")
    assert page.evaluate("navigator.clipboard.readText()") == text_of(page, 1)


def test_the_proof_is_explained_on_a_press(page: Page) -> None:
    run(page)
    wait_ended(page)
    show(page, 2)
    page.get_by_role("button", name="proven different").click()
    expect(page.get_by_text("Are these two different models?")).to_be_visible()
    expect(page.get_by_text("yes, bit for bit")).to_be_visible()


def test_where_answers_begin_to_differ_is_marked_without_touching_them(page: Page) -> None:
    run(page)
    wait_ended(page)
    marked = "() => [...(CSS.highlights.get('fork-tuned') ?? [])].map(String)"
    words = page.evaluate(marked)
    assert len(words) == 1
    assert words[0] in text_of(page, 2)
    assert page.evaluate("document.querySelectorAll('[data-testid=answer] *').length") == 0
    page.get_by_role("button", name=re.compile("First difference|Diff")).click()
    expect(lane(page, 2)).not_to_contain_text("differs")
    assert page.evaluate(marked) == []
