"""Takes the pictures of the console in docs/images: `python -m tools.console_picture`.

Two workers with Redis serve forty streams, whose users get events and messages; the page shows one of the users.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Iterator

import httpx
from playwright.sync_api import expect, sync_playwright

from tests.support import ADMIN_KEY, REPOSITORY, RedisServer, Service, bearer, running, subscriber_token

FOLDER = REPOSITORY / "docs" / "images"
WIDTH, HEIGHT = 1280, 1180
STREAMS = 40
ACROSS_S = 30
"""How long the charts run before they are taken."""


def main() -> None:
    environment = {"NOTIFIER_CONSOLE": "true"}
    with (
        running(RedisServer()) as redis_server,
        running(Service(redis_url=redis_server.url, workers=2, env=environment)) as service,
        _listening(service),
        _publishing(service),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"{service.url}/console")
        page.get_by_label("API key with the scope admin").fill(ADMIN_KEY)
        page.get_by_role("button", name="Open the console").click()
        expect(page.locator("#processes [data-state=ready]")).to_have_count(2, timeout=20_000)
        page.get_by_label("User id").fill("user-7")
        page.get_by_role("button", name="Look up").click()
        page.wait_for_timeout(ACROSS_S * 1000)
        page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # both are schemes
            page.screenshot(path=FOLDER / f"console-{scheme}.png", animations="disabled")
        browser.close()


@contextlib.contextmanager
def _listening(service: Service) -> Iterator[None]:
    """Open streams, each of a user of its own, and of a group that all hear."""
    with contextlib.ExitStack() as stack:
        for number in range(STREAMS):
            headers = bearer(subscriber_token(f"user-{number}", groups=["staff"])) | {"User-Agent": "Firefox 145"}
            client = stack.enter_context(httpx.Client(base_url=service.url, headers=headers, timeout=60))
            stack.enter_context(client.stream("GET", "/v1/stream"))
        yield


@contextlib.contextmanager
def _publishing(service: Service) -> Iterator[None]:
    """Publish a few times a second until the end."""
    ended = threading.Event()

    def publish() -> None:
        rising = 0.0
        with service.client() as publisher:
            while not ended.wait(random.expovariate(4 + rising)):
                rising = min(20.0, rising + 0.2)
                to = ["group:staff"] if random.random() < 0.2 else [f"user:user-{random.randrange(STREAMS)}"]
                publisher.post("/v1/events", json={"to": to, "type": "price.changed", "data": 1}).raise_for_status()

    with service.client() as publisher:
        for subject in ("Backup finished", "Report ready", "Lunch at one?"):
            publisher.post("/v1/messages", json={"to": ["user:user-7"], "subject": subject}).raise_for_status()
    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
