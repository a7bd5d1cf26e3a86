"""Run, Stop, reload: both columns stream, nothing is lost, nothing runs on."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from playground.catalog import welcome
from tests.browser.bench import answer, lane, run, show, text_of, wait_ended, wait_text

pytestmark = pytest.mark.browser
WELCOME = welcome.SPEC["prompt"]["messages"][-1]["content"]
# Drops the connection, and lets none be made until the browser's own sockets are given back.
CUT = """() => {
  const live = document.querySelector("compare-bench").socket;
  live.WebSocket = class { constructor() { setTimeout(() => this.onclose({code: 1006})); } close() {} };
  live.socket.close();
}"""
LONG = "Tell me of the river. [[long]]"


def test_the_first_page_shows_the_difference_with_one_press(page: Page) -> None:
    expect(page.get_by_test_id("prompt")).to_have_value(WELCOME)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_disabled()
    page.get_by_test_id("prompt").press("Control+Enter")
    wait_text(page, 1)
    wait_text(page, 2)
    wait_ended(page)
    for number in (1, 2):
        expect(lane(page, number)).to_have_attribute("data-state", "done")
        for words in ("tokens", "ms to first", "tok/s", "done: stop"):
            expect(lane(page, number)).to_contain_text(words)
        expect(lane(page, number)).to_contain_text("used temperature 0.8")
    assert text_of(page, 1) != text_of(page, 2)
    expect(page).to_have_url(re.compile("/runs/[0-9a-f]{32}$"))
    expect(page.get_by_role("status").filter(has_text="Complete: lane 1 done: stop")).to_have_count(1)


def test_stop_keeps_the_text_and_ends_the_computation(page: Page) -> None:
    run(page, LONG)
    wait_text(page, 1)
    wait_text(page, 2)
    page.keyboard.press("Escape")
    for number in (1, 2):
        expect(lane(page, number)).to_have_attribute("data-state", "stopped")
    kept = [text_of(page, number) for number in (1, 2)]
    assert all(kept)
    page.reload()
    for number in (1, 2):
        expect(answer(page, number)).to_have_text(kept[number - 1], use_inner_text=False)
        expect(lane(page, number)).to_have_attribute("data-state", "stopped")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_disabled()


def test_a_reload_in_the_middle_has_both_texts_and_goes_on(page: Page) -> None:
    run(page, LONG)
    wait_text(page, 2)
    expect(page).to_have_url(re.compile("/runs/"))
    before = [text_of(page, number) for number in (1, 2)]
    page.reload()
    for number in (1, 2):
        expect(answer(page, number)).to_have_text(re.compile(re.escape(before[number - 1].strip()) + r".+", re.S))
        expect(lane(page, number)).to_have_attribute("data-state", "running")
        assert text_of(page, number).startswith(before[number - 1])
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_ended(page)


def test_a_lane_is_stopped_alone_and_run_again_alone(page: Page) -> None:
    run(page, LONG)
    wait_text(page, 1)
    wait_text(page, 2)
    show(page, 2)
    page.get_by_role("button", name="Stop lane 2", exact=True).click()
    expect(lane(page, 2)).to_have_attribute("data-state", "stopped")
    expect(lane(page, 1)).to_have_attribute("data-state", "running")
    first = text_of(page, 2)
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_ended(page)
    page.get_by_role("button", name="Run lane 2 again", exact=True).click()
    expect(lane(page, 2)).to_have_attribute("data-state", "running")
    wait_text(page, 2)
    page.get_by_role("button", name="Stop lane 2", exact=True).click()
    expect(lane(page, 2)).to_have_attribute("data-state", "stopped")
    expect(lane(page, 2)).to_contain_text("2/2")
    page.get_by_role("button", name="Earlier take of lane 2").click()
    expect(lane(page, 2)).to_contain_text("1/2")
    expect(answer(page, 2)).to_have_text(first.strip())
    page.reload()
    expect(lane(page, 2)).to_contain_text("2/2")


def test_another_tab_follows_the_same_run_and_can_stop_it(page: Page) -> None:
    run(page, LONG)
    wait_text(page, 1)
    expect(page).to_have_url(re.compile("/runs/"))
    other = page.context.new_page()
    other.goto(page.url)
    expect(lane(other, 1)).to_have_attribute("data-state", "running")
    other.get_by_role("button", name="Stop", exact=True).click()
    for tab in (page, other):
        wait_ended(tab)
    assert text_of(page, 1) == text_of(other, 1)


def test_a_cut_connection_is_told_and_made_good(open_page: Callable[..., Page]) -> None:
    page = open_page()
    run(page, LONG)
    wait_text(page, 1)
    page.evaluate(CUT)
    expect(page.get_by_role("button", name=re.compile("reconnecting|connecting"))).to_be_visible()
    cut = text_of(page, 1)
    page.evaluate("document.querySelector('compare-bench').socket.WebSocket = WebSocket; 0")
    expect(page.get_by_role("button", name="worker ready")).to_be_visible()
    expect(answer(page, 1)).to_have_text(re.compile(re.escape(cut.strip()) + ".+", re.S))
    page.keyboard.press("Escape")
    wait_ended(page)
    shown = text_of(page, 1)
    page.reload()
    expect(answer(page, 1)).to_have_text(shown.strip())


def test_a_lane_that_fails_says_why_and_the_page_lives_on(page: Page) -> None:
    run(page, "Please [[fail]] now.")
    wait_ended(page)
    expect(lane(page, 1)).to_have_attribute("data-state", "failed")
    expect(lane(page, 1)).to_contain_text("The prompt asked this answer to fail.")
    run(page, "And now an answer.")
    wait_ended(page)
    expect(lane(page, 1)).to_have_attribute("data-state", "done")


def test_ten_thousand_tokens_are_shown_whole_in_a_few_nodes(open_page: Callable[..., Page]) -> None:
    page = open_page()
    shown = page.evaluate(
        """async () => {
          const session = document.querySelector("compare-bench").session;
          const spec = document.querySelector("compare-bench").spec;
          document.querySelector("compare-bench").draft.bound = {run: "x", roots: Object.fromEntries(
            document.querySelector("compare-bench").draft.lanes.map((lane, i) => [lane.key, i]))};
          session.run = "x";
          const say = (...events) => session.socket.dispatchEvent(
            new CustomEvent("events", {detail: {run: "x", events}}));
          say({n: 1, type: "run.created", run: "x", spec, at: 0});
          let n = 1;
          for (let batch = 0; batch < 200; batch++) {
            const events = [];
            for (let i = 0; i < 50; i++) for (const lane of [0, 1])
              events.push({n: ++n, type: "lane.token", lane, index: batch * 50 + i, ids: [1], text: " word", at: n});
            say(...events);
            if (batch % 10 === 0) await new Promise(requestAnimationFrame);
          }
          await new Promise(requestAnimationFrame);
          const answer = document.querySelector("[data-testid=answer]");
          return {shown: answer.textContent.length, nodes: answer.childNodes.length};
        }"""
    )
    assert shown["shown"] == 50_000
    assert shown["nodes"] < 50  # not one for each token
