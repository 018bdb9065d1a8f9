"""A real browser for tests of pages, and a watch over what a page does behind one's back.

A module takes the fixtures with ``pytest_plugins = ["browser"]``, and imports from here for type checking alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 30_000
# Without the last four, Chromium asks servers of its maker at every start.
FLAGS = (
    "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

# The least contrast among the texts that can be seen: "ratio text" of each below 4.5 (WCAG 2.2, 1.4.3).
LOW_CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const exempt = ".hidden, noscript, title, :disabled, :disabled + span";
  const seen = (element) => element.checkVisibility() && !element.closest(exempt);
  const judge = (element, text, colour) => {
    const lights = [luminance(numbers(colour)), luminance(ground(element))].sort((a, b) => b - a);
    const ratio = (lights[0] + 0.05) / (lights[1] + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${text}`);
  };
  let judged = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !seen(element)) continue;
    const style = getComputedStyle(element);
    judge(element, node.data.trim(), element instanceof SVGElement ? style.fill : style.color);
    judged += 1;
  }
  for (const input of document.querySelectorAll("input:not([type=radio]), textarea")) {
    judge(input, input.value, getComputedStyle(input).color);
    judge(input, input.placeholder ?? "", getComputedStyle(input, "::placeholder").color);
  }
  return { judged, low };
}"""


class WatchedPage:
    """A page in a browser context of its own, with what it logged as errors and whom it asked.

    Attributes:
        page: Playwright's page.
        errors: Errors in the console, and errors that nobody caught. That a server refused a request is none.
        origins: Of every request.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.origins: set[str] = set()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.origins.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource: the server responded"):
            self.errors.append(message.text)

    def low_contrast(self) -> list[str]:
        """Texts with less than 4.5:1, each with its ratio; there must be texts."""
        found = self.page.evaluate(LOW_CONTRAST)
        assert found["judged"] > 0
        return list(found["low"])


OpenPage = Callable[..., WatchedPage]


# A module's, not the session's: while Playwright runs, no other test of the process could use asyncio.run.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install one (Debian: apt-get install chromium)")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open a page with a context's options. At the end it must have logged no error and asked nobody else."""
    opened: list[tuple[str, WatchedPage]] = []

    def open_url(url: str, **options: Any) -> WatchedPage:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        watched = WatchedPage(context.new_page())
        opened.append((url, watched))
        watched.page.goto(url)
        return watched

    yield open_url
    for _, watched in opened:
        with suppress(Exception):
            watched.page.context.close()
    for url, watched in opened:
        assert watched.errors == []
        assert watched.origins <= {"{0.scheme}://{0.netloc}".format(urlsplit(url)), "data://"}
