"""A page that shows everything while events arrive for minutes: heap and elements stay as they are."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, Witness
from tests.browser.test_inbox import batch
from tests.browser.test_memory import MARGIN_BYTES, in_memory
from tests.browser.test_widgets import Shop
from tests.faults.conftest import Scale
from tests.support import CHROMIUM, Service, running, wait_for

EVENTS_A_SECOND = 20
SAMPLES = 10
MIB = 1024 * 1024


def test_a_page_at_twenty_events_a_second_holds_what_it_held(scale: Scale, figure: Callable[..., None]) -> None:
    listed, seconds = scale.whole(1000, 10_000), scale.whole(2, 300)
    env = {"NOTIFIER_HISTORY_SIZE": "10000", "NOTIFIER_PUBLISH_RATE": "0"}
    with running(Service(env=env)) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        shop = Shop(browser.new_context(), service, Witness(service.url))
        task = shop.begin("Walk")
        page = shop.open(task=task)
        page.locator("notifier-bell [part=bell]").click()
        cdp = page.context.new_cdp_session(page)
        cdp.send("Performance.enable")
        for _ in range(0, listed, 1000):
            batch(shop, 1000, text="x" * 500)
        _heard(page, "Number 999", listed)
        samples = []
        started = time.monotonic()
        for number in range(SAMPLES):
            _publish(shop, task, seconds * EVENTS_A_SECOND // SAMPLES)
            shop.publish(f"Sample {number}")
            _heard(page, f"Sample {number}", 1)
            samples.append(in_memory(page, cdp))
        took_s = time.monotonic() - started
        browser.close()
    heaps, nodes = zip(*samples, strict=True)
    figure(
        seconds=round(took_s),
        events=seconds * EVENTS_A_SECOND,
        messages_before=listed,
        first_heap_mib=round(heaps[0] / MIB, 2),
        last_heap_mib=round(heaps[-1] / MIB, 2),
        most_heap_mib=round(max(heaps) / MIB, 2),
        first_elements=nodes[0],
        last_elements=nodes[-1],
    )
    assert heaps[-1] < heaps[0] + MARGIN_BYTES, samples
    assert nodes[-1] < nodes[0] + 500, samples
    assert shop.witness.faults == []


def _publish(shop: Shop, task: str, count: int) -> None:
    """This many events at the rate: a message, a task's progress, an event of the page's own, all messages read."""
    to = [f"user:{shop.user}"]
    started = time.monotonic()
    with shop.service.client() as api, shop.service.user(shop.user) as user:
        for number in range(count):
            event = {"to": to, "type": "order.paid", "data": {"n": number}}
            message = {"to": to, "subject": f"Hello {number}", "text": "x" * 500}
            calls = (
                (api, "POST", "/v1/messages", message),
                (api, "PATCH", f"/v1/tasks/{task}", {"done": number % 100, "state": "x" * 100}),
                (api, "POST", "/v1/events", event),
                (user, "POST", "/v1/inbox/read", {"all": True}),
            )
            client, method, path, body = calls[number % len(calls)]
            client.request(method, path, json=body).raise_for_status()
            time.sleep(max(0.0, started + (number + 1) / EVENTS_A_SECOND - time.monotonic()))


def _heard(page: Page, subject: str, unread: int) -> None:
    """Waits until the page has this message as its newest, and at least so many unread."""
    state = f"store.state.messages[0]?.subject === {subject!r} && store.state.unread >= {unread}"
    wait_for(lambda: page.evaluate(state), timeout_s=60, what="the messages")
    expect(page.locator("notifier-bell li").first).to_contain_text(subject)
