"""One model in many shapes: strengths, parameters of every kind, engines that lack some, and the queue."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser import wire
from tests.browser.bench import close_side, lane, open_side, run, save_preset, show, text_of, wait_ended

pytestmark = pytest.mark.browser
READY = re.compile("worker ready")


def dial(page: Page, number: int, strength: float) -> None:
    page.get_by_role("slider", name=f"Strength of lane {number}").fill(str(strength))


@pytest.fixture
def sent(page: Page) -> list[wire.Frame]:
    frames = wire.sent(page)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    return frames


def test_a_strength_is_shown_sent_used_and_kept(page: Page, sent: list[wire.Frame]) -> None:
    show(page, 2)
    expect(page.get_by_role("slider", name="Strength of lane 1")).to_be_hidden()
    dial(page, 2, -0.25)
    expect(lane(page, 2).locator("strength-dial .strength-value")).to_have_text("-0.25")
    run(page)
    wait_ended(page)
    base, tuned = wire.newest(sent, "run.start")["spec"]["lanes"]
    assert ("strength" in base, tuned["strength"]) == (False, -0.25)
    expect(lane(page, 2).locator("used-details")).to_contain_text("strength -0.25")
    assert text_of(page, 2) == text_of(page, 1)  # away from the adapter the fake model does not shout
    page.reload()
    expect(lane(page, 2).locator("strength-dial .strength-value")).to_have_text("-0.25")
    show(page, 2)
    lane(page, 2).get_by_role("button", name="Strength as it was trained").click()
    expect(lane(page, 2)).to_contain_text("This answer is at strength -0.25")
    run(page)
    wait_ended(page)
    assert "strength" not in wire.newest(sent, "run.start")["spec"]["lanes"][1]


def test_columns_of_one_model_at_many_strengths_stand_beside_each_other(open_page: Callable[..., Page]) -> None:
    page = open_page()
    frames = wire.sent(page)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    page.get_by_role("button", name="More for lane 2", exact=True).click()
    lane(page, 2).get_by_role("button", name="Sweep its strength").click()
    expect(page.get_by_test_id("lane")).to_have_count(5)
    expect(page.get_by_role("button", name=re.compile("^Show lane 3:.*×0.5$"))).to_be_visible()
    run(page)
    wait_ended(page)
    strengths = [spec.get("strength") for spec in wire.newest(frames, "run.start")["spec"]["lanes"]]
    assert strengths == [None, 0, 0.5, None, 1.5]
    assert text_of(page, 2) == text_of(page, 1)  # strength 0 is the base
    assert text_of(page, 3) == text_of(page, 4)


def test_a_preset_keeps_strengths_beliefs_and_formats(page: Page, sent: list[wire.Frame], size: str) -> None:
    show(page, 2)
    dial(page, 2, 0.5)
    page.get_by_role("button", name="Tokens", exact=True).click()
    page.get_by_role("switch", name="Compare beliefs").locator("..").click()
    open_side(page, "Parameters")
    panel = page.get_by_role("complementary", name="Parameters")
    panel.locator("summary").click()
    panel.get_by_role("combobox", name="Kind of format").select_option("choice")
    panel.get_by_role("textbox", name="Text of the format").fill("yes\nno")
    panel.get_by_role("textbox", name="Text of the format").press("Tab")
    expect(panel.get_by_role("switch", name="Format", exact=True)).to_be_checked()
    close_side(page, "Parameters")
    save_preset(page, f"All of it, {size}")
    page.reload()
    expect(page.get_by_text("edited", exact=True)).to_be_hidden()
    page.goto(page.url)
    expect(lane(page, 2).locator("strength-dial .strength-value")).to_have_text("0.50")
    expect(page.get_by_role("switch", name="Compare beliefs")).to_be_checked()
    open_side(page, "Parameters")
    panel.locator("summary").click()
    expect(panel.get_by_role("textbox", name="Text of the format")).to_have_value("yes\nno")
    expect(page.get_by_text("edited", exact=True)).to_be_hidden()


def test_parameters_of_every_kind_are_set_and_sent(open_page: Callable[..., Page]) -> None:
    page = open_page()
    frames = wire.sent(page)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    panel = page.get_by_role("complementary", name="Parameters")
    panel.locator("summary").click()
    panel.get_by_role("radio", name="own").check(force=True)
    panel.get_by_role("textbox", name="Token id", exact=True).fill("300")
    panel.get_by_role("textbox", name="Bias", exact=True).fill("-100")
    panel.get_by_role("textbox", name="Bias", exact=True).press("Enter")
    panel.get_by_role("textbox", name="Add to Stop tokens").fill("5, 6")
    panel.get_by_role("textbox", name="Add to Stop tokens").press("Enter")
    panel.get_by_role("textbox", name="Add to Banned words").fill("river")
    panel.get_by_role("textbox", name="Add to Banned words").press("Enter")
    panel.get_by_role("combobox", name="Kind of format").select_option("json_schema")
    panel.get_by_role("textbox", name="Text of the format").fill('{"type"')
    expect(panel.get_by_role("status").filter(has_text="Off: this is not JSON")).to_be_visible()
    expect(panel.get_by_role("switch", name="Format", exact=True)).not_to_be_checked()
    panel.get_by_role("textbox", name="Text of the format").fill('{"type": "object"}')
    expect(panel.get_by_role("switch", name="Format", exact=True)).to_be_checked()
    run(page)
    params = wire.wait_for(page, frames, "run.start")["spec"]["params"]
    assert params["dice"] == "own"
    assert params["logit_bias"] == {"300": -100}
    assert params["stop_token_ids"] == [5, 6]
    assert params["bad_words"] == ["river"]
    assert params["constraint"] == {"kind": "json_schema", "schema": '{"type": "object"}'}


def test_what_an_engine_does_not_do_is_said_where_it_would_be_set(open_page: Callable[..., Page]) -> None:
    page = open_page()
    why = "This server draws as it likes."

    def change(frame: wire.Frame) -> None:
        for model in frame.get("models", []):
            model["cannot"] = {"temperature": why, "strength": why, "shadows": why}
            if model["base"] is None:
                model["cannot"]["top_p"] = why

    wire.rewrite(page, change)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    panel = page.get_by_role("complementary", name="Parameters")
    expect(panel.get_by_role("switch", name="Temperature", exact=True)).to_be_disabled()
    expect(panel.get_by_text(f"Not possible: {why}")).to_be_visible()
    expect(panel.get_by_text(f"Not for Fake base: {why}")).to_be_visible()
    expect(page.get_by_role("slider", name="Strength of lane 2")).to_be_disabled()
    expect(lane(page, 2)).to_contain_text("strength cannot be set")
    panel.get_by_role("spinbutton", name="Top P value").fill("0.5")
    panel.get_by_role("spinbutton", name="Top P value").press("Tab")
    expect(lane(page, 1)).to_contain_text("no top p here")
    run(page)
    expect(page.get_by_role("alert").filter(has_text=f"Lane 1, Fake base, has no top p: {why}")).to_be_visible()
    expect(lane(page, 1)).to_have_attribute("data-state", "idle")
    page.get_by_role("button", name="Lane settings of lane 1").click()
    page.get_by_role("switch", name="Top P, lane 1").locator("..").click()
    expect(lane(page, 1)).not_to_contain_text("no top p here")
    run(page)
    wait_ended(page)


def test_a_waiting_lane_tells_its_place_and_a_worker_what_it_saves(open_page: Callable[..., Page]) -> None:
    page = open_page()

    def change(frame: wire.Frame) -> None:
        for event in frame.get("events", []):
            if event.get("lane") == 0 and event["type"] != "lane.added":
                event.update(type="lane.queued", position=2)
            if event["type"] == "lane.started":
                event["precision"] = "4-bit"
            if "figures" in event:
                event["figures"]["cached_tokens"] = 12
        for worker in frame.get("workers", []):
            worker.update(cache_hits=30, cache_asked=120)

    wire.rewrite(page, change)
    page.reload()
    page.get_by_role("button", name=READY).click()
    expect(page.get_by_text("prefix cache: 25 % of 120 prompt tokens")).to_be_visible()
    page.keyboard.press("Escape")
    run(page)
    expect(lane(page, 1)).to_contain_text("2nd in the queue")
    wait_ended(page, 2)
    expect(lane(page, 2).locator("used-details")).to_contain_text("4-bit")
    lane(page, 2).locator("used-details summary").click()
    expect(lane(page, 2)).to_contain_text("12 of them from the prefix cache")
