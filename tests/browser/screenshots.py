"""Pictures of the real page for the docs: the welcome prompt answered by the real models.

python -m tests.browser.screenshots docs
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import launch
from tests.stack import Stack

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
SHOWN = {"desktop": "light", "phone": "dark"}  # of tokens and X-ray, one picture at each size


def answered(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).click()
    done = "() => [...document.querySelectorAll('[data-testid=lane]')].every(lane => lane.dataset.state === 'done')"
    page.wait_for_function(done, timeout=180_000)
    page.get_by_text("done · 2 lanes").first.wait_for(state="attached")


def with_beliefs(page: Page) -> None:
    """The same token by token, with the card of the token on which the models are furthest apart."""
    page.get_by_role("button", name="Tokens", exact=True).click()
    page.locator("token-bar").get_by_text("Compare beliefs").click()
    answered(page)
    page.get_by_test_id("lane").first.locator('[data-fact="widest"]').click()
    page.locator("token-card").wait_for()


def xrayed(page: Page) -> None:
    page.get_by_role("link", name="X-ray", exact=True).click()
    page.locator('[data-testid=lane][data-model^="ft:"]').wait_for(state="attached")
    page.get_by_role("button", name="X-ray", exact=True).click()
    read = "() => [...document.querySelectorAll('[data-testid=lane]')].every(lane => lane.dataset.state === 'done')"
    page.wait_for_function(read, timeout=180_000)


def main(folder: str = "docs") -> None:
    target = Path(folder)
    target.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="ds-") as home,
        Stack(Path(home), engine="torch") as stack,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        address = stack.signed_in
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                page.goto(address)
                page.get_by_test_id("lane").first.wait_for()
                answered(page)
                page.mouse.move(0, 0)
                page.screenshot(path=target / f"compare-{size}-{scheme}.png", animations="disabled")
                if SHOWN[size] == scheme:
                    with_beliefs(page)
                    page.screenshot(path=target / f"tokens-{size}-{scheme}.png", animations="disabled")
                    page.keyboard.press("Escape")
                    xrayed(page)
                    page.screenshot(path=target / f"xray-{size}-{scheme}.png", animations="disabled")
                context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
