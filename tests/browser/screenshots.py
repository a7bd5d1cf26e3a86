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


def answered(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).click()
    done = "() => [...document.querySelectorAll('[data-testid=lane]')].every(lane => lane.dataset.state === 'done')"
    page.wait_for_function(done, timeout=180_000)
    page.get_by_text("done · 2 lanes").first.wait_for(state="attached")


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
                context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
