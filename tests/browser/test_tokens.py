"""Answers token by token: how sure, what else, what the other model thinks, and another way from there."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import wire
from tests.browser.bench import answer, lane, run, show, text_of, wait_ended
from tests.browser.test_look import overflow, violations

pytestmark = pytest.mark.browser
READY = re.compile("worker ready")
HOSTILE = ["<img src=x onerror=alert(1)>", "\u202e\u0007", "", "\ufffd", "שלום", "\u2066x", " ", "\n\n", "</script>"]


def tokens(page: Page, number: int) -> Locator:
    return lane(page, number).get_by_test_id("tokens").locator(".tok")


def card(page: Page) -> Locator:
    return page.get_by_role("group", name="Token", exact=True)


def switch_on(page: Page, name: str) -> None:
    bar = page.locator("token-bar")
    bar.get_by_role("switch", name=name, exact=True).locator("..").click()
    expect(bar.get_by_role("switch", name=name, exact=True)).to_be_checked()


def by_token(page: Page, *switches: str) -> None:
    """Run with the token view and these switches on."""
    page.get_by_role("button", name="Tokens", exact=True).click()
    for name in switches:
        switch_on(page, name)
    run(page)
    wait_ended(page)


def test_without_insight_the_tokens_say_so_and_running_again_brings_it(page: Page) -> None:
    frames = wire.sent(page)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    by_token(page)
    assert "top_logprobs" not in wire.newest(frames, "run.start")["spec"]["params"]
    expect(lane(page, 1)).to_contain_text("run without insight")
    expect(answer(page, 1)).to_be_visible()
    lane(page, 1).get_by_role("button", name="Run again with insight").click()
    expect(tokens(page, 1).first).to_be_visible()
    wait_ended(page)
    assert wire.newest(frames, "run.start")["spec"]["params"]["top_logprobs"] == 5
    expect(answer(page, 1)).to_be_hidden()
    assert overflow(page) <= 0


def test_the_tokens_are_the_answer(open_page: Callable[..., Page]) -> None:
    page = open_page()
    by_token(page, "Insight")
    for number in (1, 2):
        shown = lane(page, number).get_by_test_id("tokens").text_content() or ""
        assert shown.replace("·", "").replace("∅", "") == text_of(page, number)
    page.keyboard.press("t")
    expect(answer(page, 1)).to_be_visible()
    expect(tokens(page, 1).first).to_be_hidden()


def test_the_keyboard_walks_looks_and_branches(open_page: Callable[..., Page]) -> None:
    page = open_page()
    frames = wire.sent(page)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    by_token(page, "Insight")
    first = tokens(page, 1).all_text_contents()
    tokens(page, 1).first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tokens(page, 1).nth(2)).to_be_focused()
    expect(card(page)).to_contain_text("token 3")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(tokens(page, 1).first).not_to_be_focused()
    for key in ("Home", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    choice = card(page).get_by_role("button", name=re.compile("^Branch here with")).first
    expect(choice).to_be_focused()
    other = (choice.locator(".alternative-text").text_content() or "").replace("␣", " ")
    page.keyboard.press("Enter")
    expect(lane(page, 1)).to_contain_text("2/2")
    wait_ended(page)
    expect(lane(page, 1)).to_contain_text("branched at token 3")
    assert tokens(page, 1).all_text_contents()[:3] == [*first[:2], other]
    expect(tokens(page, 1).nth(2)).to_have_class(re.compile("branched"))
    spec = wire.newest(frames, "lane.rerun")["spec"]
    assert len(spec["prefix"]) == 3
    expect(lane(page, 1)).to_contain_text(f"seed {spec['overrides']['seed']}")
    page.get_by_role("button", name="Earlier take of lane 1").click()
    expect(lane(page, 1)).to_contain_text("1/2")
    assert tokens(page, 1).all_text_contents() == first
    page.reload()
    expect(lane(page, 1)).to_contain_text("branched at token 3")
    assert tokens(page, 1).all_text_contents()[:3] == [*first[:2], other]


def test_a_token_is_looked_at_by_pointing_and_left_by_going_away(open_page: Callable[..., Page]) -> None:
    page = open_page()
    by_token(page, "Insight")
    tokens(page, 2).nth(1).hover()
    expect(card(page)).to_contain_text("token 2")
    expect(card(page)).to_contain_text("rank")
    card(page).hover()
    expect(card(page)).to_be_visible()
    page.mouse.move(5, 5)
    expect(card(page)).to_be_hidden()
    tokens(page, 2).nth(1).click()
    page.mouse.move(5, 5)
    expect(card(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(card(page)).to_be_hidden()
    expect(lane(page, 2)).to_have_attribute("data-state", "done")


def test_beliefs_are_compared_and_the_disagreements_walked(page: Page) -> None:
    frames = wire.sent(page)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    by_token(page, "Compare beliefs")
    base, tuned = (spec for spec in wire.newest(frames, "run.start")["spec"]["lanes"])
    assert base["shadows"] == [{"model": tuned["model"]}]
    assert tuned["shadows"] == [{"model": base["model"]}]
    for number in (1, 2):
        expect(lane(page, number).locator('[data-fact="kl"]')).to_have_text(re.compile(r"^KL [\d.]+$"))
    page.get_by_role("button", name=re.compile("^Next")).click()
    focused = page.locator(".tok:focus")
    expect(focused).to_have_class(re.compile("l[3456]"))
    expect(card(page).locator(".token-side")).to_have_count(2)
    expect(card(page)).to_contain_text("KL to it")
    place = focused.get_attribute("data-i")
    page.keyboard.press("n")
    expect(page.locator(".tok:focus")).not_to_have_attribute("data-i", place or "")
    page.keyboard.press("Escape")
    lane(page, 1).locator('[data-fact="widest"]').click()
    expect(page.locator(".tok:focus")).to_have_class(re.compile("l[3456]"))
    assert overflow(page) <= 0


def test_the_prompt_is_seen_token_by_token_beside_the_answer(open_page: Callable[..., Page]) -> None:
    page = open_page()
    panel = page.get_by_role("complementary", name="Parameters")
    panel.locator("summary").click()
    panel.get_by_role("switch", name="Prompt insight", exact=True).locator("..").click()
    by_token(page, "Insight")
    expect(tokens(page, 1).first).to_be_visible()
    lane(page, 1).get_by_text(re.compile(r"^Prompt, \d+ tokens$")).click()
    asked = lane(page, 1).get_by_role("group", name="Tokens of the prompt of lane 1")
    expect(asked).to_contain_text("Turn the support message")
    asked.locator(".tok").nth(3).click()
    expect(card(page)).to_contain_text("token 5")  # the first of a prompt has nothing before it
    expect(card(page).get_by_role("button")).to_have_count(0)


def test_a_guest_sees_the_tokens_of_a_shared_run_and_cannot_branch(open_page: Callable[..., Page], stack: Any) -> None:
    page = open_page()
    by_token(page, "Compare beliefs")
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_label("Anyone with the link").check()
    address = page.get_by_role("textbox", name="Link").input_value()
    guest = open_page(signed_in=False, path="/s/" + address.rsplit("/s/", 1)[1])
    guest.get_by_role("button", name="Tokens", exact=True).click()
    tokens(guest, 1).nth(1).click()
    expect(card(guest).locator(".token-side")).to_have_count(2)
    expect(card(guest).get_by_role("button")).to_have_count(0)
    expect(guest.get_by_role("switch", name="Insight", exact=True)).to_have_count(0)


def test_nothing_that_a_token_writes_is_more_than_text(open_page: Callable[..., Page]) -> None:
    page = open_page()

    def change(frame: wire.Frame) -> None:
        for event in wire.tokens(frame):
            for at, seen in enumerate(event.get("insight", [])):
                text = HOSTILE[(event["index"] + at) % len(HOSTILE)]
                seen["text"] = text
                seen["top"] = [[1, text, -0.1], [None, HOSTILE[0], -3], [2, "\u202eback", -4]]

    wire.rewrite(page, change)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    by_token(page, "Insight")
    expect(tokens(page, 1).nth(0)).to_have_text(HOSTILE[0])
    expect(tokens(page, 1).nth(1)).to_have_text("‹202E›␇")
    expect(tokens(page, 1).nth(2)).to_have_text("∅")
    assert page.locator("token-view img, token-view script, token-card img").count() == 0
    tokens(page, 1).nth(0).click()
    expect(card(page)).to_contain_text("‹202E›back")
    expect(card(page).get_by_role("button", name=re.compile("Branch here with"))).to_have_count(2)


def test_an_engine_that_tells_little_is_shown_as_far_as_it_tells(open_page: Callable[..., Page]) -> None:
    page = open_page()

    def change(frame: wire.Frame) -> None:
        for event in wire.tokens(frame):
            if event["index"] % 3 == 1:
                event.pop("insight", None)
            for seen in event.get("insight", []):
                seen.update(id=None, rank=None, entropy=None, top=[])

    wire.rewrite(page, change)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    by_token(page, "Insight")
    expect(lane(page, 1).locator(".tok.unknown").first).to_be_visible()
    shown = lane(page, 1).get_by_test_id("tokens").text_content() or ""
    assert shown.replace("·", "").replace("∅", "") == text_of(page, 1)
    expect(page.get_by_role("combobox", name="Tint tokens by").locator("option[value=rank]")).to_be_disabled()
    tokens(page, 1).nth(0).click()
    expect(card(page)).not_to_contain_text("rank")
    tokens(page, 1).nth(2).click()
    expect(card(page)).to_contain_text("not known well enough")


def test_eight_thousand_tokens_are_built_only_when_looked_at_and_stay_quick(open_page: Callable[..., Page]) -> None:
    page = open_page()

    def change(frame: wire.Frame) -> None:
        for event in wire.tokens(frame):
            if event["index"] == 0 and len(event.get("insight", [])) == 1:
                seen = event["insight"][0]
                many = [{**seen, "text": f" word{n}" + ("\n" if n % 90 == 89 else "")} for n in range(8000)]
                event.update(ids=[1] * 8000, insight=many, text="".join(one["text"] for one in many))
            else:
                event.update(index=0)  # is there already

    wire.rewrite(page, change)
    page.reload()
    expect(page.get_by_role("button", name=READY)).to_be_visible()
    page.get_by_role("button", name="Tokens", exact=True).click()
    switch_on(page, "Insight")
    page.get_by_role("button", name="Tokens", exact=True).click()
    run(page)
    wait_ended(page)
    assert page.locator(".tok[data-i]").count() == 0
    page.evaluate("""() => {
      window.longest = 0;
      const note = ({ duration }) => (window.longest = Math.max(window.longest, duration));
      new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({ entryTypes: ["longtask"] });
    }""")
    page.get_by_role("button", name="Tokens", exact=True).click()
    expect(tokens(page, 1)).to_have_count(8000)
    page.get_by_role("combobox", name="Tint tokens by").select_option("rank")
    tokens(page, 1).first.click()
    page.keyboard.press("End")
    expect(tokens(page, 1).last).to_be_focused()
    longest = page.evaluate("window.longest")
    assert longest < 1500  # on two busy cores; about 100 on quiet ones


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tokens_shut_nobody_out(open_page: Callable[..., Page], size: str, scheme: str) -> None:
    page = open_page(size, scheme=scheme, axe=True)
    by_token(page, "Compare beliefs")
    assert violations(page) == []
    tokens(page, 1).nth(1).click()
    expect(card(page)).to_be_visible()
    assert violations(page) == []
    page.get_by_role("combobox", name="Tint tokens by").select_option("probability")
    page.keyboard.press("Escape")
    show(page, 2)
    assert violations(page) == []
