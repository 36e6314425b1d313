"""Live pages in a real browser: each viewer fetches the fragment again in its own session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client
from playwright.async_api import Browser, Page, expect

from tests.axe import FINDINGS, axe
from tests.django.sample.models import SimpleModel
from tests.django.site import Chromium, Site

pytestmark = pytest.mark.programs


@pytest.fixture
def row() -> SimpleModel:
    return SimpleModel.objects.create(title="first")


def cookie(user: User, site: Site) -> Any:
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value, "url": site.url}


TEXTS = """() => {
    const look = () => texts.push(...[...document.querySelectorAll("main p")].map((p) => p.textContent));
    window.texts = [];
    look();
    new MutationObserver(look).observe(document.querySelector("main"), { subtree: true, childList: true });
}"""
"""Collects what the fragments of a page show from now on."""


class Viewer:
    """A user's page. Every error on its console fails the test."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.joined = self.refused = 0
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfinished", self._finished)
        page.on("response", self._answered)

    def _finished(self, request: Any) -> None:
        self.joined += request.url.endswith("/v1/stream/topics")

    def _answered(self, response: Any) -> None:
        self.refused += response.status == 403

    async def is_joined(self) -> None:
        while not self.joined:
            await self.page.wait_for_event("requestfinished")


@contextlib.asynccontextmanager
async def viewing(started: Browser, url: str, session: Any) -> AsyncIterator[Viewer]:
    context = await started.new_context()
    await context.add_cookies([session])
    viewer = Viewer(await context.new_page())
    await viewer.page.goto(url)
    await viewer.is_joined()
    yield viewer
    await context.close()
    assert viewer.errors == []


async def audit(page: Page, selector: str | None = None) -> None:
    await page.evaluate(axe())
    assert await page.evaluate(FINDINGS, selector) == []


def rename(site: Site, row: SimpleModel, *titles: str, **more: Any) -> None:
    params = {"title": titles, **more}
    httpx.get(f"{site.url}/live/{row.pk}/rename/", params=params, timeout=30).raise_for_status()


def is_leaving(request: Any) -> bool:
    """Whether topics leave the stream."""
    return "remove" in (request.post_data or "")


def test_the_list_of_the_docs_is_live(site: Site, chromium: Chromium, row: SimpleModel, user: User) -> None:
    session = cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, f"{site.url}/live/orders/", session) as viewer:
            await expect(viewer.page.locator("#orders li")).to_have_text(["first"])
            for title in ("second", "third"):
                await asyncio.to_thread(rename, site, row, title)
                await expect(viewer.page.locator("#orders li")).to_have_text([title])

    chromium.run(run())


def test_staff_and_customer_see_their_own_version_until_permission_is_withdrawn(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    staff = User.objects.create_user("staff", is_staff=True)
    banned = Group.objects.create(name="banned")
    url = f"{site.url}/live/{row.pk}/"
    sessions = cookie(user, site), cookie(staff, site)

    async def show(viewer: Viewer, text: str) -> None:
        for name in ("htmx", "turbo", "live"):
            await expect(viewer.page.locator(f"#{name} p")).to_have_text(text)

    async def run() -> None:
        async with (
            chromium.browser() as started,
            viewing(started, url, sessions[0]) as customer,
            viewing(started, f"{url}?htmx=htmx4", sessions[0]) as customer_of_htmx_4,
            viewing(started, url, sessions[1]) as clerk,
        ):
            customers = customer, customer_of_htmx_4
            await asyncio.to_thread(rename, site, row, "second")
            await show(clerk, "staff: second")
            for viewer in customers:
                await show(viewer, "second")
                await viewer.page.evaluate(TEXTS)
            await asyncio.to_thread(lambda: user.groups.add(banned))
            await asyncio.to_thread(rename, site, row, "third")
            await show(clerk, "staff: third")
            for viewer in customers:
                while viewer.refused < 3:
                    await viewer.page.wait_for_event("requestfinished")
                await show(viewer, "second")
            await asyncio.to_thread(lambda: user.groups.remove(banned))
            await asyncio.to_thread(rename, site, row, "fourth")
            for viewer in customers:
                await show(viewer, "fourth")
                # Refused fetches have left the fragments as they were.
                assert set(await viewer.page.evaluate("texts")) == {"second", "fourth"}
            for viewer in (*customers, clerk):
                await audit(viewer.page)

    chromium.run(run())


def test_several_changes_within_the_spread_are_one_fetch_of_each_element(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    url, session = f"{site.url}/live/{row.pk}/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            fetched: list[str] = []
            viewer.page.on("request", lambda request: fetched.append(request.url) if "/row/" in request.url else None)
            # Each element waits for half of the spread.
            await viewer.page.evaluate("Math.random = () => 0.5")
            await asyncio.to_thread(rename, site, row, "2", "3", "4", "5", "6", spread_s=16)
            for name in ("htmx", "turbo", "live"):
                await expect(viewer.page.locator(f"#{name} p")).to_have_text("6", timeout=30_000)
            assert len(fetched) == 3

    chromium.run(run())


def test_an_element_stays_live_without_the_element_that_has_the_grant(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    url, session = f"{site.url}/live/{row.pk}/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page = viewer.page
            assert await page.locator("[data-live-grant]").evaluate_all("all => all.map(({ id }) => id)") == ["htmx"]
            left: list[str | None] = []
            page.on("request", lambda request: left.append(request.post_data) if is_leaving(request) else None)
            await page.locator("#htmx").evaluate("element => element.remove()")
            await asyncio.to_thread(rename, site, row, "second")
            for name in ("turbo", "live"):
                await expect(page.locator(f"#{name} p")).to_have_text("second")
            assert left == []
            async with page.expect_request(is_leaving):
                await page.evaluate("() => document.querySelector('main').replaceChildren()")

    chromium.run(run())


def test_an_element_keeps_focus_text_and_scroll_under_the_strictest_policy(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    url, session = f"{site.url}/live/{row.pk}/strict/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page = viewer.page
            cursor = await page.locator("#live").get_attribute("data-live-cursor") or ""
            await page.locator("input").fill("half a sen")
            await page.locator("input").press("ArrowLeft")
            await page.locator("#long").evaluate("element => element.scrollTo(0, 300)")
            await asyncio.to_thread(rename, site, row, "second <b>")
            await expect(page.locator("h1")).to_have_text("second <b>")
            await expect(page.locator("notifier-live:not([id])")).to_have_text("second <b>")
            # The next grant and its cursor are the answer's.
            await expect(page.locator("#live")).not_to_have_attribute("data-live-cursor", cursor)
            await page.keyboard.type("X")
            assert await page.locator("input").input_value() == "half a seXn"
            assert await page.locator("#long").evaluate("element => element.scrollTop") == 300

    chromium.run(run())


def test_what_changed_between_rendering_and_joining_is_fetched_again(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    session = cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started:
            context = await started.new_context()
            await context.add_cookies([session])
            page = await context.new_page()
            asked = asyncio.Event()
            later = asyncio.Event()

            async def hold(route: Any) -> None:
                asked.set()
                await later.wait()
                await route.continue_()

            await page.route("**/v1/stream/topics", hold)
            await page.goto(f"{site.url}/live/{row.pk}/strict/")
            await asked.wait()
            await asyncio.to_thread(rename, site, row, "second")
            later.set()
            await expect(page.locator("h1")).to_have_text("second")
            await context.close()

    chromium.run(run())
