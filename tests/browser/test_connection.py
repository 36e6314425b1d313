"""A page never looks live when it is not: the service is killed, stopped, refuses, or the device is offline."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import EITHER, shot, stop_clock
from tests.browser.shop import Shop, notes, reached
from tests.support import Service, free_port, running, wait_for


@pytest.fixture
def own() -> Iterator[Service]:
    """A service of this test."""
    with running(Service(env={"NOTIFIER_HEARTBEAT_S": "1"})) as service:
        yield service


@pytest.fixture
def shop(context: BrowserContext, own: Service) -> Shop:
    return Shop(context, own)


@pytest.fixture(scope="module")
def shared_service() -> Iterator[Service]:
    with running(Service()) as service:
        yield service


@pytest.fixture
def calm(context: BrowserContext, shared_service: Service) -> Shop:
    """At a service that no test harms."""
    return Shop(context, shared_service)


WATCH_NOTE = """note => {
  window.shownAfterMs ??= [];
  new MutationObserver(() => {
    const { state, since } = store.state.connectionState;
    if (note.textContent && state !== "open") shownAfterMs.push(Date.now() - since);
  }).observe(note, { childList: true, subtree: true });
}"""
"""Writes down how old the interruption is whenever a note shows something."""


def stopped_clock(shop: Shop, until: str = "open") -> Page:
    """A page whose timers stand still: the test moves its clock, however slow the machine is."""
    stop_clock(shop.context)
    return shop.open(until=until)


@EITHER
def test_a_killed_service_shows_in_every_widget_and_its_return_as_well(context: BrowserContext) -> None:
    port = free_port()
    with running(Service(port=port)) as first:
        shop = Shop(context, first)
        page = shop.open()
        for note in notes(page):
            expect(note).to_have_text("")
            note.evaluate(WATCH_NOTE)
        expect(page.locator("notifier-tasks [part=overall]")).to_be_attached()  # its module is loaded
        first.process.child.kill()
        reached(page, "reconnecting")
        for note in notes(page):
            expect(note).to_contain_text("Reconnecting…")
            expect(note.locator("[aria-live=polite]")).to_have_text("Reconnecting…")
            expect(note).to_contain_text("next try in")
            expect(note.get_by_role("button", name="Retry now")).to_be_visible()
        shown_after_ms = page.evaluate("shownAfterMs")
        assert len(shown_after_ms) >= 3
        assert min(shown_after_ms) >= 3000
        expect(page.locator("notifier-bell [part=bell]")).to_have_css("opacity", "0.55")
        expect(page.locator("notifier-bell [role=status]")).to_have_text("Reconnecting…")
        expect(page.locator("notifier-tasks [part=overall]")).to_have_css("opacity", "0.55")
        assert page.evaluate("states").count("reconnecting") == 1
    with running(Service(port=port)):
        reached(page, "open")
        for note in notes(page):
            expect(note).to_have_text("")
            expect(note.get_by_role("button")).to_have_count(0)
        expect(page.locator("notifier-bell [part=bell]")).to_have_css("opacity", "1")


def test_an_interruption_of_less_than_three_seconds_shows_nothing(calm: Shop) -> None:
    """By the page's clock, which stands still while the machine works."""
    page = stopped_clock(calm)
    page.evaluate(
        """() => {
          window.texts = new Set();
          const note = document.querySelector("notifier-inbox").shadowRoot.querySelector("[part=connection]");
          new MutationObserver(() => texts.add(note.textContent)).observe(note, { childList: true, subtree: true });
        }"""
    )
    calm.disconnect()
    reached(page, "reconnecting")
    wait_ms = page.evaluate("store.state.connectionState.nextTryAt - Date.now()")
    page.clock.run_for(min(wait_ms, 2900))
    if wait_ms > 2900:  # the service names a time between 500 and 3000
        page.evaluate("store.retry()")
    reached(page, "open")
    assert page.evaluate("states") == ["open", "reconnecting", "open"]
    page.clock.run_for(5000)  # what would show, would show by now
    assert page.evaluate("[...texts].join('')") == ""
    calm.context.route("**/v1/stream", lambda route: None)  # no answer
    calm.disconnect()
    reached(page, "reconnecting")
    page.clock.run_for(2900)
    assert page.evaluate("[...texts].join('')") == ""
    page.clock.run_for(200)
    page.wait_for_function("[...texts].join('') !== ''")


def test_a_stopped_service_is_not_open_after_two_and_a_half_heartbeats(shop: Shop) -> None:
    page = stopped_clock(shop)
    received: list[object] = []
    session = shop.context.new_cdp_session(page)
    session.on("Network.dataReceived", lambda chunk: received.append(chunk))
    session.send("Network.enable")
    while len(received) < 2:  # the page has read the first by then
        page.wait_for_timeout(100)
    shop.service.process.signal(signal.SIGSTOP)
    page.clock.run_for(2400)
    reached(page, "open")
    page.clock.run_for(200)
    reached(page, "reconnecting")
    shop.service.process.signal(signal.SIGCONT)
    page.clock.resume()
    reached(page, "open")


def test_a_tab_whose_leader_is_frozen_is_not_open_after_two_and_a_half_heartbeats(shop: Shop) -> None:
    leader, page = shop.open(), shop.open()
    page.evaluate(
        """() => {
          window.heardAt = performance.now();
          notifier.on("ping", () => { heardAt = performance.now(); });
          notifier.on("connectionState", ({ state }) => {
            if (state !== "open") window.silentMs ??= performance.now() - heardAt;
          });
        }"""
    )
    session = shop.context.new_cdp_session(leader)
    session.send("Debugger.enable")
    session.send("Debugger.pause")
    page.wait_for_function("'silentMs' in window")
    assert 1500 <= page.evaluate("silentMs") < 10_000  # 2500, and slack
    reached(page, "open")  # on its own stream
    session.send("Debugger.disable")
    reached(leader, "open")


def test_a_stream_that_is_held_shows_as_connecting_after_three_seconds(calm: Shop) -> None:
    calm.context.route("**/v1/stream", lambda route: None)  # no answer
    page = stopped_clock(calm, "connecting")
    note = page.locator("notifier-inbox [part=connection]")
    page.clock.run_for(2900)
    expect(note).to_have_text("")
    page.clock.run_for(200)
    expect(note).to_contain_text("Connecting…")
    assert page.evaluate("store.state.connectionState.state") == "connecting"


def test_retry_now_starts_an_attempt_in_each_tab(calm: Shop) -> None:
    """The second tab follows the first one's stream."""
    pages = [calm.open(), calm.open()]
    calm.context.route("**/v1/stream", lambda route: route.fulfill(status=503, headers={"Retry-After": "300"}))
    calm.disconnect()
    for page in pages:
        note = page.locator("notifier-inbox [part=connection]")
        expect(note).to_contain_text("next try in")
        expect(note).to_contain_text("2")  # of 29x seconds
    calm.context.unroute("**/v1/stream")
    pages[1].locator("notifier-inbox").get_by_role("button", name="Retry now").click()
    for page in pages:
        reached(page, "open")


def test_a_tab_that_follows_has_the_state_of_the_stream_from_its_first_hello_on(calm: Shop) -> None:
    calm.context.route("**/v1/stream", lambda route: route.fulfill(status=503, headers={"Retry-After": "300"}))
    pages = [calm.open(until="reconnecting"), calm.open(until="reconnecting")]
    calm.context.unroute("**/v1/stream")
    pages[0].locator("notifier-inbox").get_by_role("button", name="Retry now").click()
    for page in pages:
        reached(page, "open")
        for note in notes(page):
            expect(note).to_have_text("")
        assert page.evaluate("[store.state.connection, store.state.connectionState.reason]") == ["live", "hello"]


def test_while_the_page_is_seen_no_wait_is_longer_than_five_seconds(calm: Shop) -> None:
    calm.context.clock.install()
    page = calm.open()
    page.evaluate("Math.random = () => 0.999")
    tries: list[float] = []

    def refuse(route: Route) -> None:
        tries.append(time.monotonic())
        route.fulfill(status=502)

    calm.context.route("**/v1/stream", refuse)
    calm.disconnect()
    reached(page, "reconnecting")
    for count in range(1, 9):
        page.clock.run_for(5100)
        while len(tries) < count or not page.evaluate("store.state.connectionState.nextTryAt"):
            page.wait_for_timeout(20)
        left_ms = page.evaluate("store.state.connectionState.nextTryAt - Date.now()")
        assert left_ms <= 5000


def test_a_page_that_is_seen_hurries_the_hidden_tab_that_has_the_stream(calm: Shop) -> None:
    calm.context.clock.install()
    hidden, seen = calm.open(), calm.open()
    hidden.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    for page in (hidden, seen):
        page.evaluate("Math.random = () => 0.999")
    tries: list[Route] = []

    def refuse(route: Route) -> None:
        tries.append(route)
        route.fulfill(status=502)

    calm.context.route("**/v1/stream", refuse)
    calm.disconnect()
    reached(seen, "reconnecting")

    def is_soon(count: int) -> bool:
        left_ms = float(seen.evaluate("store.state.connectionState.nextTryAt - Date.now()"))
        return len(tries) >= count and 0 < left_ms <= 5000

    for count in range(1, 7):  # by itself a hidden tab then waits for 30 s
        calm.context.clock.run_for(5100)
        wait_for(partial(is_soon, count), what="a next try within 5 s")
    assert {route.request.frame.page for route in tries} == {hidden}


@EITHER
def test_without_network_it_says_so_and_comes_back_at_once(calm: Shop) -> None:
    page = calm.open()
    calm.context.set_offline(True)
    reached(page, "offline")
    for note in notes(page):
        expect(note).to_contain_text("No network")
    shot(page, "connection-offline")
    calm.context.set_offline(False)
    reached(page, "open")


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "You may not get live updates here"), (401, "Signed out"), (204, "Live updates have ended")],
)
def test_a_refusal_says_what_to_do(calm: Shop, status: int, words: str) -> None:
    calm.context.route("**/v1/stream", lambda route: route.fulfill(status=status))
    page = calm.open(until="refused", renews=False)
    for note in notes(page)[:2]:
        expect(note).to_contain_text(words)
        expect(note.get_by_role("button", name="Retry now")).to_have_count(0)
    calm.context.unroute("**/v1/stream")
    page.locator("notifier-inbox").get_by_role("button", name="Reload the page").click()
    reached(page, "open")


def test_a_page_that_is_closed_by_its_own_wish_shows_nothing(calm: Shop) -> None:
    page = stopped_clock(calm)
    page.evaluate("notifier.close()")
    reached(page, "offline")
    page.clock.run_for(5000)
    for note in notes(page):
        expect(note).to_have_text("")


@pytest.mark.parametrize("lang", ["en", pytest.param("ru", marks=pytest.mark.full)])
def test_how_it_looks(calm: Shop, lang: str) -> None:
    calm.publish("Report ready")
    calm.context.route("**/v1/stream", lambda route: route.fulfill(status=503, headers={"Retry-After": "30"}))
    page = calm.open(lang=lang, until="reconnecting")
    expect(page.locator("notifier-inbox [part=connection] button").first).to_be_visible()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
            shot(page, f"connection-{lang}-{width}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
