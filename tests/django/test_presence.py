"""Presence: the tag, its grants, the admin's change form, and two users in a real browser."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client
from playwright.async_api import Browser, Page, expect

from django_bridge import grants
from django_bridge.presence_admin import admin_topic, may_open
from tests.browser.conftest import OUTPUT
from tests.django.sample.models import SimpleModel
from tests.django.site import Chromium, Site
from tests.django.test_grants import claims, render
from tests.django.viewers import audit, cookie


@pytest.fixture
def staff() -> list[User]:
    names = [("ann", "Ann", "Lee"), ("bob", "Bob", "Ray")]
    return [
        User.objects.create_superuser(f"{login}-staff", first_name=first, last_name=last)
        for login, first, last in names
    ]


def token_of(html: str) -> str:
    (token,) = re.findall(r'data-live-grant="([^"]*)"', html)
    return str(token)


def test_the_element_has_a_grant_by_which_others_see_the_user_under_its_own_name(user: User, row: SimpleModel) -> None:
    html = render("{% presence row editing='#form' warning='<b>' %}", user, row=row)
    content = claims(token_of(html))
    name = f"sample.simplemodel:{row.pk}"
    assert (content["topics"], content["presence"], content["name"]) == ([name], True, "Ann Lee")
    start = f'<notifier-presence topic="{name}" editing="#form" warning="&lt;b&gt;" data-live-topic="{name}" data-live-'
    assert html.startswith(start)
    assert render("{% presence row %}", AnonymousUser(), row=row) == ""


def test_a_renewed_grant_shows_the_user_where_the_old_did(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "_permissions", {"order": lambda user, rest: True})
    old = [grants.grant(user, ["order:1"], presence=True), grants.grant(user, ["order:1", "order:2"])]
    renewed = [claims(token) for token in grants.renewed(user, old).grants]
    assert [(each["topics"], each.get("presence", False)) for each in renewed] == [
        (["order:2"], False),
        (["order:1"], True),
    ]


def test_the_change_form_has_a_topic_of_its_own_and_asks_the_admin_again(staff: list[User], row: SimpleModel) -> None:
    client = Client()
    client.force_login(staff[0])
    html = client.get(f"/live/admin/sample/simplemodel/{row.pk}/change/").content.decode()
    topic = f"django_bridge.admin:sample.simplemodel:{row.pk}"
    assert claims(token_of(html))["topics"] == [topic]
    assert f'<notifier-presence topic="{topic}" editing="#simplemodel_form" warning="{{name}} is editing' in html
    assert "notifier-presence" not in client.get("/live/admin/sample/simplemodel/add/").content.decode()
    old = token_of(html)
    assert grants.renewed(staff[0], [old]).denied == []
    User.objects.filter(pk=staff[0].pk).update(is_superuser=False)
    assert grants.renewed(User.objects.get(pk=staff[0].pk), [old]).denied == [topic]
    row.delete()
    assert not may_open(staff[1], topic.partition(":")[2])
    assert admin_topic(SimpleModel(pk="x" * 200)) is None


@contextlib.asynccontextmanager
async def viewing(started: Browser, url: str, session: Any, **options: Any) -> AsyncIterator[Page]:
    context = await started.new_context(**options)
    await context.add_cookies([session])
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    await page.goto(url)
    yield page
    await context.close()
    expected = ("favicon", "404", "ERR_INTERNET_DISCONNECTED")
    assert [error for error in errors if not any(part in error for part in expected)] == []


@pytest.mark.programs
def test_two_people_see_each_other_and_who_edits_under_the_strictest_policy(
    site: Site, chromium: Chromium, row: SimpleModel, staff: list[User]
) -> None:
    url = f"{site.url}/live/{row.pk}/people/"
    sessions = [cookie(user, site) for user in staff]

    async def run() -> None:
        async with (
            chromium.browser() as started,
            viewing(started, url, sessions[0], viewport={"width": 390, "height": 700}) as ann,
            viewing(started, url, sessions[1], color_scheme="dark") as bob,
        ):
            await expect(ann.get_by_role("status")).to_have_text("Also here: Bob Ray")
            await expect(bob.get_by_role("status")).to_have_text("Also here: Ann Lee")
            await ann.get_by_label("Title").fill("third")
            await expect(bob.get_by_role("status")).to_have_text("Ann Lee is editing")
            await expect(bob.get_by_role("listitem")).to_have_text(["ALAnn Lee is editing"])
            for page, name in ((ann, "presence-390"), (bob, "presence-dark-1280")):
                await page.evaluate("document.body.style.background = 'Canvas'")
                await audit(page)
                await page.screenshot(path=OUTPUT / f"{name}.png")
            # A picture that loads is shown; initials where it does not.
            image = ann.get_by_role("listitem").locator("img")
            await expect(image).to_have_js_property("naturalWidth", 32)
            assert await image.get_attribute("src") == f"/live/{staff[1].pk}/face/"
            await expect(bob.locator("notifier-presence [part=avatar]")).to_have_text("AL")
            await expect(bob.get_by_role("listitem").locator("img")).to_have_count(0)
            second = await ann.context.new_page()
            await second.goto(url)
            await expect(second.get_by_role("status")).to_have_text("Also here: Bob Ray")
            await second.get_by_label("Title").fill("fourth")
            await ann.locator("form").evaluate("form => form.reset()")
            await second.locator("form").evaluate("form => form.reset()")
            await expect(bob.get_by_role("status")).to_have_text("Also here: Ann Lee")
            await ann.get_by_label("Title").fill("fifth")
            await expect(bob.get_by_role("status")).to_have_text("Ann Lee is editing")
            # The page without the element hears the topic, too: its tab does not keep the user seen.
            await ann.goto(f"{site.url}/live/{row.pk}/")
            await expect(bob.get_by_role("status")).to_have_text("Also here: Ann Lee")
            # Without a connection they are those of before, and dim.
            for is_offline, look in ((True, re.compile("dim")), (False, re.compile("^$"))):
                await bob.context.set_offline(is_offline)
                await expect(bob.get_by_role("status")).to_have_class(look)
                await expect(bob.get_by_role("list")).to_have_class(look)
            await second.close()
            await expect(bob.get_by_role("status")).to_have_text("", timeout=45_000)
            # Where the view decides, the next grant is that of the page as it is now.
            element = bob.locator("notifier-presence")
            old = await element.get_attribute("data-live-grant") or ""
            await element.evaluate(
                "element => element.dispatchEvent(new CustomEvent('live', { detail: { isDue: true } }))"
            )
            await expect(element).not_to_have_attribute("data-live-grant", old)
            await ann.goto(url)
            await expect(bob.get_by_role("status")).to_have_text("Also here: Ann Lee")
            await ann.locator("notifier-presence").evaluate("element => element.remove()")
            await expect(bob.get_by_role("status")).to_have_text("", timeout=45_000)
            assert await ann.locator("#live").get_attribute("data-live-topic")

    chromium.run(run())


FLASHES = """element => {
    window.flashes = 0;
    const shown = element.shadowRoot;
    const look = (changes) => {
        const isInserted = changes.some(({ target }) => target === shown);
        flashes += isInserted || !shown.querySelector("li") || !shown.querySelector("[role=status]").textContent;
    };
    new MutationObserver(look).observe(shown, { subtree: true, childList: true, characterData: true });
}"""
"""Counts how often a page shows no one from now on, or inserts again what shows people."""


@pytest.mark.programs
def test_the_next_grant_changes_neither_who_is_shown_nor_who_is_editing(
    site: Site, chromium: Chromium, row: SimpleModel, staff: list[User]
) -> None:
    url = f"{site.url}/live/{row.pk}/people/"
    sessions = [cookie(user, site) for user in staff]
    states: list[str] = []

    def note(request: Any) -> None:
        if request.url.endswith("/v1/stream/topics"):
            states.extend((request.post_data_json.get("state") or {}).values())

    async def run() -> None:
        async with (
            chromium.browser() as started,
            viewing(started, url, sessions[0]) as ann,
            viewing(started, url, sessions[1]) as bob,
        ):
            await expect(ann.get_by_role("status")).to_have_text("Also here: Bob Ray")
            ann.on("request", note)
            await ann.get_by_label("Title").fill("third")
            await expect(bob.get_by_role("status")).to_have_text("Ann Lee is editing")
            element = ann.locator("notifier-presence")
            await element.evaluate(FLASHES)
            face = await ann.get_by_role("listitem").element_handle()
            old = await element.get_attribute("data-live-grant") or ""
            async with ann.expect_response("**/presence?*"):  # the next handle reads who is here
                await element.evaluate(
                    "element => element.dispatchEvent(new CustomEvent('live', { detail: { isDue: true } }))"
                )
            await expect(element).not_to_have_attribute("data-live-grant", old)
            await ann.get_by_label("Title").fill("fourth")
            await ann.locator("form").evaluate("form => form.reset()")
            await expect(bob.get_by_role("status")).to_have_text("Also here: Ann Lee")
            assert states == ["editing", "viewing"]
            assert face is not None
            assert await face.evaluate("face => face.isConnected")
            await bob.get_by_label("Title").fill("of Bob")
            await expect(ann.get_by_role("status")).to_have_text("Bob Ray is editing")
            assert await ann.evaluate("flashes") == 0

    chromium.run(run())


@pytest.mark.programs
def test_the_change_form_shows_who_edits_and_asks_before_it_is_saved(
    site: Site, chromium: Chromium, row: SimpleModel, staff: list[User]
) -> None:
    url = f"{site.url}/live/admin/sample/simplemodel/{row.pk}/change/"
    sessions = [cookie(user, site) for user in staff]

    async def run() -> None:
        async with (
            chromium.browser() as started,
            viewing(started, url, sessions[0]) as ann,
            viewing(started, url, sessions[1], color_scheme="dark", viewport={"width": 390, "height": 700}) as bob,
        ):
            status = ann.locator("notifier-presence [role=status]")
            await expect(status).to_have_text("Also here: Bob Ray")
            await bob.locator("#id_title").fill("of Bob")
            await expect(status).to_have_text("Bob Ray is editing")
            await ann.locator("#id_title").fill("of Ann")
            await expect(bob.locator("notifier-presence [role=status]")).to_have_text("Ann Lee is editing")
            for page in (ann, bob):
                await audit(page, "notifier-presence")
            await ann.screenshot(path=OUTPUT / "presence-admin.png")
            await bob.screenshot(path=OUTPUT / "presence-admin-dark-390.png")
            questions: list[str] = []

            async def decline(dialog: Any) -> None:
                questions.append(dialog.message)
                await dialog.dismiss()

            ann.once("dialog", decline)
            await ann.locator("[name=_save]").click()
            assert questions == ["Bob Ray is editing this too. Save anyway?"]
            assert await ann.locator("#id_title").input_value() == "of Ann"
            ann.once("dialog", lambda dialog: dialog.accept())
            await ann.locator("[name=_save]").click()
            await ann.wait_for_url("**/simplemodel/")
            await expect(bob.locator("notifier-presence [role=status]")).to_have_text("", timeout=45_000)

    chromium.run(run())
    row.refresh_from_db()
    assert row.title == "of Ann"
