"""The prompt and its parameters: what is shown is what is sent, and what was used stands under the answer."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from playground.catalog import welcome
from tests.browser.bench import close_side, lane, open_side, run, show, wait_ended

pytestmark = pytest.mark.browser
WELCOME = welcome.SPEC["prompt"]["messages"][-1]["content"]


@pytest.fixture
def sent(page: Page) -> list[dict[str, Any]]:
    """Every frame that the page sends from its next load on."""
    frames: list[dict[str, Any]] = []
    page.on("websocket", lambda ws: ws.on("framesent", lambda text: frames.append(json.loads(text))))
    page.reload()
    expect(page.get_by_role("button", name=re.compile("worker ready"))).to_be_visible()
    return frames


def start(frames: list[dict[str, Any]]) -> dict[str, Any]:
    return next(frame["spec"] for frame in frames if frame["type"] == "run.start")


def test_messages_are_added_edited_moved_and_removed_with_undo(page: Page, sent: list[dict[str, Any]]) -> None:
    page.get_by_role("button", name="Message", exact=True).click()
    page.get_by_label("Message 3, assistant").fill("Third")
    page.get_by_role("button", name="Message", exact=True).click()
    page.get_by_label("Message 4, user").fill("Fourth")
    page.get_by_label("Message 4, user").press("Alt+ArrowUp")
    expect(page.get_by_label("Message 3, user")).to_have_value("Fourth")
    expect(page.get_by_test_id("prompt")).to_have_value("Fourth")
    page.get_by_role("button", name="Remove message 1").click()
    expect(page.get_by_label("Message 1, user")).to_have_value(WELCOME)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Message 1, system")).to_be_visible()
    page.get_by_role("button", name="Remove message 2").click()
    page.get_by_label("Role of message 3").select_option("user")
    run(page)
    wait_ended(page)
    messages = start(sent)["prompt"]["messages"]
    assert [(message["role"], message["content"][:6]) for message in messages] == [
        ("system", "Turn t"),
        ("user", "Fourth"),
        ("user", "Third"),
    ]


def test_a_message_is_dragged_by_its_handle(open_page: Callable[..., Page]) -> None:
    page = open_page()
    grip = page.get_by_role("button", name="Move message 1", exact=True).bounding_box()
    below = page.get_by_label("Message 2, user").bounding_box()
    assert grip
    assert below
    page.mouse.move(grip["x"] + 5, grip["y"] + 5)
    page.mouse.down()
    page.mouse.move(below["x"], below["y"] + below["height"] - 4, steps=4)
    page.mouse.up()
    expect(page.get_by_label("Message 2, system")).to_be_visible()


def test_chat_and_completion_each_keep_their_text(page: Page, sent: list[dict[str, Any]]) -> None:
    page.get_by_role("radio", name="Completion").check(force=True)
    page.get_by_test_id("prompt").fill("Once upon a time")
    page.get_by_role("radio", name="Chat").check(force=True)
    expect(page.get_by_test_id("prompt")).to_have_value(WELCOME)
    page.get_by_role("radio", name="Completion").check(force=True)
    expect(page.get_by_test_id("prompt")).to_have_value("Once upon a time")
    run(page)
    wait_ended(page)
    assert start(sent)["prompt"] == {"mode": "completion", "text": "Once upon a time"}


def test_a_reload_loses_nothing_that_was_typed(page: Page) -> None:
    page.get_by_test_id("prompt").fill("Half a thought")
    open_side(page, "Parameters")
    page.get_by_role("spinbutton", name="Temperature value").last.fill("0.3")
    page.get_by_role("spinbutton", name="Temperature value").last.press("Tab")
    page.reload()
    expect(page.get_by_test_id("prompt")).to_have_value("Half a thought")
    open_side(page, "Parameters")
    expect(page.get_by_role("spinbutton", name="Temperature value").last).to_have_value("0.3")


def test_what_is_off_is_not_sent_and_what_is_on_was_used(page: Page, sent: list[dict[str, Any]]) -> None:
    open_side(page, "Parameters")
    panel = page.get_by_role("complementary", name="Parameters")
    expect(panel).to_contain_text("Off: model's own default 0.8 (generation_config).")
    panel.get_by_role("spinbutton", name="Top P value").fill("0.5")
    panel.get_by_role("spinbutton", name="Top P value").press("Tab")
    panel.get_by_role("spinbutton", name="Max tokens value").fill("3")
    panel.get_by_role("spinbutton", name="Max tokens value").press("Tab")
    panel.get_by_text("More", exact=True).click()
    panel.get_by_role("textbox", name="Add a stop sequence").fill("END")
    panel.get_by_role("textbox", name="Add a stop sequence").press("Enter")
    panel.get_by_role("spinbutton", name="Seed value").fill("11")
    panel.get_by_role("spinbutton", name="Seed value").press("Tab")
    close_side(page, "Parameters")
    run(page)
    wait_ended(page)
    assert start(sent)["params"] == {"top_p": 0.5, "max_tokens": 3, "stop": ["END"], "seed": 11}
    used = lane(page, 1).locator("used-details")
    expect(used).to_contain_text("temperature 0.8 top_p 0.5 max_tokens 3 seed 11")
    expect(lane(page, 1)).to_contain_text("cut: max tokens")
    used.locator("summary").click()
    expect(used).to_contain_text('Stop sequences"END"')


def test_a_lane_can_differ_and_is_marked_so(page: Page, sent: list[dict[str, Any]]) -> None:
    show(page, 2)
    page.get_by_role("button", name="Lane settings of lane 2").click()
    settings = lane(page, 2).get_by_role("region", name="Lane settings")
    settings.get_by_role("spinbutton", name="Temperature value, lane 2").fill("0")
    settings.get_by_role("spinbutton", name="Temperature value, lane 2").press("Tab")
    expect(lane(page, 2)).to_contain_text("1 modified")
    page.get_by_role("button", name=re.compile("^Lane settings of lane 2")).click()
    run(page)
    wait_ended(page)
    assert [spec["overrides"] for spec in start(sent)["lanes"]] == [{}, {"temperature": 0}]
    expect(lane(page, 1).locator("mark")).to_have_text("temperature 0.8")
    expect(lane(page, 2).locator("mark")).to_have_text("temperature 0")
    page.get_by_role("button", name=re.compile("^Lane settings of lane 2")).click()
    settings.get_by_role("button", name="Reset Temperature to the value of all lanes").click()
    expect(lane(page, 2)).not_to_contain_text("modified")


def test_an_empty_message_is_not_sent_but_named(page: Page) -> None:
    page.get_by_test_id("prompt").fill("")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="Message 2 is empty")).to_be_visible()
    expect(page.get_by_test_id("prompt")).to_be_focused()
