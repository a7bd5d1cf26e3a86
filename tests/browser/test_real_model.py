"""The first minute of a newcomer, with the real base model and its real adapter."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.bench import lane, text_of, wait_ended
from tests.browser.test_tokens import by_token, card, tokens
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.model]
MINUTE = 60_000


@pytest.fixture(scope="module")
def real() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="dr-") as home, Stack(Path(home), engine="torch") as stack:
        yield stack


def test_the_welcome_prompt_shows_what_the_adapter_has_learned(real: Stack, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(real.signed_in)
    expect(lane(page, 1)).to_have_attribute("data-model", "smollm2-135m-instruct")
    expect(lane(page, 2)).to_have_attribute("data-model", "ft:smollm2-135m-instruct:tickets")
    page.get_by_role("button", name="Run", exact=True).click()
    for number in (1, 2):
        expect(lane(page, number)).to_have_attribute("data-state", "done", timeout=3 * MINUTE)
    assert set(json.loads(text_of(page, 2))) == {"product", "problem", "urgency", "wants"}
    assert text_of(page, 1) != text_of(page, 2)
    expect(lane(page, 2).get_by_role("button", name="proven different")).to_be_visible()
    page.close()


def test_the_real_models_disagree_where_the_training_bites(real: Stack, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(real.signed_in)
    expect(page.get_by_test_id("lane").nth(1)).to_have_attribute("data-model", re.compile("tickets"))
    by_token(page, "Compare beliefs")
    lane(page, 1).locator('[data-fact="widest"]').click()
    expect(card(page).locator(".token-side")).to_have_count(2)
    expect(card(page)).to_contain_text("KL to it")
    choice = card(page).locator(".token-side").nth(1).get_by_role("button").first  # what the tuned model would say
    wanted = (choice.locator(".alternative-text").text_content() or "").replace("␣", " ")
    at = int(page.locator(".tok:focus").get_attribute("data-i") or 0)
    choice.click()
    expect(lane(page, 1)).to_contain_text(f"branched at token {at + 1}")
    wait_ended(page, 1)
    expect(tokens(page, 1).nth(at)).to_have_text(wanted)
    page.goto(real.url + "/xray")
    expect(lane(page, 2)).to_have_attribute("data-model", re.compile("tickets"))
    page.get_by_role("button", name="X-ray", exact=True).click()
    wait_ended(page)
    told = [lane(page, number).locator('[data-fact="answer"]').text_content() or "" for number in (1, 2)]
    base, tuned = (float(text.removeprefix("last message: perplexity ")) for text in told)
    assert tuned < 2 < base  # the answer is what the tuned model was trained to say, and strange to its base
    context.close()
