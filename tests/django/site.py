"""The test project in a real browser: served by runserver, beside a service that allows its origin.

Starting a Chromium costs more processor time than most tests in it: all tests share one, each with contexts of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import httpx
from playwright.async_api import Browser, async_playwright

from tests.support import CHROMIUM, REPOSITORY, Process, Service, free_port

T = TypeVar("T")


class Site:
    """The test project, served by runserver, and a service that allows the origin of its pages."""

    def __init__(self) -> None:
        self.port = free_port()
        self.service = Service(env={"NOTIFIER_CORS_ORIGINS": self.url})
        self.process = Process(
            [sys.executable, "-m", "django", "runserver", "--insecure", "--noreload", f"127.0.0.1:{self.port}"],
            cwd=REPOSITORY,
            env={  # beside that of `conftest`
                "NOTIFIER_TEST_LIVE": "1",
                "NOTIFIER_TEST_SERVICE_URL": self.service.url,
                "NOTIFIER_TEST_TASKS_GROUP": "tasks",
            },
        )
        self.process.wait_until(self._ready, "the Django project")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/page/", timeout=5).status_code == 200
        return False

    def stop(self) -> None:
        self.process.stop()
        self.service.stop()


class Chromium:
    """A Chromium with the event loop that talks to it, in a thread: Django refuses database calls beside that loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(self._open())

    async def _open(self) -> None:
        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that uses `browser`, and wait for its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @contextlib.asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """The browser, without contexts. Those that are opened are closed at the end."""
        try:
            yield self._browser
        finally:
            for context in self._browser.contexts:
                await context.close()

    async def _close(self) -> None:
        await self._browser.close()
        await self._playwright.stop()

    def stop(self) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.asynccontextmanager
async def either(chromium: Chromium, name: str) -> AsyncIterator[Browser]:
    """Chromium, or Firefox by WebDriver BiDi, as in tests/browser."""
    if name == "chromium":
        async with chromium.browser() as started:
            yield started
    else:
        async with async_playwright() as playwright:
            path = "/usr/bin/firefox-esr"
            async with await playwright.firefox.launch(executable_path=path, channel="moz-firefox") as started:
                yield started


def in_chromium(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine runs on the loop of its fixture `chromium`."""

    @functools.wraps(test)
    def run(*, chromium: Chromium, **fixtures: Any) -> None:
        chromium.run(test(chromium=chromium, **fixtures))

    return run
