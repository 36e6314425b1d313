"""Live pages in a real browser: each viewer fetches the fragment again in its own session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.async_api import Browser, Page, expect

from django_bridge import grants
from tests.django.sample.models import SimpleModel
from tests.django.site import Chromium, Site
from tests.django.viewers import SHORTEN, TEXTS, Viewer, audit, barrier, cookie, rename, viewing

pytestmark = pytest.mark.programs


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


def test_a_change_that_comes_while_htmx_settles_what_it_swapped_in_is_fetched_too(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    """htmx listens on new elements only afterwards: 20 ms later, if the page asks for no other time."""
    session = cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, f"{site.url}/live/orders/", session) as viewer:
            await viewer.page.evaluate("() => void (htmx.config.defaultSettleDelay = 3000)")
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


def test_an_element_keeps_focus_changed_fields_and_scroll_under_the_strictest_policy(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    url, session = f"{site.url}/live/{row.pk}/strict/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page = viewer.page
            cursor = await page.locator("#live").get_attribute("data-live-cursor") or ""
            await page.get_by_label("Other").fill("of the user")
            await page.get_by_label("Kind").select_option("b")
            await page.get_by_label("M", exact=True).check()
            await page.get_by_label("Note").fill("half a sen")
            await page.get_by_label("Note").press("ArrowLeft")
            await page.locator("#long").evaluate("element => element.scrollTo(0, 300)")
            await asyncio.to_thread(rename, site, row, "second <b>")
            await expect(page.locator("h1")).to_have_text("second <b>")
            await expect(page.locator("notifier-live:not([id])")).to_have_text("second <b>")
            # The next grant and its cursor are the answer's.
            await expect(page.locator("#live")).not_to_have_attribute("data-live-cursor", cursor)
            await page.keyboard.type("X")
            await expect(page.get_by_label("Note")).to_have_value("half a seXn")
            await expect(page.get_by_label("Other")).to_have_value("of the user")
            await expect(page.get_by_label("Kind")).to_have_value("b")
            await expect(page.get_by_label("M", exact=True)).to_be_checked()
            # A field that the user has not changed is the answer's.
            await expect(page.get_by_label("Free")).to_have_value("second <b>")
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


WATCH = """() => {
    window.lives = 0;
    window.barrier = new Promise((resolve) => document.addEventListener("notifier:barrier", resolve, { once: true }));
    document.addEventListener("live", () => { window.lives += 1; }, { capture: true });
}"""


def test_a_page_renews_its_grants_and_hears_nothing_more_once_its_user_may_not_see_the_object(
    site: Site, chromium: Chromium, row: SimpleModel, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole chain: the page's grant nears its end, Django asks `live_permission`, the stream leaves the topic."""
    monkeypatch.setattr(grants, "LIFE_S", 10)  # of the first grant; Django's are longer
    staff = User.objects.create_user("staff", is_staff=True)
    banned, names = Group.objects.create(name="banned"), [f"sample.simplemodel:{row.pk}"]
    sessions = {each: cookie(each, site) for each in (user, staff)}
    answers: dict[User, dict[str, Any]] = {}

    async def run() -> None:
        is_banned = asyncio.Event()

        async def opened(started: Browser, viewer: User) -> Page:
            context = await started.new_context()
            await context.add_cookies([sessions[viewer]])
            page = await context.new_page()

            async def hold(route: Any) -> None:
                await is_banned.wait()
                answer = await route.fetch()
                answers[viewer] = await answer.json()
                await route.fulfill(response=answer)

            short = await asyncio.to_thread(grants.grant, viewer, names)
            await page.add_init_script(SHORTEN.replace("GRANT", short))
            await page.route("**/notifier/grants", hold)
            async with page.expect_request_finished(lambda request: request.url.endswith("/v1/stream/topics")):
                await page.goto(f"{site.url}/live/{row.pk}/")
            await page.evaluate(WATCH)
            return page

        async with chromium.browser() as started:
            customer, clerk = await opened(started, user), await opened(started, staff)
            await asyncio.to_thread(user.groups.add, banned)
            async with customer.expect_request(is_leaving) as leaving:
                is_banned.set()
            await (await leaving.value).response()
            await asyncio.to_thread(rename, site, row, "second")
            await expect(clerk.locator("#live p")).to_have_text("staff: second")
            await asyncio.to_thread(barrier, site, user)
            await customer.evaluate("barrier")
            assert await customer.evaluate("lives") == 0
            await expect(customer.locator("#live p")).to_have_text("first")
            while staff not in answers:
                await clerk.wait_for_event("requestfinished")

    chromium.run(run())
    assert (answers[user]["grants"], answers[user]["denied"]) == ([], names)
    assert (len(answers[staff]["grants"]), answers[staff]["denied"]) == (1, [])
