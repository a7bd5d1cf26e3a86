"""The first minute of a newcomer, with the real base model and its real adapter."""

import json
import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.bench import lane, text_of
from tests.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.model]
MINUTE = 60_000


def test_the_welcome_prompt_shows_what_the_adapter_has_learned(browser: Browser) -> None:
    with tempfile.TemporaryDirectory(prefix="dr-") as home, Stack(Path(home), engine="torch") as stack:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(stack.signed_in)
        expect(lane(page, 1)).to_have_attribute("data-model", "smollm2-135m-instruct")
        expect(lane(page, 2)).to_have_attribute("data-model", "ft:smollm2-135m-instruct:tickets")
        page.get_by_role("button", name="Run", exact=True).click()
        for number in (1, 2):
            expect(lane(page, number)).to_have_attribute("data-state", "done", timeout=3 * MINUTE)
        assert set(json.loads(text_of(page, 2))) == {"product", "problem", "urgency", "wants"}
        assert text_of(page, 1) != text_of(page, 2)
        expect(lane(page, 2).get_by_role("button", name="proven different")).to_be_visible()
        page.close()
