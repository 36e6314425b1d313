"""Real browsers, and pages whose every console error, page error and foreign request fails the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Playwright,
    Request,
    sync_playwright,
)

from tests.support import CHROMIUM, REPOSITORY, Service

OUTPUT = REPOSITORY / "tests" / "output"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


EITHER = pytest.mark.parametrize("browser", ["chromium", "firefox"], indirect=True)
"""Runs a test in Chromium and in Firefox. Other tests run in Chromium."""


CHROMIUM_FIRST = pytest.mark.parametrize(
    "browser", ["chromium", pytest.param("firefox", marks=pytest.mark.full)], indirect=True
)
"""The same, in Firefox by `make test-faults` only: tests marked `EITHER` use what Firefox has to do here, too."""


WHOLE_CHROMIUM = "/usr/bin/chromium"
WHOLE = pytest.mark.parametrize("browser", ["whole"], indirect=True)
"""Runs a test in the whole Chromium: `CHROMIUM` shows no notification of the browser."""


class Browsers:
    """Debian's browsers, each started when a test needs it first."""

    def __init__(self, playwright: Playwright) -> None:
        self._playwright = playwright
        self._open: dict[str, Browser] = {}

    def __getitem__(self, name: str) -> Browser:
        if name not in self._open:
            self._open[name] = self._firefox() if name == "firefox" else self._chromium(whole=name == "whole")
        return self._open[name]

    def close(self) -> None:
        for browser in self._open.values():
            browser.close()

    def _chromium(self, *, whole: bool) -> Browser:
        path = WHOLE_CHROMIUM if whole else CHROMIUM
        return self._playwright.chromium.launch(executable_path=path, args=ARGUMENTS)

    def _firefox(self) -> Browser:
        """By WebDriver BiDi, which an unchanged Firefox speaks; playwright's own protocol needs playwright's build."""
        return self._playwright.firefox.launch(executable_path="/usr/bin/firefox-esr", channel="moz-firefox")


# Not longer than the package: the synchronous interface runs a loop in this thread, and other tests need their own.
@pytest.fixture(scope="package")
def browsers() -> Iterator[Browsers]:
    """The browsers of these tests."""
    with sync_playwright() as playwright:
        browsers = Browsers(playwright)
        yield browsers
        browsers.close()


@pytest.fixture
def browser(browsers: Browsers, request: pytest.FixtureRequest) -> Browser:
    """Chromium, or the browser that `EITHER` names."""
    return browsers[getattr(request, "param", "chromium")]


@dataclass
class Witness:
    """What a page did that a test should know of."""

    url: str
    faults: list[str] = field(default_factory=list)
    """Errors on the console and uncaught ones."""
    requests: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", self._error)
        page.on("request", self._request)

    @property
    def foreign(self) -> list[str]:
        """Requests to anything but the service."""
        return [url for url in self.requests if not url.startswith(self.url + "/")]

    def _console(self, console: ConsoleMessage) -> None:
        if console.type in ("error", "warning"):
            self.faults.append(f"{console.type}: {console.text}")

    def _error(self, error: Error) -> None:
        self.faults.append(f"uncaught: {error}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)


Open = Callable[[str], Page]


@pytest.fixture
def witness(service: Service) -> Witness:
    return Witness(service.url)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past: no cookies, no storage. Without motion: each frame of it is drawn by the processor."""
    fresh = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    fresh.set_default_timeout(30_000)
    yield fresh
    fresh.close()


@pytest.fixture
def demo(context: BrowserContext, service: Service, witness: Witness) -> Iterator[Open]:
    """Opens the demo as a user, in a tab of its own, and waits until it is live. Faults of the page fail the test."""

    def open_demo(user: str) -> Page:
        page = context.new_page()
        witness.watch(page)
        page.goto(f"{service.url}/demo?user={user}")
        live(page)
        return page

    yield open_demo
    assert witness.faults == []


def stop_clock(context: BrowserContext) -> None:
    """The timers of its next pages stand still: the test moves their clock, however slow the machine is."""
    context.clock.install(time=time.time() - 60)
    context.clock.pause_at(time.time())


def live(page: Page) -> None:
    """Waits until the page's stream is open."""
    page.locator("#state[data-state=live]").wait_for()


def overflows(page: Page) -> list[str]:
    """What is wider than its place: the page, the bell's panel, a toast. The last two are boxes of their own: a row
    that is too wide for them does not widen the page."""
    wide: list[str] = page.locator("html, notifier-bell [part=panel], [part=toast]").evaluate_all(
        """(boxes) => boxes.filter((box) => {
          const { left, right } = box.getBoundingClientRect();
          return box.scrollWidth > box.clientWidth || left < 0 || right > innerWidth;
        }).map((box) => `${box.localName} ${box.part}: ${box.scrollWidth} of ${box.clientWidth}`)"""
    )
    return wide


def shot(page: Page, name: str) -> Path:
    """A screenshot for people to look at."""
    path = OUTPUT / f"{name}.png"
    page.screenshot(path=path)
    return path
