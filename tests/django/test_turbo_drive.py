"""Pages that Turbo Drive replaces without loading them: the script of the first page goes on, and its stream."""

from __future__ import annotations

import asyncio

import pytest
from django.contrib.auth.models import User
from playwright.async_api import Page, expect

from tests.django.sample.models import SimpleModel
from tests.django.site import Chromium, Site, either
from tests.django.viewers import cookie, rename, viewing

pytestmark = pytest.mark.programs


WATCH = """() => {
    Object.assign(window, { first: notifier, streams: 0, left: [], fetchPlain: fetch });
    window.fetch = (url, init) => {
        if (`${url}`.endsWith("/v1/stream")) streams += 1;
        left.push(...(JSON.parse(init?.body ?? "{}").remove ?? []));
        return fetchPlain(url, init);
    };
}"""
"""Counts the streams that the page opens from now on, and notes the topics that it leaves."""


async def show(page: Page, title: str) -> None:
    """Both parts of the page show it."""
    for part in ("h1", "#turbo p"):
        await expect(page.locator(part)).to_have_text(title, timeout=30_000)


@pytest.mark.parametrize("name", ["chromium", "firefox"])
def test_the_stream_goes_on_to_the_next_page_whose_parts_are_live_and_the_topics_of_the_page_before_end(
    site: Site, chromium: Chromium, user: User, name: str
) -> None:
    rows = [SimpleModel.objects.create(title=title) for title in ("first", "second")]
    session = cookie(user, site)
    topics = [f"sample.simplemodel:{row.pk}" for row in rows]

    url = f"{site.url}/live/{rows[0].pk}/drive/"

    async def run() -> None:
        async with either(chromium, name) as started, viewing(started, url, session) as viewer:
            page = viewer.page
            await page.evaluate(WATCH)
            await asyncio.to_thread(rename, site, rows[0], "first, changed")
            await show(page, "first, changed")

            async def follow(n: int) -> None:
                await page.get_by_role("link", name=f"Row {n + 1}").click()
                await expect(page).to_have_title(str(rows[n].pk))
                await page.wait_for_function("topic => left.includes(topic)", arg=topics[1 - n])
                await page.evaluate("left.length = 0")

            await follow(1)
            await show(page, "second")
            await asyncio.to_thread(rename, site, rows[1], "second, changed")
            await show(page, "second, changed")
            # What changes meanwhile on a page that Turbo keeps is fetched when the user goes back to it.
            await asyncio.to_thread(rename, site, rows[0], "first, meanwhile")
            await page.go_back()
            await expect(page).to_have_title(str(rows[0].pk))
            await show(page, "first, meanwhile")
            # A page that it shows from its cache until the new one is there.
            await asyncio.to_thread(rename, site, rows[1], "second, meanwhile")
            await follow(1)
            await show(page, "second, meanwhile")
            await asyncio.to_thread(rename, site, rows[1], "second, last")
            await show(page, "second, last")
            assert await page.evaluate("first === notifier && notifier.connectionState.state") == "open"
            assert await page.evaluate("streams") == 0
            with site.service.client() as publisher:
                message = {"to": [f"user:{user.pk}"], "subject": "Hi"}
                await asyncio.to_thread(lambda: publisher.post("/v1/messages", json=message).raise_for_status())
            await expect(page.get_by_role("button", name="Messages. 1 unread message")).to_be_visible()

    chromium.run(run())
