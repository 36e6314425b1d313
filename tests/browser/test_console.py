"""The console, as an operator uses it, on two workers with Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.axe import FINDINGS, axe
from tests.browser.conftest import Witness, shot
from tests.support import (
    ADMIN_KEY,
    API_KEY,
    REPOSITORY,
    RedisServer,
    Service,
    bearer,
    running,
    subscriber_token,
    wait_for,
)

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"


@pytest.fixture(scope="module")
def watched(redis_server: RedisServer) -> Iterator[Service]:
    """Two workers on Redis with a console."""
    with running(Service(redis_url=redis_server.url, workers=2, env={"NOTIFIER_CONSOLE": "true"})) as server:
        yield server


def enter(page: Page, service: Service, key: str = ADMIN_KEY) -> None:
    page.goto(f"{service.url}/console")
    page.get_by_label("API key with the scope admin").fill(key)
    page.get_by_role("button", name="Open the console").click()


def opened(page: Page, service: Service) -> Page:
    """The console with both processes in it."""
    enter(page, service)
    page.locator("#state[data-state=live]").wait_for()
    expect(page.locator("#processes tr")).to_have_count(2)
    return page


def look_up(page: Page, user: str) -> None:
    page.get_by_label("User id").fill(user)
    page.get_by_role("button", name="Look up").click()


def verdict(page: Page, text: str) -> None:
    """Waits until the trace has this verdict."""
    expect(page.locator("#trace dd.pill")).to_have_text(text)


def violations(page: Page) -> Any:
    """What axe finds: the rule, and the first element that breaks it."""
    page.evaluate(axe())
    return page.evaluate(FINDINGS)


def test_charts_move_and_a_user_is_disconnected(watched: Service, context: BrowserContext) -> None:
    witness = Witness(watched.url)
    page = context.new_page()
    witness.watch(page)
    opened(page, watched)
    expect(page.locator("#processes [data-state=ready]")).to_have_count(2)
    expect(page.locator("#streams-value")).to_have_text("0")
    headers = bearer(subscriber_token("walter"))
    with (
        httpx.Client(base_url=watched.url, headers=headers, timeout=20) as client,
        client.stream("GET", "/v1/stream") as answer,
    ):
        lines = answer.iter_lines()
        next(line for line in lines if line == "event: hello")
        expect(page.locator("#streams-value")).to_have_text("1")
        expect(page.locator("#top li", has_text="user:walter")).to_be_visible()
        page.evaluate(
            """() => { window.seen = {}; for (const id of ["deliveries", "publishes"]) new MutationObserver(
                ([each]) => { const value = parseFloat(each.target.textContent); if (value > 0) window.seen[id] = value;
            }).observe(document.getElementById(id + "-value"), { childList: true }); }"""
        )
        with watched.client() as publisher:
            for n in range(20):
                event = {"to": ["user:walter"], "type": "tick", "data": n}
                publisher.post("/v1/events", json=event).raise_for_status()
        page.wait_for_function("() => window.seen.deliveries && window.seen.publishes")

        def is_told() -> bool:  # asks again: a process that stands still for a second is missing from the answer
            look_up(page, "walter")
            page.wait_for_timeout(500)
            return page.locator("#user-note").text_content() == "Online: 1 stream"

        wait_for(is_told, what="the user's stream")
        page.get_by_role("button", name="Disconnect", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
        expect(page.locator("#user-note")).to_have_text("All streams of the user were ended")
        assert any('"revoked"' in line for line in lines)
    expect(page.locator("#streams-value")).to_have_text("0")
    page.locator("#deliveries summary").click()
    expect(page.locator("#deliveries tbody tr").first).to_be_visible()
    # Chromium logs each answer that is an error, also one that the page explains.
    assert [text for text in witness.faults if "Failed to load resource" not in text] == []
    assert witness.foreign == []


def test_figures_count_what_was_accepted(watched: Service) -> None:
    def counted() -> tuple[int, int]:
        def asked() -> list[dict[str, Any]]:  # who stands still for a second is missing
            answer = httpx.get(f"{watched.url}/v1/console", headers=bearer(ADMIN_KEY), timeout=20).raise_for_status()
            processes: list[dict[str, Any]] = answer.json()["processes"]
            return processes if len(processes) == watched.workers else []

        processes = wait_for(asked, what="the figures of both processes")
        return sum(each["publishes"] for each in processes), sum(each["events"] for each in processes)

    headers = bearer(subscriber_token("counted"))
    with (
        httpx.Client(base_url=watched.url, headers=headers, timeout=20) as client,
        client.stream("GET", "/v1/stream") as answer,
        watched.client() as publisher,
    ):
        lines = answer.iter_lines()
        next(line for line in lines if line == "event: hello")
        publishes, events = counted()
        event = {"to": ["user:counted"], "type": "tick", "data": 1}
        publisher.post("/v1/events", json=event).raise_for_status()
        publisher.post("/v1/batch", json=[{"kind": "event", **event}] * 2).raise_for_status()
        assert publisher.post("/v1/events", json={**event, "type": "Not a name"}).status_code == 422
        for _ in range(3):
            next(line for line in lines if line == "event: tick")
        assert counted() == (publishes + 3, events + 3)


def test_a_test_message_arrives_and_hostile_texts_stay_texts(watched: Service, context: BrowserContext) -> None:
    page = opened(context.new_page(), watched)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.get_by_label("To", exact=True).fill(f"user:{HOSTILE}")
    page.get_by_label("Subject").fill(HOSTILE)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#sent")).to_have_text(re.compile("Stored: no page is open. [0-9a-f]{32}"))
    with watched.user(HOSTILE) as client:
        assert [message["subject"] for message in client.get("/v1/inbox").json()["messages"]] == [HOSTILE]
    look_up(page, HOSTILE)
    expect(page.locator("#inbox b")).to_have_text(HOSTILE)
    page.get_by_role("button", name="Trace <img").click()
    verdict(page, "waiting")
    page.get_by_role("button", name="Disconnect", exact=True).click()
    expect(page.get_by_role("heading", name=f"Disconnect {HOSTILE}?")).to_be_visible()
    page.get_by_role("button", name="Keep").click()
    expect(page).to_have_title("notifier console")
    assert faults == []


@pytest.mark.parametrize(("key", "sentence"), [("wrong", "does not know this key"), (API_KEY, "lacks the scope admin")])
def test_a_wrong_key_is_refused_in_words(watched: Service, context: BrowserContext, key: str, sentence: str) -> None:
    page = context.new_page()
    enter(page, watched, key)
    expect(page.get_by_role("alert")).to_contain_text(sentence)
    expect(page.locator("#app")).to_be_hidden()
    for path in ("/v1/console", "/v1/console/stream", "/v1/console/inbox?user=7"):
        assert httpx.get(watched.url + path, headers=bearer(key)).status_code == (401 if key == "wrong" else 403)


def test_a_key_is_gone_after_a_reload(watched: Service, context: BrowserContext) -> None:
    page = opened(context.new_page(), watched)
    assert page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]") == [
        "{}",
        "{}",
        "",
    ]
    page.reload()
    expect(page.get_by_label("API key with the scope admin")).to_have_value("")


def test_the_page_has_a_strict_policy_and_is_off_by_default(watched: Service, service: Service) -> None:
    headers = httpx.get(f"{watched.url}/console").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/console", "/v1/console", "/v1/console/stream", "/v1/console/inbox?user=7"):
        assert httpx.get(service.url + path, headers=bearer(ADMIN_KEY)).status_code == 404, path


def test_a_connection_is_a_row_while_its_stream_is_open_and_after_its_end(
    watched: Service, context: BrowserContext
) -> None:
    page = opened(context.new_page(), watched)
    look_up(page, "olga")
    expect(page.locator("#connections")).to_have_text("No streams were recorded")
    headers = {**bearer(subscriber_token("olga")), "User-Agent": "probe/7 <b>"}
    with httpx.Client(base_url=watched.url, headers=headers, timeout=20) as client:
        with client.stream("GET", "/v1/stream") as answer, watched.client() as publisher:
            lines = answer.iter_lines()
            next(line for line in lines if line == "event: hello")
            publisher.post("/v1/messages", json={"to": ["user:olga"], "subject": "For Olga"}).raise_for_status()
            next(line for line in lines if line == "event: message")
            look_up(page, "olga")
            cells = page.locator("#connections tbody tr td")
            expect(cells).to_have_text(
                [re.compile(r"\d{2}:\d{2}:\d{2}"), "open", "", "", "127.0.0.1", "0", "no", "probe/7 <b>"]
            )
            page.get_by_role("button", name="Trace For Olga").click()
            verdict(page, "written")
            expect(page.locator("#trace tbody td", has_text="probe/7 <b>")).to_be_visible()
        expect(page.locator("#streams-value")).to_have_text("0")
        look_up(page, "olga")
        expect(cells.nth(1)).to_have_text(re.compile(r"\d{2}:\d{2}:\d{2}"))
        expect(cells.nth(2)).not_to_be_empty()
        expect(page.locator("#connections tbody tr")).to_have_count(1)


def process_figures(pid: int, **changes: Any) -> dict[str, Any]:
    """The figures of a process."""
    process = {"process": f"p{pid}", "host": "node-1", "pid": pid, "version": "1.0", "up_ms": 90_000 * pid}
    counts = {"streams": 1200, "topics": 7, "publishes": 5, "events": 5, "deliveries": 9, "resets": 2}
    state = {"ready": True, "draining": False, "broker": "ok", "shards_away": []}
    return {**process, **counts, **state, "top": [{"channel": "all", "streams": 1200}], **changes}


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.full)])
def test_processes_that_are_not_well_show_it_on_a_phone_too(
    browser: Browser, watched: Service, scheme: Literal["light", "dark"]
) -> None:
    figures: dict[str, Any] = {
        "at": "2026-01-31T12:00:00.000Z",
        "missing": 2,
        "processes": [
            process_figures(1),
            process_figures(2, draining=True, ready=False),
            process_figures(3, broker="degraded", shards_away=[1, 3]),
            process_figures(4, broker="away", ready=False, shards_away=[0, 1, 2, 3]),
        ],
    }

    def fulfill(route: Route) -> None:
        body = f"event: figures\ndata: {json.dumps(figures)}\n\n"
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    context = browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.route("**/v1/console/stream", fulfill)
    enter(page, watched)
    rows = page.locator("#processes tr")
    expect(rows.locator("td:nth-of-type(1)")).to_have_text(["ready", "draining", "degraded", "broker away"])
    expect(rows.locator("td:nth-of-type(6)")).to_have_text(["all there", "all there", "away: 1, 3", "away: 0, 1, 2, 3"])
    expect(rows.nth(3).locator("td:nth-of-type(7)")).to_have_text("6 min")
    expect(page.locator("#processes-note")).to_have_text("4 answer, 2 did not answer in time")
    expect(page.locator("#streams-value")).to_have_text("4,800")
    expect(page.locator("#top li")).to_have_text("all4,800")
    colours = rows.locator(".pill").evaluate_all("all => all.map((each) => getComputedStyle(each).backgroundColor)")
    assert len({colours[0], colours[1], colours[3]}) == 3
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    figures |= {"missing": None, "processes": [process_figures(4, broker="away", ready=False)]}
    # The stream ended after its figures: the page opens the next by itself.
    expect(page.locator("#processes-note")).to_have_text("The broker is away: only the process of this page is shown")
    expect(rows).to_have_count(1)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_has_no_overflow(
    browser: Browser, watched: Service, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(f"{watched.url}/console")
    assert violations(page) == []
    opened(page, watched)
    with watched.client() as client:
        for level in ("info", "error"):
            client.post("/v1/messages", json={"to": ["user:ada"], "subject": f"Hello {level}", "level": level})
    look_up(page, "ada")
    expect(page.locator("#inbox li").first).to_be_visible()
    page.locator("#inbox button").first.click()
    verdict(page, "waiting")
    page.locator("#streams summary").click()
    assert violations(page) == []
    page.evaluate("scrollTo(0, 0)")
    shot(page, f"console-{scheme}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert violations(page) == []
    page.screenshot(path=REPOSITORY / "tests" / "output" / f"console-{scheme}-390.png", full_page=True)
    context.close()
