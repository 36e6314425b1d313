"""One stream for all tabs of a user: eight tabs, a leader that closes or crashes, a hand-over amid publishing."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, Route

from notifier.auth import topic_grant
from tests.browser.conftest import ARGUMENTS, EITHER, WHOLE_CHROMIUM, Witness
from tests.support import JWT_SECRET, Service, running, subscriber_token, wait_for

PAGE = """<!doctype html><title>Tab</title><script type="module">
  import { connect } from "/client/notifier.js";
  const { token, ...options } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  window.told = [];
  window.greetings = [];
  window.notifier = connect("/", {
    ...options,
    ...(token && { getToken: () => token }),
    onMessage: ({ subject }) => told.push(subject),
    onHello: (hello) => greetings.push({ name: "hello", ...hello }),
    onReset: (reset) => greetings.push({ name: "reset", ...reset }),
  });
</script>"""


@pytest.fixture(scope="module")
def own_service() -> Iterator[Service]:
    """A service whose streams are all of this module."""
    with running(Service()) as server:
        yield server


class Tabs:
    """Tabs of one browser on one origin."""

    def __init__(self, context: BrowserContext, service: Service) -> None:
        self.context = context
        self.service = service
        self.witness = Witness(service.url)
        self.user = f"u{uuid.uuid4().hex[:8]}"
        context.route(f"{service.url}/page", _answer)

    def open(self, who: str = "", **options: Any) -> Page:
        """A tab whose stream is open."""
        page = self.context.new_page()
        self.witness.watch(page)
        chosen = {"token": subscriber_token(who or self.user), **options}
        page.goto(f"{self.service.url}/page#{quote(json.dumps(chosen))}")
        page.wait_for_function("window.notifier?.state === 'live' && greetings.length > 0")
        return page

    def publish(self, subject: str, user: str = "") -> None:
        with self.service.client() as client:
            body = {"to": [f"user:{user or self.user}"], "subject": subject}
            client.post("/v1/messages", json=body).raise_for_status()

    def change(self, topic: str, version: int) -> None:
        with self.service.client() as client:
            data = {"topic": topic, "version": version}
            body = {"to": [f"topic:{topic}"], "type": "changed", "data": data}
            client.post("/v1/events", json=body).raise_for_status()

    def streams(self) -> int:
        with self.service.client() as client:
            match = re.search(r'^notifier_streams\{worker="0"\} (\d+)', client.get("/metrics").text, re.MULTILINE)
        assert match
        return int(match[1])

    def leader(self) -> Page:
        """The tab that holds the lock."""
        holder = "navigator.locks.query().then(({ held }) => held[0]?.clientId)"
        return next(page for page in self.context.pages if page.evaluate(holder) == _client_id(page))


def _answer(route: Route) -> None:
    route.fulfill(body=PAGE, content_type="text/html")


def _client_id(page: Page) -> str:
    """By what the browser tells the page among those that hold locks."""
    return str(
        page.evaluate(
            "navigator.locks.request(`mine ${Math.random()}`, async ({ name }) =>"
            " (await navigator.locks.query()).held.find((one) => one.name === name).clientId)"
        )
    )


def told(page: Page, *subjects: str) -> None:
    """Waits until the tab was told these, in this order, each once."""
    page.wait_for_function("wanted => told.at(-1) === wanted", arg=subjects[-1])
    assert page.evaluate("told") == list(subjects)


@pytest.fixture
def tabs(context: BrowserContext, own_service: Service) -> Iterator[Tabs]:
    opened = Tabs(context, own_service)
    wait_for(lambda: opened.streams() == 0, what="the end of earlier streams")
    yield opened
    assert opened.witness.faults == []


@EITHER
def test_eight_tabs_have_one_stream_and_each_hears_everything_once(tabs: Tabs) -> None:
    pages = [tabs.open() for _ in range(8)]
    assert tabs.streams() == 1
    for n in range(5):
        tabs.publish(f"Number {n}")
    for page in pages:
        told(page, *(f"Number {n}" for n in range(5)))
    assert tabs.streams() == 1
    assert sum(url.endswith("/v1/stream") for url in tabs.witness.requests) == 1


def test_two_users_in_two_tabs_never_share(tabs: Tabs) -> None:
    ann, bob = tabs.open("ann"), tabs.open("bob")
    assert tabs.streams() == 2
    tabs.publish("For Ann", "ann")
    tabs.publish("For Bob", "bob")
    told(ann, "For Ann")
    told(bob, "For Bob")


def test_a_tab_may_have_a_stream_of_its_own(tabs: Tabs) -> None:
    pages = [tabs.open(), tabs.open(shared=False), tabs.open(shared=False)]
    assert tabs.streams() == 3
    tabs.publish("To all")
    for page in pages:
        told(page, "To all")


def test_a_browser_without_web_locks_has_a_stream_for_each_tab(tabs: Tabs) -> None:
    tabs.context.add_init_script("Object.defineProperty(navigator, 'locks', { value: undefined })")
    pages = [tabs.open(), tabs.open()]
    assert tabs.streams() == 2
    tabs.publish("To all")
    for page in pages:
        told(page, "To all")


def test_tabs_with_a_cookie_share_when_the_page_names_the_user(tabs: Tabs) -> None:
    cookie = {"name": "notifier_token", "value": subscriber_token(tabs.user), "url": tabs.service.url}
    tabs.context.add_cookies([cookie])  # type: ignore[list-item]  # a plain dict is what it takes
    pages = [tabs.open(token=None, user=tabs.user) for _ in range(3)]
    assert tabs.streams() == 1
    tabs.publish("Hello")
    for page in pages:
        told(page, "Hello")


def test_a_tab_that_comes_later_is_told_the_present_state(tabs: Tabs) -> None:
    first = tabs.open()
    tabs.publish("Before")
    told(first, "Before")
    with tabs.service.client() as client:
        client.post("/v1/tasks", json={"to": [f"user:{tabs.user}"], "name": "Walk"}).raise_for_status()
    late = tabs.open()
    [greeting] = late.evaluate("greetings")
    assert greeting["name"] == "hello"
    assert greeting["unread"] == 1
    assert [task["name"] for task in greeting["tasks"]] == ["Walk"]
    tabs.publish("After")
    told(late, "After")
    told(first, "Before", "After")


def test_everything_that_is_published_comes_to_every_tab_whatever_its_name(tabs: Tabs) -> None:
    pages = [tabs.open(), tabs.open()]
    for page in pages:
        page.evaluate("() => { window.paid = []; notifier.on('order.paid', (data) => paid.push(data)); }")
    with tabs.service.client() as client:
        for n, durable in enumerate((True, False, True, False, False)):
            body = {"to": [f"user:{tabs.user}"], "type": "order.paid", "data": n, "durable": durable}
            client.post("/v1/events", json=body).raise_for_status()
    for page in pages:
        page.wait_for_function("paid.at(-1) === 4")
        assert page.evaluate("paid") == [0, 1, 2, 3, 4]


def close(page: Page) -> None:
    page.close()


def navigate(page: Page) -> None:
    page.goto("about:blank")


def end(page: Page) -> None:
    page.evaluate("notifier.close()")


def crash(page: Page) -> None:
    """Kills the process of the tab: no handler of the page runs."""
    with page.expect_event("crash"), contextlib.suppress(Error):
        page.goto("chrome://crash", timeout=5000)  # no server answers


@pytest.mark.parametrize("leave", [close, navigate, end, crash])
def test_the_leader_goes_and_another_tab_takes_over_at_once(tabs: Tabs, leave: Callable[[Page], None]) -> None:
    """No timer of a page runs: none has to wait for anything."""
    tabs.context.clock.install(time=time.time() - 60)
    tabs.context.clock.pause_at(time.time())
    pages = [tabs.open() for _ in range(4)]
    tabs.publish("Before")
    for page in pages:
        told(page, "Before")
    leader = tabs.leader()
    assert leader is pages[0]
    leave(leader)
    tabs.publish("Meanwhile")
    for page in pages[1:]:
        told(page, "Before", "Meanwhile")
    wait_for(lambda: tabs.streams() == 1, what="one stream")


def test_handing_over_while_messages_come_loses_and_repeats_nothing(tabs: Tabs) -> None:
    pages = [tabs.open() for _ in range(6)]
    subjects = []
    for n in range(120):
        if n and n % 30 == 0:
            [close, crash, navigate][n // 30 - 1](pages.pop(0))
        subjects.append(f"Number {n}")
        tabs.publish(subjects[-1])
    assert len(pages) == 3
    for page in pages:
        told(page, *subjects)


def test_a_leader_that_hangs_is_replaced(tabs: Tabs) -> None:
    hung, page = tabs.open(), tabs.open()
    hung.evaluate("() => { setTimeout(() => { for (const end = Date.now() + 12_000; Date.now() < end;); }, 0); }")
    tabs.publish("Meanwhile")
    page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))"
    )  # the other tab is visible
    told(page, "Meanwhile")
    told(hung, "Meanwhile")
    wait_for(lambda: tabs.streams() == 1, what="one stream")


def hears(tabs: Tabs, page: Page, topic: str) -> bool:
    """Whether the page was told of a change. Until it has joined, a change makes the topic stale."""
    tabs.change(topic, 2)
    return bool(page.evaluate("known.includes(2)"))


def test_a_leader_that_was_frozen_hears_its_topics_on_the_stream_of_the_tab_that_took_over(tabs: Tabs) -> None:
    frozen, page = tabs.open(), tabs.open()
    topics = [f"order:{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for tab, topic in zip((frozen, page), topics, strict=True):
        tab.evaluate(SHOW, topic_grant(JWT_SECRET, tabs.user, [topic]))
        tab.wait_for_function("known.at(-1) === 'stale'")
    session = tabs.context.new_cdp_session(frozen)
    session.send("Debugger.enable")
    session.send("Debugger.pause")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
    page.wait_for_function("greetings.length === 2")  # it has a stream of its own
    tabs.change(topics[0], 1)
    session.send("Debugger.disable")
    frozen.wait_for_function("known.length > 1")  # the change itself, or stale
    wait_for(lambda: tabs.streams() == 1, what="one stream")
    for tab, topic in zip((frozen, page), topics, strict=True):
        tab.evaluate("known.length = 0")
        wait_for(partial(hears, tabs, tab, topic), what="a change itself, not stale")


def test_a_page_that_comes_out_of_the_back_forward_cache_takes_part_again(tabs: Tabs) -> None:
    page, other = tabs.open(), tabs.open()
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    tabs.publish("Missed")
    told(other, "Missed")
    assert page.evaluate("told") == []
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    page.wait_for_function("greetings.length === 2")
    assert page.evaluate("[greetings[1].name, greetings[1].unread]") == ["reset", 1]
    tabs.publish("Heard")
    told(page, "Heard")
    wait_for(lambda: tabs.streams() == 1, what="one stream")


def test_a_page_with_topics_stays_in_the_back_forward_cache_while_other_tabs_talk(
    browser: Browser, own_service: Service
) -> None:
    """A message on a channel that it left open would make the browser discard it."""
    caching = browser.browser_type.launch(
        executable_path=WHOLE_CHROMIUM, args=ARGUMENTS, ignore_default_args=["--disable-back-forward-cache"]
    )
    with contextlib.closing(caching):
        tabs = Tabs(caching.new_context(), own_service)
        leader, page = tabs.open(), tabs.open()
        topic, grant = f"order:{uuid.uuid4().hex[:8]}", topic_grant(JWT_SECRET, tabs.user, ["order:1"])
        page.evaluate("addEventListener('pageshow', ({ persisted }) => { window.isCached = persisted; })")
        page.evaluate(SHOW, topic_grant(JWT_SECRET, tabs.user, [topic]))
        page.wait_for_function("known.at(-1) === 'stale'")
        page.goto(f"{own_service.url}/healthz")
        leader.evaluate(SHOW, grant)  # it tells the other tabs
        leader.wait_for_function("known.at(-1) === 'stale'")
        tabs.publish("Meanwhile")
        told(leader, "Meanwhile")
        tabs.change(topic, 1)
        page.go_back(wait_until="commit")
        page.wait_for_function("window.isCached === true && known.length > 1")
        tabs.change(topic, 2)
        page.wait_for_function("known.at(-1) === 2")
        assert tabs.witness.faults == []


SHOW = """async (grant) => {
  window.known = [];
  const handle = await notifier.topic(grant, { since: "-", onStale: () => known.push("stale") });
  handle.on("changed", ({ version }) => known.push(version));
}"""


@pytest.mark.parametrize("leave", [close, crash])
def test_an_event_of_a_topic_while_the_leader_goes_is_seen_or_the_topic_is_stale(
    tabs: Tabs, leave: Callable[[Page], None]
) -> None:
    leader, other = tabs.open(), tabs.open()
    topic = f"order:{uuid.uuid4().hex[:8]}"
    for page in (leader, other):
        page.evaluate(SHOW, topic_grant(JWT_SECRET, tabs.user, [topic]))
        page.wait_for_function("known.at(-1) === 'stale'")  # it joined with an unknown cursor
    tabs.change(topic, 1)
    other.wait_for_function("known.at(-1) === 1")

    def publish_first(route: Route) -> None:
        """Before the other tab has its stream."""
        tabs.change(topic, 3)
        route.continue_()

    other.route("**/v1/stream", publish_first)
    other.evaluate("known.length = 0")
    assert tabs.leader() is leader
    leave(leader)
    tabs.change(topic, 2)  # at any moment of the hand-over
    other.wait_for_function("known.includes('stale') || known.includes(3)")
    tabs.change(topic, 4)
    other.wait_for_function("known.at(-1) === 4")
    wait_for(lambda: tabs.streams() == 1, what="one stream")
