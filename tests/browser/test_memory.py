"""A page that is open for a day: what it holds does not grow with what arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import CDPSession, Page, expect

from tests.browser.conftest import Witness
from tests.browser.test_inbox import batch
from tests.browser.test_widgets import Shop
from tests.support import Service, running, wait_for

MESSAGES = 10_000
STEP = 1000
KEPT = 500
"""Messages that the store lists by itself."""
MARGIN_BYTES = 1536 * 1024
"""A third of what 8,000 messages of 500 characters take."""

pytestmark = pytest.mark.slow


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that keeps all of it."""
    with running(Service(env={"NOTIFIER_HISTORY_SIZE": str(MESSAGES), "NOTIFIER_PUBLISH_RATE": "0"})) as own:
        yield own


def in_memory(page: Page, cdp: CDPSession) -> tuple[int, int]:
    """Bytes of the heap after a collection, and the elements in the page."""
    for _ in range(3):
        cdp.send("HeapProfiler.collectGarbage")
    metrics: list[dict[str, Any]] = cdp.send("Performance.getMetrics")["metrics"]
    values = {metric["name"]: int(metric["value"]) for metric in metrics}
    return values["JSHeapUsedSize"], values["Nodes"]


def test_ten_thousand_messages_leave_heap_and_page_as_they_are(
    service: Service, context: Any, witness: Witness
) -> None:
    shop = Shop(context, service, Witness(service.url))
    page = shop.open()
    page.locator("notifier-bell [part=bell]").click()
    cdp = context.new_cdp_session(page)
    cdp.send("Performance.enable")
    after: list[tuple[int, int]] = []
    for count in range(STEP, MESSAGES + 1, STEP):
        batch(shop, STEP, text="x" * 500)
        wait_for(lambda count=count: page.evaluate("store.state.unread") == count, timeout_s=60, what="the messages")  # type: ignore[misc]  # bound now, on purpose
        task = shop.begin("Walk")
        shop.change(task, status="succeeded")
        expect(page.locator("notifier-tasks li.succeeded")).to_have_count(1)
        page.locator("notifier-tasks").get_by_role("button", name="Dismiss: Walk").click()
        expect(page.locator("notifier-tasks li")).to_have_count(0)
        after.append(in_memory(page, cdp))
        assert page.evaluate("store.state.messages.length") == KEPT
        assert page.locator("notifier-bell li").count() < 60
    (early, nodes), (late, last) = after[1], after[-1]
    assert late < early + MARGIN_BYTES, after
    assert last < nodes + 500, after
    assert shop.witness.faults == []


def test_ten_thousand_listed_messages_are_few_elements(service: Service, context: Any, witness: Witness) -> None:
    shop = Shop(context, service, Witness(service.url))
    batch(shop, MESSAGES)
    page = shop.open()
    page.locator("notifier-bell [part=bell]").click()
    page.evaluate(
        """async () => {
          const real = notifier.inbox;
          notifier.inbox = (page) => real({ ...page, limit: 100 });
          while (store.state.more) await store.older();
        }"""
    )
    assert page.evaluate("store.state.messages.length") == MESSAGES
    rows = page.locator("notifier-bell li")
    panel = page.get_by_role("dialog")

    def middle() -> int:
        """The place in the list of a row that is in the page."""
        return int(rows.nth(rows.count() // 2).get_attribute("aria-posinset") or 0)

    for part in (0.5, 1, 0):
        panel.evaluate("(panel, part) => panel.scrollTo(0, part * panel.scrollHeight)", part)
        wait_for(lambda part=part: abs(middle() - part * MESSAGES) < MESSAGES / 4, what="rows")  # type: ignore[misc]  # bound now, on purpose
        assert rows.count() < 60
    expect(rows.first).to_have_attribute("aria-setsize", str(MESSAGES))
