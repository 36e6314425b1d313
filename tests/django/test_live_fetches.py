"""Fetches of live parts that give no part, by htmx 2, htmx 4, Turbo and `<notifier-live>`: no session, no answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from playwright.async_api import Browser, Page, expect

from django_bridge import grants
from tests.django.live_pages import LOGIN
from tests.django.sample.models import SimpleModel
from tests.django.site import Chromium, Site, either
from tests.django.viewers import SHORTEN, TEXTS, Viewer, cookie, rename, viewing

pytestmark = pytest.mark.programs

HTMX = ("htmx", "htmx4")
ENDED = """window.ended = new Promise((resolve) =>
    document.addEventListener("live-ended", ({ detail }) => resolve(detail), { once: true, capture: true }));"""


async def show(page: Page, text: str) -> None:
    for name in ("htmx", "turbo", "live"):
        await expect(page.locator(f"#{name} p")).to_have_text(text, timeout=30_000)


@contextlib.asynccontextmanager
async def pages(started: Browser, url: str, session: Any) -> AsyncIterator[list[Viewer]]:
    """The page with htmx 2 and with htmx 4."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(viewing(started, f"{url}?htmx={name}", session)) for name in HTMX]


def test_the_parts_of_a_page_whose_session_has_ended_stay_as_they_are(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    url, session = f"{site.url}/live/{row.pk}/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, pages(started, url, session) as viewers:
            logins = {viewer: asyncio.Semaphore(0) for viewer in viewers}
            for viewer in viewers:
                answered = logins[viewer]
                viewer.page.on("response", lambda response, s=answered: s.release() if LOGIN in response.url else None)
                await viewer.page.evaluate(TEXTS)
                # Without it htmx would take the whole answer, with its title.
                await viewer.page.locator("#htmx").evaluate("element => element.removeAttribute('hx-select')")
            await asyncio.to_thread(Session.objects.all().delete)
            await asyncio.to_thread(rename, site, row, "second")
            for viewer in viewers:
                for _ in range(3):
                    await asyncio.wait_for(logins[viewer].acquire(), 30)
            again = await asyncio.to_thread(cookie, user, site)
            await asyncio.to_thread(rename, site, row, "third")
            for viewer in viewers:
                for _ in range(3):
                    await asyncio.wait_for(logins[viewer].acquire(), 30)
                await viewer.page.locator("#htmx").evaluate("element => element.setAttribute('hx-select', '#htmx')")
                await viewer.page.context.add_cookies([again])
            await asyncio.to_thread(rename, site, row, "fourth")
            for viewer in viewers:
                await show(viewer.page, "fourth")
                assert set(await viewer.page.evaluate("texts")) == {"first", "fourth"}
                assert await viewer.page.title() == "Live"

    chromium.run(run())


def test_the_list_of_the_docs_stays_after_the_session(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    session = cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, pages(started, f"{site.url}/live/orders/", session) as viewers:
            for viewer in viewers:
                async with viewer.page.expect_response(lambda response: LOGIN in response.url):
                    await asyncio.to_thread(Session.objects.all().delete)
                    await asyncio.to_thread(rename, site, row, "second")
            again = await asyncio.to_thread(cookie, user, site)
            for viewer in viewers:
                await expect(viewer.page.locator("#orders li")).to_have_text(["first"])
                await viewer.page.context.add_cookies([again])
            await asyncio.to_thread(rename, site, row, "third")
            for viewer in viewers:
                await expect(viewer.page.locator("#orders li")).to_have_text(["third"])

    chromium.run(run())


def test_a_part_whose_fetch_fails_is_fetched_again_without_another_change(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    """An error page, a connection that breaks, and a request that is never answered."""
    url, session = f"{site.url}/live/{row.pk}/", cookie(user, site)

    async def failing(page: Page, failures: list[Any]) -> dict[str, int]:
        """What the first fetches of each part get. Returns how many there were, by who asks."""
        asked = {"htmx": 0, "turbo": 0, "live": 0}

        async def answer(route: Any) -> None:
            headers = route.request.headers
            name = "htmx" if "hx-request" in headers else "turbo" if "turbo-frame" in headers else "live"
            asked[name] += 1
            await (failures[asked[name] - 1](route) if asked[name] <= len(failures) else route.continue_())

        await page.route("**/row/", answer)
        return asked

    released = asyncio.Event()

    async def hang(route: Any) -> None:
        """Nothing answers."""
        await released.wait()
        await route.abort()

    async def refuse(route: Any) -> None:
        await route.fulfill(status=502, content_type="text/html", body="<title>Bad gateway</title><p>Bad gateway</p>")

    async def run() -> None:
        kinds = [[refuse, lambda route: route.abort()], [hang]]
        async with chromium.browser() as started, contextlib.AsyncExitStack() as stack:
            for failures in kinds:
                viewers = await stack.enter_async_context(pages(started, url, session))
                asked = [await failing(viewer.page, failures) for viewer in viewers]
                for viewer in viewers:
                    await viewer.page.evaluate(TEXTS)
                cases = [*zip(viewers, asked, strict=True)]
                title = f"after {len(failures)}"
                await asyncio.to_thread(rename, site, row, title)
                for viewer, counts in cases:
                    await show(viewer.page, title)
                    assert await viewer.page.title() == "Live"
                    assert min(counts.values()) > len(failures)
                    assert len(set(await viewer.page.evaluate("texts"))) == 2
                    viewer.errors.clear()  # Turbo throws what its fetches throw
            released.set()
            for viewer in viewers:
                await viewer.page.unroute_all(behavior="ignoreErrors")

    chromium.run(run())


def test_after_reloads_that_overlap_a_link_in_a_frame_is_the_users_own(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    """Turbo ends the first reload without an answer."""
    url, session = f"{site.url}/live/{row.pk}/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page, frame = viewer.page, viewer.page.locator("#turbo")
            async with page.expect_event("requestfailed", lambda request: "turbo-frame" in request.headers):
                pending, released = asyncio.Event(), asyncio.Event()

                async def hold(route: Any) -> None:
                    if pending.is_set() or "turbo-frame" not in route.request.headers:
                        await route.continue_()
                    else:
                        pending.set()
                        await released.wait()
                        await route.abort()

                await page.route("**/row/", hold)
                await asyncio.to_thread(rename, site, row, "second")
                await asyncio.wait_for(pending.wait(), 30)
                await asyncio.to_thread(rename, site, row, "third")
            await show(page, "third")
            await frame.evaluate("frame => { frame.innerHTML = '<a href=\"/live/orders/\">Orders</a>'; }")
            async with page.expect_event("pageerror", lambda error: "<turbo-frame" in str(error)):
                await frame.get_by_role("link").click()
            await expect(frame).to_have_text("Content missing")
            viewer.errors.clear()  # Turbo throws that, too
            released.set()
            await page.unroute_all(behavior="ignoreErrors")

    chromium.run(run())


def test_a_login_page_in_the_place_of_the_next_grants_ends_a_page_as_a_refusal_does(
    site: Site, chromium: Chromium, row: SimpleModel, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `LoginRequiredMiddleware` answers once the session has ended."""
    monkeypatch.setattr(grants, "LIFE_S", 10)
    short = grants.grant(user, [f"sample.simplemodel:{row.pk}"])
    session = cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started:
            context = await started.new_context()
            await context.add_cookies([session])
            page = await context.new_page()
            await page.add_init_script(SHORTEN.replace("GRANT", short))
            await page.add_init_script(ENDED)
            login = f"{site.url}{LOGIN}?next=/notifier/grants"
            await page.route("**/notifier/grants", lambda route: route.fulfill(status=302, headers={"Location": login}))
            await page.goto(f"{site.url}/live/{row.pk}/")
            assert await asyncio.wait_for(page.evaluate("ended"), 40) == {
                "topic": f"sample.simplemodel:{row.pk}",
                "reason": "expired",
            }

    chromium.run(run())


def test_what_the_user_has_put_into_a_row_of_a_list_goes_into_no_other_row(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    url, session = f"{site.url}/live/{row.pk}/rows/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page = viewer.page
            for name in ("sel", "radio"):
                await page.locator(f"[name={name}][value=C]").check()
            await page.locator("#row-C [name=own]").fill("of C")
            await page.locator("[name=note]").nth(1).fill("of C")
            await asyncio.to_thread(rename, site, row, "second")
            await expect(page.locator("h1")).to_have_text("second")
            fields = "[...document.querySelectorAll('#live :checked')].map(({ name, value }) => name + value)"
            assert await page.evaluate(fields) == ["selC", "radioC"]
            values = "[...document.querySelectorAll('[name=own], [name=note]')].map(({ value }) => value)"
            # No one can tell whose the note is.
            assert await page.evaluate(values) == ["", "", "", "", "", "of C"]
            # A browser writes a value otherwise than the page, without any user.
            assert await page.evaluate("[at.value, range.value]") == ["2026-11-30T10:01", "5"]

    chromium.run(run())


@pytest.mark.parametrize(
    ("focused", "heirs"),
    [
        ("#row-C button", ["row-C Pack", ""]),
        ("[name=send][value=C]", ["send C", ""]),
        ("p:not([id]):nth-last-child(2) button:not([name])", ["", ""]),  # like that of every other row
        ("#row-C a", ["", ""]),  # it has another text
        ("#row-B button", ["row-B Pack", "row-B Pack"]),
    ],
)
def test_the_focus_goes_to_no_button_of_another_row(
    site: Site, chromium: Chromium, row: SimpleModel, user: User, focused: str, heirs: list[str]
) -> None:
    url, session = f"{site.url}/live/{row.pk}/rows/", cookie(user, site)
    active = """() => {
        const { name, value, textContent, parentElement, localName } = document.activeElement;
        return localName === "body" ? "" : name ? `${name} ${value}` : `${parentElement.id} ${textContent}`;
    }"""

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page = viewer.page
            await page.locator(focused).focus()
            assert await page.evaluate(active) != ""
            for title, heir in zip(("second", "last"), heirs, strict=True):
                await asyncio.to_thread(rename, site, row, title)
                await expect(page.locator("h1")).to_have_text(title)
                assert await page.evaluate(active) == heir

    chromium.run(run())


def fetches(page: Page) -> asyncio.Semaphore:
    """Each fetch of a part of `STRICT` from now on, of which the page has two."""
    finished = asyncio.Semaphore(0)
    page.on("requestfinished", lambda request: finished.release() if request.url.endswith("/strict/") else None)
    return finished


@pytest.mark.parametrize("name", ["chromium", "firefox"])
def test_a_part_waits_for_no_composition_whose_field_a_script_has_removed(
    site: Site, chromium: Chromium, row: SimpleModel, user: User, name: str
) -> None:
    """A browser may send no event for it, as Firefox."""
    url, session = f"{site.url}/live/{row.pk}/strict/", cookie(user, site)

    async def run() -> None:
        async with either(chromium, name) as started, viewing(started, url, session) as viewer:
            page, note = viewer.page, viewer.page.get_by_label("Note")
            compose = """element => {
                element.dispatchEvent(new CompositionEvent("compositionstart", { bubbles: true }));
            }"""
            fetched = fetches(page)
            await note.evaluate(compose)
            await asyncio.to_thread(rename, site, row, "second")
            for _ in range(2):
                await asyncio.wait_for(fetched.acquire(), 30)
            await expect(page.locator("notifier-live:not([id])")).to_have_text("second")
            await expect(page.locator("h1")).to_have_text("first")
            await note.evaluate("element => element.remove()")
            await asyncio.to_thread(rename, site, row, "third")
            await expect(page.locator("h1")).to_have_text("third", timeout=30_000)
            # A part that is put elsewhere with its field has no composition either.
            await note.evaluate(compose)
            await page.locator("#live").evaluate("element => document.querySelector('main').append(element)")
            await asyncio.to_thread(rename, site, row, "fourth")
            await expect(page.locator("h1")).to_have_text("fourth", timeout=30_000)

    chromium.run(run())


def test_a_composition_ends_before_the_answer_is_swapped_in(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    url, session = f"{site.url}/live/{row.pk}/strict/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            page = viewer.page
            keyboard = await page.context.new_cdp_session(page)
            note = page.get_by_label("Note")
            await note.focus()
            await keyboard.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
            await page.evaluate("""() => {
                window.ends = [];
                document.addEventListener("compositionend", ({ data }) => ends.push(data));
            }""")
            fetched = fetches(page)
            await asyncio.to_thread(rename, site, row, "second")
            for _ in range(2):
                await asyncio.wait_for(fetched.acquire(), 30)
            await expect(page.locator("notifier-live:not([id])")).to_have_text("second")
            await keyboard.send("Input.imeSetComposition", {"text": "日本", "selectionStart": 2, "selectionEnd": 2})
            assert await page.evaluate("ends") == []
            await expect(page.locator("h1")).to_have_text("first")
            await keyboard.send("Input.insertText", {"text": "日本"})
            await expect(page.locator("h1")).to_have_text("second")
            assert await page.evaluate("ends") == ["日本"]
            await expect(note).to_have_value("日本")
            await expect(note).to_be_focused()
            # A composition whose field goes has no end.
            await keyboard.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
            await note.evaluate("element => element.remove()")
            await asyncio.to_thread(rename, site, row, "third")
            await expect(page.locator("h1")).to_have_text("third")

    chromium.run(run())


def test_a_frame_takes_the_answer_whose_address_turbo_or_the_page_writes_otherwise(
    site: Site, chromium: Chromium, row: SimpleModel, user: User
) -> None:
    """Turbo writes `src` as it fetches it only after a first good answer."""
    url, session = f"{site.url}/live/{row.pk}/", cookie(user, site)

    async def run() -> None:
        async with chromium.browser() as started, viewing(started, url, session) as viewer:
            frame = viewer.page.locator("#turbo")
            await viewer.page.route("**/row/?next=*", lambda route: route.abort(), times=1)
            async with viewer.page.expect_event("requestfailed"):
                await frame.evaluate("frame => { frame.src += '?next=/a/&flag'; }")
            await viewer.page.evaluate("""() => addEventListener("turbo:before-fetch-request", ({ detail }) =>
                detail.url.searchParams.set("at", Date.now()))""")
            await asyncio.to_thread(rename, site, row, "second")
            await expect(frame.locator("p")).to_have_text("second", timeout=30_000)
            viewer.errors.clear()  # Turbo throws what its fetches throw

    chromium.run(run())
