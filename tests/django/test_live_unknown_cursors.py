"""Parts whose cursor is unknown, as where the service is late: what changes while one is fetched is fetched too."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.async_api import expect

from tests.django.sample.models import SimpleModel
from tests.django.site import Chromium, Site
from tests.django.viewers import barrier, cookie, rename, viewing

pytestmark = pytest.mark.programs

COUNT = """() => {
    window.lives = [];
    addEventListener("live", ({ detail }) => lives.push(detail.type), { capture: true });
    window.barrier = new Promise((resolve) => document.addEventListener("notifier:barrier", resolve, { once: true }));
}"""


@pytest.mark.parametrize("htmx", ["htmx", "htmx4"])
def test_a_change_that_comes_while_a_part_without_a_cursor_is_fetched_is_fetched_too(
    site: Site, chromium: Chromium, row: SimpleModel, user: User, htmx: str
) -> None:
    """htmx forgets the event with the element that it replaces."""
    url, session = f"{site.url}/live/orders/?htmx={htmx}", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page, orders = viewer.page, viewer.page.locator("#orders li")
            asked, released = asyncio.Event(), asyncio.Event()

            async def answer(route: Any) -> None:
                response = await route.fetch()
                body = re.sub(r'data-live-cursor="[^"]*"', 'data-live-cursor="-"', await response.text())
                asked.set()
                await released.wait()
                await route.fulfill(response=response, body=body)

            await page.evaluate(COUNT)
            await page.route("**/live/orders/", answer)
            await asyncio.to_thread(rename, site, row, "second")
            await asyncio.wait_for(asked.wait(), 30)
            await asyncio.to_thread(rename, site, row, "third")
            await page.wait_for_function("lives.length === 2")
            released.set()
            await expect(orders).to_have_text(["third"])
            await asyncio.to_thread(rename, site, row, "fourth")
            await expect(orders).to_have_text(["fourth"])
            await asyncio.to_thread(barrier, site, user)
            await page.evaluate("barrier")
            # The new element gets one for all that went with the old one; an answer that is newer than its event, none.
            assert await page.evaluate("lives") == ["changed", "changed", "stale", "changed"]

    chromium.run(run())
