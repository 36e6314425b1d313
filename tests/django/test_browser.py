"""End to end: a Django page in a real browser receives the messages and tasks of a view."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from playwright.async_api import Browser, Page, Route, expect

from django_bridge import Task
from tests.django.site import Chromium, Site, in_chromium

pytestmark = pytest.mark.programs


async def page_of(started: Browser, session_cookie: Any) -> tuple[Page, list[str]]:
    """A page of a user who is logged in, and the errors of its scripts."""
    context = await started.new_context()
    await context.add_cookies([session_cookie])
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page, errors


@pytest.fixture
def session_cookie(user: User, site: Site) -> Any:
    """The session cookie of a logged-in user."""
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value, "url": site.url}


async def details(page: Page, name: str) -> list[Any]:
    """The details of the DOM events of this name."""
    pick = "name => seen.filter((event) => event.name === name).map((event) => event.detail)"
    events: list[Any] = await page.evaluate(pick, name)
    return events


@in_chromium
async def test_a_page_with_the_tag_receives_the_messages_and_tasks_of_its_user(
    site: Site, chromium: Chromium, session_cookie: Any
) -> None:
    async with chromium.browser() as started:
        page, _ = await page_of(started, session_cookie)
        await page.goto(f"{site.url}/page/")
        await page.wait_for_function("seen.some(({ name }) => name === 'hello')")
        assert (await page.request.get(f"{site.url}/labour/")).ok
        await page.wait_for_function("seen.some(({ name }) => name === 'message')")
        await page.wait_for_function(
            "seen.some(({ name, detail }) => name === 'task' && detail.status === 'succeeded')"
        )
        (message,) = await details(page, "message")
        assert (message["subject"], message["from"]["name"]) == ("Walked", "Ann Lee")
        last = (await details(page, "task"))[-1]
        assert (last["name"], last["state"], last["percent"]) == ("Walk", "The walk is over", 100)


@in_chromium
async def test_the_page_of_an_anonymous_user_opens_no_stream(site: Site, chromium: Chromium) -> None:
    async with chromium.browser() as started:
        page = await started.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        await page.goto(f"{site.url}/page/", wait_until="networkidle")
        assert [url for url in requested if "favicon" not in url] == [f"{site.url}/page/"]


@in_chromium
async def test_the_bars_of_the_admins_list_move_with_the_tasks_of_all_users_without_a_request(
    site: Site, chromium: Chromium, session_cookie: Any, user: User
) -> None:
    await User.objects.filter(pk=user.pk).aupdate(is_staff=True, is_superuser=True)
    owner = await User.objects.acreate(username="owner")
    notifier = {**settings.NOTIFIER, "TRANSPORT": "http", "TEST_TRANSPORT": "http", "URL": site.service.url}
    with override_settings(NOTIFIER={**notifier, "TASKS_GROUP": "tasks"}):
        known, unknown = Task(from_user=owner, task_name="Known"), Task(from_user=owner, task_name="Unknown")
        await known.abegin(total=10)
        await unknown.abegin()
        async with chromium.browser() as started:
            page, errors = await page_of(started, session_cookie)
            await page.goto(f"{site.url}/admin/django_bridge/taskrecord/")
            await page.wait_for_function("window.notifier?.state === 'live'")
            requested: list[str] = []
            page.on("request", lambda request: requested.append(request.url))
            bar = page.locator(f"[data-notifier-task='{known.id}']")
            count = page.locator(f"[data-notifier-task='{unknown.id}']")
            await known.aset_state("half-way", done=5)
            await unknown.aset_state(done=7)
            await expect(bar).to_have_text("50 %")
            await expect(bar.locator("progress")).to_have_js_property("value", 50)
            await expect(count).to_have_text("7")
            await expect(page.locator("tr", has=bar).locator(".field-state")).to_have_text("half-way")
            await unknown.aend()
            await known.aset_state(done=10)
            await known.aend("all in", url="/reports/7.csv", url_text="Download")
            await expect(page.locator("[data-notifier-task]")).to_have_count(0)
            await expect(page.locator("tr", has_text="all in").locator(".field-status")).to_have_text("succeeded")
            result = page.locator("tr", has_text="all in").get_by_role("link", name="Download")
            await expect(result).to_have_attribute("href", "/reports/7.csv")
            assert [url for url in requested if url.startswith(site.url) and "favicon" not in url] == []
            assert errors == []


@in_chromium
async def test_the_board_shows_the_tasks_of_all_users_live_and_staff_answers_cancels_and_reads_their_output(
    site: Site, chromium: Chromium, session_cookie: Any, user: User
) -> None:
    await User.objects.filter(pk=user.pk).aupdate(is_staff=True, is_superuser=True)
    owner = await User.objects.acreate(username="owner")
    notifier = {**settings.NOTIFIER, "TRANSPORT": "http", "TEST_TRANSPORT": "http", "URL": site.service.url}
    with override_settings(NOTIFIER={**notifier, "TASKS_GROUP": "tasks"}):
        tasks = [Task(from_user=owner, task_name=f"Import {number}") for number in range(200)]
        for task in tasks:
            await task.abegin(total=4)
        async with chromium.browser() as started:
            page, errors = await page_of(started, session_cookie)
            await page.goto(f"{site.url}/admin/django_bridge/taskrecord/board/")
            rows = page.locator("tr.task")
            await expect(rows).to_have_count(200)
            await page.wait_for_function("window.notifier?.state === 'live'")
            row = rows.filter(has=page.get_by_text("Import 7", exact=True))
            await tasks[7].aset_state("half-way", done=2)
            await expect(row.locator(".progress")).to_have_text("50 %")
            await expect(row.locator(".state")).to_have_text("half-way")
            lengths: list[int] = []
            may_fail = asyncio.Event()

            async def fail_first(route: Route) -> None:
                lengths.append(len(route.request.url))
                if len(lengths) > 1:
                    await route.continue_()
                    return
                await may_fail.wait()
                await route.abort()

            await page.route("**/taskrecord/live/**", fail_first)
            for number in range(101):
                await Task(from_user=owner, task_name=f"Later {number}").abegin()
            may_fail.set()
            await expect(rows).to_have_count(301, timeout=30_000)
            await expect(rows.filter(has_text="Later 100").locator(".user")).to_have_text("owner")
            assert max(lengths) < 4000, "gunicorn refuses 4094"
            await page.get_by_label("name").fill("import 19")
            await expect(rows.locator("visible=true")).to_have_count(11)
            await page.get_by_label("name").fill("")
            await tasks[9].afail("no rows")
            await expect(page.locator(".counts").get_by_role("button", name="failed: 1")).to_be_visible()
            await page.get_by_label("status").select_option("failed")
            await expect(rows.locator("visible=true").locator(".state")).to_have_text(["no rows"])
            await page.get_by_label("status").select_option("")
            await page.get_by_label("user").fill("another")
            await expect(rows.locator("visible=true")).to_have_count(0)
            await page.get_by_label("user").fill("own")
            await page.get_by_label("name").fill("import 7")
            await row.get_by_role("button", name="Output").click()
            await tasks[7].awrite("line of the output\n")
            await expect(page.locator("notifier-output")).to_contain_text("line of the output")
            asking = asyncio.create_task(tasks[7].aask("Overwrite?", choices={"yes": "Yes"}, default="yes"))
            await page.locator("notifier-progress").get_by_role("button", name="Yes").click()
            assert (await asking, await sync_to_async(lambda: tasks[7].status)()) == ("yes", "running")
            await row.get_by_role("button", name="Cancel").click()
            await expect(row.locator(".pill")).to_have_text("cancelling")
            await User.objects.filter(pk=user.pk).aupdate(is_superuser=False)
            await user.user_permissions.aadd(await Permission.objects.aget(codename="view_taskrecord"))
            await page.reload()
            asking = asyncio.create_task(tasks[8].aask("Overwrite?", choices={"yes": "Yes"}, default="yes", timeout=60))
            await expect(page.locator("notifier-progress [part=question]")).to_have_text("Overwrite?", timeout=30_000)
            await expect(page.get_by_role("button", name="Yes")).to_have_count(0)
            asking.cancel()
            assert errors == []
