"""The whole way as in production: Chromium, HTTP/2, a real nginx with the shipped configuration, the service, Redis."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page

from tests.browser.conftest import ARGUMENTS
from tests.support import REPOSITORY, Process, RedisServer, Service, free_port, running, subscriber_token, wait_for

PAGE = """<!doctype html><title>Page</title><script type="module">
  import { connect } from "/client/notifier.js";
  const { tokens, ...options } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  window.told = [];
  window.states = [];
  window.greetings = [];
  window.shows = [];
  addEventListener("pageshow", ({ persisted }) => shows.push(persisted));
  window.notifier = connect("/", {
    ...options,
    getToken: () => (tokens.length > 1 ? tokens.shift() : tokens[0]),
    onMessage: ({ subject }) => told.push(subject),
    onHello: (hello) => greetings.push({ name: "hello", ...hello }),
    onReset: (reset) => greetings.push({ name: "reset", ...reset }),
    onState: (state, { reason }) => states.push(`${state} ${reason}`),
  });
</script>"""


class Proxy:
    """nginx with the shipped configuration; only ports and TLS are this test's."""

    def __init__(self, folder: Path, service_port: int) -> None:
        self.port = free_port()
        _make_certificate(folder)
        tls = (
            f"127.0.0.1:{self.port} ssl http2;\n        ssl_certificate cert.pem;\n        ssl_certificate_key key.pem;"
        )
        text = (REPOSITORY / "deploy" / "nginx.conf").read_text()
        assert text.count("listen 8080 backlog=4096;") == 1
        text = text.replace("8080 backlog=4096;", tls).replace("127.0.0.1:8000", f"127.0.0.1:{service_port}")
        (folder / "nginx.conf").write_text(text)
        command = ["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        self.process = Process(command)
        self.process.wait_until(self._answers, "nginx")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", verify=False).status_code == 200
        return False

    def stop(self) -> None:
        self.process.stop()


def _make_certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)


class Site:
    """A site behind nginx, and its user in one browser."""

    def __init__(self, context: BrowserContext, proxy: Proxy, service: Service) -> None:
        self.context = context
        self.proxy = proxy
        self.service = service
        self.user = f"n{uuid.uuid4().hex[:8]}"
        self._serve("/page", PAGE)
        self._serve("/other", "<!doctype html><title>Other</title>")

    def _serve(self, path: str, body: str) -> None:
        self.context.route(f"{self.proxy.url}{path}", lambda route: route.fulfill(body=body, content_type="text/html"))

    def open(self, *tokens: str, **options: Any) -> Page:
        page = self.context.new_page()
        chosen = {"tokens": tokens or [subscriber_token(self.user)], **options}
        page.goto(f"{self.proxy.url}/page#{quote(json.dumps(chosen))}")
        live(page)
        return page

    def publish(self, subject: str) -> None:
        with self.service.client() as client:
            body = {"to": [f"user:{self.user}"], "subject": subject}
            client.post("/v1/messages", json=body).raise_for_status()


def live(page: Page) -> None:
    page.wait_for_function("window.notifier?.state === 'live' && greetings.length > 0")


def told(page: Page, *subjects: str) -> None:
    """Waits until the tab was told these, in this order, each once."""
    page.wait_for_function("wanted => told.at(-1) === wanted", arg=subjects[-1], timeout=40_000)
    assert page.evaluate("told") == list(subjects)


@pytest.fixture(scope="module")
def behind(redis_server: RedisServer) -> Iterator[Service]:
    with running(Service(redis_url=redis_server.url)) as service:
        yield service


@pytest.fixture(scope="module")
def proxy(behind: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(Proxy(tmp_path_factory.mktemp("nginx"), behind.port)) as proxy:
        yield proxy


@pytest.fixture
def site(browser: Browser, proxy: Proxy, behind: Service) -> Iterator[Site]:
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(20_000)
    yield Site(context, proxy, behind)
    context.close()
    wait_for(lambda: behind.open_streams() == 0, what="the end of the streams")


def test_events_come_over_http_2_at_once_and_unbuffered(site: Site) -> None:
    page = site.open()
    for n in range(5):
        page.evaluate("() => { window.began = performance.now(); }")
        site.publish(f"Number {n}")
        told(page, *(f"Number {number}" for number in range(n + 1)))
        # From the second on, a ping that pushed it out would take 15 s.
        assert page.evaluate("performance.now() - began") < 10_000
    protocols = page.evaluate(
        "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/client/'))"
        ".map(({ nextHopProtocol }) => nextHopProtocol)"
    )
    assert set(protocols) == {"h2"}


def test_eight_tabs_have_one_stream_and_when_its_tab_is_killed_another_has_it_at_once(site: Site) -> None:
    """No timer of a page runs: none has to wait for anything."""
    site.context.clock.install(time=time.time() - 60)
    site.context.clock.pause_at(time.time())
    pages = [site.open() for _ in range(8)]
    assert site.service.open_streams() == 1
    site.publish("Before")
    for page in pages:
        told(page, "Before")
    with pages[0].expect_event("crash"), contextlib.suppress(Error):
        pages[0].goto("chrome://crash", timeout=3000)  # no server answers
    site.publish("Meanwhile")
    for page in pages[1:]:
        told(page, "Before", "Meanwhile")
    wait_for(lambda: site.service.open_streams() == 1, what="one stream")


def test_a_token_that_ends_amid_a_stream_is_replaced_and_nothing_is_lost(site: Site) -> None:
    page = site.open(subscriber_token(site.user, expires_in_s=8), subscriber_token(site.user))
    subjects = []
    while not page.evaluate("states.some((one) => one.endsWith('expired'))"):
        subjects.append(f"Number {len(subjects)}")
        site.publish(subjects[-1])
        page.wait_for_timeout(100)
    site.publish("After")
    told(page, *subjects, "After")
    assert page.evaluate("greetings.map(({ name, recovered }) => `${name} ${recovered}`)") == ["hello true"] * 2


def test_ten_seconds_offline_bring_what_was_missed_once(site: Site) -> None:
    pages = [site.open(), site.open()]
    site.publish("Before")
    for page in pages:
        told(page, "Before")
    site.context.set_offline(True)
    missed = [f"Missed {n}" for n in range(10)]
    for subject in missed:
        site.publish(subject)
        pages[0].wait_for_timeout(1000)
    site.context.set_offline(False)
    for page in pages:
        told(page, "Before", *missed)


def test_nginx_answers_502_while_the_service_restarts_and_the_page_comes_back(
    browser: Browser, redis_server: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(running(Service(redis_url=redis_server.url, port=port)))
        proxy = stack.enter_context(running(Proxy(tmp_path, port)))
        context = stack.enter_context(contextlib.closing(browser.new_context(ignore_https_errors=True)))
        site = Site(context, proxy, first)
        pages = [site.open(), site.open()]
        site.publish("Before")
        for page in pages:
            told(page, "Before")
        first.stop()
        pages[0].wait_for_function("states.includes('offline status 502')", timeout=40_000)
        stack.enter_context(running(Service(redis_url=redis_server.url, port=port)))
        site.publish("Meanwhile")
        for page in pages:
            told(page, "Before", "Meanwhile")
            live(page)


@pytest.mark.parametrize("shared", [True, False])
def test_a_page_comes_out_of_the_back_forward_cache_and_goes_on(
    browser: Browser, proxy: Proxy, behind: Service, shared: bool
) -> None:
    caching = browser.browser_type.launch(
        executable_path="/usr/bin/chromium", args=ARGUMENTS, ignore_default_args=["--disable-back-forward-cache"]
    )
    with contextlib.closing(caching):
        site = Site(caching.new_context(ignore_https_errors=True), proxy, behind)
        page = site.open(shared=shared)
        site.publish("Before")
        told(page, "Before")
        page.goto(f"{proxy.url}/other")
        site.publish("Missed")
        page.go_back(wait_until="commit")
        page.wait_for_function("shows.at(-1) === true")  # the same page: what it had told is still there
        told(page, "Before", "Missed")
