"""A real Chromium, and pages whose every console error, page error and foreign request fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, sync_playwright

from tests.support import REPOSITORY, Service

OUTPUT = REPOSITORY / "tests" / "output"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


# Not longer than the package: the synchronous interface runs a loop in this thread, and other tests need their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for these tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


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
    """A browser without a past: no cookies, no storage."""
    fresh = browser.new_context(viewport={"width": 1280, "height": 900})
    fresh.set_default_timeout(15_000)
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


def live(page: Page) -> None:
    """Waits until the page's stream is open."""
    page.locator("#state[data-state=live]").wait_for()


def shot(page: Page, name: str) -> Path:
    """A screenshot for people to look at."""
    path = OUTPUT / f"{name}.png"
    page.screenshot(path=path)
    return path
