"""The console, as an operator uses it, on two workers with Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import Witness, shot
from tests.support import ADMIN_KEY, API_KEY, REPOSITORY, RedisServer, Service, bearer, running, subscriber_token

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


def number(page: Page, chart: str) -> float:
    text = page.locator(f"#{chart}-value").inner_text()
    return float(text.replace(",", "")) if text != "–" else 0


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
        expect(page.locator("#top li", has_text="user:walter")).to_be_visible(timeout=15_000)
        page.evaluate(
            """() => { window.seen = {}; for (const id of ["deliveries", "publishes"]) new MutationObserver(
                ([each]) => { const value = parseFloat(each.target.textContent); if (value > 0) window.seen[id] = value;
            }).observe(document.getElementById(id + "-value"), { childList: true }); }"""
        )
        with watched.client() as publisher:
            for n in range(20):
                event = {"to": ["user:walter"], "type": "tick", "data": n}
                publisher.post("/v1/events", json=event).raise_for_status()
        page.wait_for_function("() => window.seen.deliveries && window.seen.publishes", timeout=15_000)
        look_up(page, "walter")
        expect(page.locator("#user-note")).to_have_text("Online: 1 stream")
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
        answer = httpx.get(f"{watched.url}/v1/console", headers=bearer(ADMIN_KEY), timeout=20).raise_for_status()
        processes = answer.json()["processes"]
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
    expect(page.locator("#trace > *")).to_be_visible()
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_has_no_overflow(
    browser: Browser, watched: Service, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    source = (REPOSITORY / "node_modules" / "axe-core" / "axe.min.js").read_text()
    page.goto(f"{watched.url}/console")
    page.evaluate(f"() => {{ {source} }}")
    assert page.evaluate("axe.run().then(({ violations }) => violations.map(({ id }) => id))") == []
    opened(page, watched)
    with watched.client() as client:
        for level in ("info", "error"):
            client.post("/v1/messages", json={"to": ["user:ada"], "subject": f"Hello {level}", "level": level})
    look_up(page, "ada")
    expect(page.locator("#inbox li").first).to_be_visible()
    page.locator("#inbox button").first.click()
    expect(page.locator("#trace > *")).to_be_visible()
    page.locator("#streams summary").click()
    page.evaluate(f"() => {{ {source} }}")
    violations = page.evaluate("axe.run().then(({ violations }) => violations)")
    assert [(violation["id"], violation["nodes"][0]["html"]) for violation in violations] == []
    page.evaluate("scrollTo(0, 0)")
    shot(page, f"console-{scheme}")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.screenshot(path=REPOSITORY / "tests" / "output" / f"console-{scheme}-390.png", full_page=True)
    context.close()
