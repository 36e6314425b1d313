"""Modules that a live page loads when it needs them, and that do not load at first."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.async_api import expect

from tests.django.sample.models import SimpleModel
from tests.django.site import Chromium, Site, either
from tests.django.viewers import cookie, rename

LATE = re.compile(r"/notifier/((?:widgets/)?(?:live|presence)|topics|i18n/de)\.js")


@pytest.mark.programs
def test_a_page_is_live_and_shows_people_though_each_late_module_fails_at_first(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    other = User.objects.create_user("bob", first_name="Bob", last_name="Ray")
    sessions = [cookie(each, site) for each in (user, other)]
    failed: set[str] = set()

    async def run() -> None:
        async with chromium.browser() as started:
            contexts = [await started.new_context(locale=locale) for locale in ("de", "en")]
            for context, session in zip(contexts, sessions, strict=True):
                await context.add_cookies([session])
            page, others = [await context.new_page() for context in contexts]
            await others.goto(f"{site.url}/live/{row.pk}/people/")

            async def fail_once(route: Any) -> None:
                url = route.request.url
                if url in failed:
                    await route.continue_()
                else:
                    failed.add(url)
                    await route.abort()

            await page.route(LATE, fail_once)
            await page.goto(f"{site.url}/live/{row.pk}/people/")
            await expect(others.get_by_role("status")).to_have_text("Also here: Ann Lee", timeout=30_000)
            await expect(page.get_by_role("status")).to_have_text(re.compile("Bob Ray"), timeout=30_000)
            await asyncio.to_thread(rename, site, row, "second")
            await expect(page.locator("h2")).to_have_text("second", timeout=30_000)
            names = {name for url in failed if (match := LATE.search(url)) for name in match.groups()}
            assert names == {"live", "topics", "widgets/live", "widgets/presence", "i18n/de"}

    chromium.run(run())


@pytest.mark.programs
def test_a_page_connects_though_its_texts_do_not_load(site: Site, chromium: Chromium, user: User) -> None:
    session = cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started:
            context = await started.new_context(locale="de")
            await context.add_cookies([session])
            page = await context.new_page()
            await page.route("**/i18n/de.js", lambda route: route.abort())
            await page.goto(f"{site.url}/page/")
            await page.wait_for_function("window.notifier?.connectionState.state === 'open'")

    chromium.run(run())


@pytest.mark.programs
@pytest.mark.parametrize("name", ["chromium", "firefox"])
def test_a_page_is_live_though_its_store_and_widgets_do_not_load_and_is_filled_later(
    site: Site, chromium: Chromium, row: SimpleModel, user: User, name: str
) -> None:
    """Firefox keeps the failure of a module as long as the page: what is filled there is the page after it."""
    session = cookie(user, site)
    failed: set[str] = set()
    released = asyncio.Event()

    async def run() -> None:
        async with either(chromium, name) as started:
            context = await started.new_context()
            await context.add_cookies([session])
            page = await context.new_page()

            async def fail(route: Any) -> None:
                failed.add(route.request.url.rpartition("/")[2])
                await (route.continue_() if released.is_set() else route.abort())

            await page.route(re.compile(r"/notifier/(?:store|widgets)\.js"), fail)
            await page.goto(f"{site.url}/live/{row.pk}/drive/")
            await page.wait_for_function("window.notifier?.connectionState.state === 'open'")
            await asyncio.to_thread(rename, site, row, "second")
            await expect(page.locator("h1")).to_have_text("second", timeout=30_000)
            assert await page.evaluate("notifier.store === undefined")
            assert failed == {"store.js", "widgets.js"}
            released.set()
            if name == "firefox":
                await page.reload()
            await page.wait_for_function("window.notifier?.store?.state.loaded", timeout=60_000)
            await expect(page.get_by_role("button", name="Messages")).to_be_visible(timeout=30_000)

    chromium.run(run())
