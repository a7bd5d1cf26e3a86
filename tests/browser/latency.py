"""How much the web tier adds: the time between the worker's stamp on an event and its arrival in a real browser.

    python -m tests.browser.latency [LANES] [MS_PER_TOKEN]

The whole system runs on this machine, so both clocks are one. The engine is the fake one at a constant rate, so that
the model's own work does not stand in the way of what is measured.
"""

import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import launch
from tests.stack import Stack

# Listens beside the page's own code and changes nothing of it.
LISTEN = """
window.__delays = [];
const Socket = window.WebSocket;
window.WebSocket = class extends Socket {
  constructor(...rest) {
    super(...rest);
    this.addEventListener("message", ({data}) => {
      const now = performance.timeOrigin + performance.now();
      const frame = JSON.parse(data);
      if (frame.type !== "events") return;
      for (const event of frame.events) if (event.type === "lane.token") window.__delays.push(now - event.at);
    });
  }
};
"""


def measure(page: Page, lanes: int, tokens: int) -> list[float]:
    """Run the page's prompt in so many lanes; returns the delays in ms."""
    page.get_by_test_id("prompt").fill("Measure this. [[long]]")
    box = page.get_by_role("spinbutton", name="Max tokens")
    box.fill(str(tokens))
    box.press("Tab")
    pane = page.get_by_test_id("lane")
    for present in range(2, lanes):
        page.get_by_role("button", name="Lane", exact=True).click()
        pane.nth(present).wait_for()
    page.get_by_role("button", name="Run", exact=True).click()
    done = "() => [...document.querySelectorAll('[data-testid=lane]')].every(lane => lane.dataset.state === 'done')"
    page.wait_for_function(done, timeout=120_000)
    return page.evaluate("window.__delays")


def main(lanes: int = 2, delay: float = 30.0) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="dl-") as folder,
        Stack(Path(folder), delay=delay) as stack,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        page = browser.new_page()
        page.add_init_script(LISTEN)
        page.goto(stack.signed_in)
        delays = sorted(measure(page, lanes, tokens=200))
        browser.close()
    print(f"{platform.platform()}, {os.cpu_count()} cores; {lanes} lanes, a token each {delay:g} ms")
    print(
        f"worker to browser over {len(delays)} tokens: median {statistics.median(delays):.1f} ms, "
        f"95 % {delays[int(len(delays) * 0.95)]:.1f} ms, worst {delays[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main(*(int(arg) for arg in sys.argv[1:]))
