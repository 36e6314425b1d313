"""Behind an nginx that buffers, ignores X-Accel-Buffering and compresses, no stream comes through: the page polls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import EITHER, shot, stop_clock
from tests.browser.shop import Shop, notes, reached
from tests.nginx import PROGRAM
from tests.support import Process, Service, free_port, running

CONFIGURATION = """
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    gzip on;
    gzip_proxied any;
    gzip_min_length 0;
    gzip_types text/event-stream application/json text/javascript;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{service};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_buffering on;
            proxy_ignore_headers X-Accel-Buffering;
        }}
    }}
}}
"""


class BufferingNginx:
    """nginx as a network has it that knows nothing of streams."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.port = free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(port=self.port, service=service.port))
        self.process = Process([PROGRAM, "-p", str(folder), "-c", str(configuration), "-g", "daemon off;"])
        self.process.wait_until(self._answers, "nginx")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        self.process.stop()


@pytest.fixture
def shop(context: BrowserContext, service: Service, tmp_path: Path) -> Iterator[Shop]:
    with running(BufferingNginx(tmp_path, service)) as nginx:
        yield Shop(context, service, nginx.url)


def test_the_page_is_filled_at_the_start_and_polls_after_two_silent_streams(shop: Shop) -> None:
    shop.publish("Before")
    stop_clock(shop.context)
    pages = [shop.open(until=""), shop.open(until="")]  # the second follows the first one's connection
    shop.context.clock.run_for(1000)  # the first try at the stream is still silent
    for page in pages:
        expect(page.locator("notifier-inbox li")).to_contain_text("Before")
        expect(page.locator("notifier-tasks li")).to_contain_text("Import")
        expect(page.locator("notifier-bell [part=badge]")).to_have_text("1")
        assert page.evaluate("store.state.connectionState.state") == "connecting"
    shop.context.clock.resume()
    for page in pages:
        reached(page, "polling", timeout_s=40)
        for note in notes(page):
            expect(note).to_contain_text("This network holds live updates back")
            expect(note.get_by_role("button")).to_have_count(0)
        expect(page.locator("notifier-bell [part=bell]")).to_have_css("opacity", "1")
    shot(pages[0], "connection-polling")
    for n in range(3):
        sent_at = time.monotonic()
        shop.publish(f"Number {n}")
        shop.call("PATCH", f"/v1/tasks/{shop.task}", {"done": 3 * n + 1})
        for page in pages:
            expect(page.locator("notifier-inbox li").first).to_contain_text(f"Number {n}")
            expect(page.locator("notifier-tasks [role=progressbar]").last).to_have_attribute(
                "aria-valuenow", str(30 * n + 10)
            )
        assert time.monotonic() - sent_at < 20  # a poll waits for 25 s
    pages[0].locator("notifier-inbox").get_by_role("button", name="Mark as read: Number 2").click()
    expect(pages[1].locator("notifier-bell [part=badge]")).to_have_text("3")
    for page in pages:
        assert page.evaluate("store.state.messages.length") == 4
        assert page.evaluate("states.filter((state) => state === 'polling').length") == 1


@EITHER
def test_a_message_of_the_silent_time_is_shown_once_and_as_news(shop: Shop) -> None:
    stop_clock(shop.context)
    page = shop.open(until="")
    expect(page.locator("notifier-inbox [part=empty]")).to_be_visible()
    page.evaluate("window.news = []; store.onNews(({ message }) => message && news.push(message.subject)); null")
    shop.context.clock.run_for(20_000)  # two silent tries
    shop.context.clock.resume()
    reached(page, "polling", timeout_s=40)
    shop.publish("After")
    page.wait_for_function("news.length > 0")
    expect(page.locator("notifier-inbox li")).to_have_count(1)
    assert page.evaluate("news") == ["After"]
