"""What a widget shows while it loads, when that failed, where there is nothing; and what a call that failed shows."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from notifier.auth import topic_grant
from tests.browser.conftest import EITHER, shot
from tests.browser.shop import Shop
from tests.support import JWT_SECRET, Service, wait_for


@pytest.fixture
def shop(context: BrowserContext, service: Service) -> Shop:
    return Shop(context, service)


def shots(page: Page, name: str, *widths: int) -> None:
    for width in widths or (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
            shot(page, f"{name}-{width}-{scheme}")


def hold(shop: Shop, *paths: str) -> list[Route]:
    """Requests to these paths wait; they are returned as they come."""
    waiting: list[Route] = []
    for path in paths:
        shop.context.route(f"**/v1/{path}", lambda route: waiting.append(route))
    return waiting


def test_each_widget_shows_a_skeleton_while_it_loads(shop: Shop) -> None:
    waiting = hold(shop, "inbox?*", "tasks", "stream", "poll?*")  # polls follow after 16 s
    page = shop.open(until="")
    for name in ("notifier-inbox", "notifier-tasks", "notifier-progress"):
        widget = page.locator(name)
        expect(widget.locator("[part=skeleton]")).to_be_visible()
        expect(widget.locator("[part=skeleton]")).to_contain_text("Loading…")
        expect(widget.locator("[aria-busy=true]")).to_have_count(1)
        expect(widget.locator("[part=empty]")).to_have_count(0)
    expect(page.get_by_role("button", name="Messages. Loading…")).to_have_attribute("aria-busy", "true")
    page.locator("notifier-bell [part=bell]").click()
    expect(page.locator("notifier-bell [part=skeleton]")).to_be_visible()
    shots(page, "states-loading")
    while len(waiting) < 3:  # the tasks are asked for after 500 ms
        page.wait_for_timeout(50)
    shop.context.unroute_all()  # lets them go on
    expect(page.locator("notifier-inbox [part=empty]")).to_contain_text("No messages yet")
    expect(page.locator("notifier-tasks li")).to_contain_text("Import")
    expect(page.locator("notifier-progress [role=progressbar]")).to_be_visible()
    expect(page.locator("[part=skeleton]")).to_have_count(0)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    page.get_by_role("button", name="Messages. 0 unread messages").wait_for()


def test_each_widget_says_that_it_could_not_load_and_loads_again(shop: Shop) -> None:
    shop.publish("Hello")
    for path in ("inbox?*", "tasks", "stream"):
        shop.context.route(f"**/v1/{path}", lambda route: route.fulfill(status=500, json={"detail": "Kaboom"}))
    page = shop.open(until="")
    for name in ("notifier-inbox", "notifier-tasks", "notifier-progress"):
        failed = page.locator(f"{name} [part=failed]")
        expect(failed).to_contain_text("This could not be loaded.")
        expect(failed.locator("svg")).to_have_count(1)
        expect(page.locator(f"{name} [aria-busy=true]")).to_have_count(0)
    page.get_by_role("button", name="Messages. This could not be loaded.").wait_for()
    shots(page, "states-failed")
    assert "Kaboom" not in str(page.locator("body").inner_text())
    shop.context.unroute("**/v1/inbox?*")
    shop.context.unroute("**/v1/tasks")
    page.locator("notifier-inbox [part=failed]").get_by_role("button", name="Retry").press("Enter")
    expect(page.locator("notifier-inbox li")).to_contain_text("Hello")
    expect(page.locator("notifier-tasks li")).to_contain_text("Import")
    expect(page.locator("[part=failed]")).to_have_count(0)


@EITHER
def test_a_module_that_does_not_load_is_offered_again_and_then_the_page(shop: Shop) -> None:
    shop.publish("Hello")
    modules = {"notifier-inbox": "list", "notifier-tasks": "task_list", "notifier-progress": "task_bar"}
    for name in modules.values():
        shop.context.route(f"**/widgets/{name}.js", lambda route: route.abort())
    page = shop.open()
    for widget in modules:
        offer = page.locator(widget).get_by_role("button")
        expect(offer).to_have_text("This could not be loaded. Retry")
        offer.click()
        expect(offer).to_have_text("This could not be loaded. Reload the page")
    for name in modules.values():
        shop.context.unroute(f"**/widgets/{name}.js")
    page.locator("notifier-tasks").get_by_role("button").click()
    expect(page.locator("notifier-inbox li")).to_contain_text("Hello")
    expect(page.locator("notifier-tasks li")).to_contain_text("Import")
    expect(page.locator("notifier-progress [role=progressbar]")).to_be_visible()


def test_an_empty_widget_has_a_sentence_and_a_picture(shop: Shop) -> None:
    shop.call("PATCH", f"/v1/tasks/{shop.task}", {"status": "succeeded"})
    page = shop.open()
    empty = page.locator("notifier-inbox [part=empty]")
    expect(empty).to_have_text("No messages yet")  # before the click: it moves what is below
    expect(empty.locator("svg")).to_be_visible()
    page.locator("notifier-tasks").get_by_role("button", name="Dismiss: Import").click()
    empty = page.locator("notifier-tasks [part=empty]")
    expect(empty).to_have_text("No tasks at the moment")
    expect(empty.locator("svg")).to_be_visible()
    page.locator("notifier-bell [part=bell]").click()
    expect(page.locator("notifier-bell [part=empty]")).to_be_visible()
    shots(page, "states-empty")


@pytest.mark.parametrize(
    ("lang", "path", "name", "words", "retry"),
    [
        ("en", "inbox/read", "Mark as read: Hello", "This could not be marked as read", "Retry"),
        ("ru", "inbox/*", "Удалить: Hello", "Не удалось удалить", "Повторить"),
        ("ru", "tasks/*/cancel", "Отменить: Import", "Не удалось отменить задачу", "Повторить"),
    ],
)
def test_a_call_that_failed_is_a_toast_in_the_pages_language_with_a_retry(
    shop: Shop, lang: str, path: str, name: str, words: str, retry: str
) -> None:
    shop.publish("Hello")
    page = shop.open(lang=lang)
    page.route(f"**/v1/{path}", lambda route: route.fulfill(status=500, json={"detail": "Kaboom in the broker"}))
    expect(page.locator("notifier-inbox li")).to_have_count(1)  # before the click: it moves what is below
    page.locator("notifier-inbox, notifier-tasks").get_by_role("button", name=name).click()
    toast = page.locator("[part=toast]", has_text=words)
    page.mouse.move(0, 0)  # away from the offer to undo, which would stay
    expect(toast).to_be_visible()
    expect(toast).not_to_contain_text("Kaboom")
    shots(page, f"states-toast-{lang}")
    page.unroute(f"**/v1/{path}")
    toast.get_by_role("button", name=retry).click()
    expect(toast).to_have_count(0)
    expect(page.get_by_role("button", name=name)).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "widget", "name", "words"),
    [
        ("inbox/read", "notifier-inbox", "Mark as read: Hello", "This could not be marked as read"),
        ("inbox/*", "notifier-inbox", "Delete: Hello", "This could not be deleted"),
        ("tasks/*/cancel", "notifier-tasks", "Cancel: Import", "The task could not be cancelled"),
        ("tasks/*/answer", "notifier-progress", "Yes", "The answer could not be sent"),
    ],
)
def test_without_toasts_the_widget_of_a_call_that_failed_says_so_until_the_next_one(
    shop: Shop, path: str, widget: str, name: str, words: str
) -> None:
    shop.publish("Hello")
    choices = [{"value": value, "text": value} for value in ("Yes", "No")]
    shop.call("POST", f"/v1/tasks/{shop.task}/question", {"text": "Overwrite?", "choices": choices})
    page = shop.open()
    page.evaluate("document.querySelector('notifier-toasts').remove()")
    page.route(f"**/v1/{path}", lambda route: route.fulfill(status=500, json={"detail": "Kaboom in the broker"}))
    action = page.locator(widget).get_by_role("button", name=name, exact=True)
    action.click()
    page.mouse.move(0, 0)  # away from the offer to undo, which would stay
    lines = page.locator("[part=connection-text][aria-live]")
    expect(page.locator(widget).locator(lines)).to_have_text(words)
    assert sorted(lines.all_text_contents()) == ["", "", "", words]  # the bell, inbox, tasks, bar
    page.unroute(f"**/v1/{path}")
    action.click()
    page.mouse.move(0, 0)
    expect(page.locator(widget).locator(lines)).to_have_text("")
    expect(action).to_have_count(0)


def test_people_are_dim_on_a_page_whose_stream_never_opened(shop: Shop) -> None:
    shop.context.route("**/v1/stream*", lambda route: route.fulfill(status=403, json={}))
    page = shop.open(until="refused")
    with_people = """async (grant) => {
      await import("/client/widgets/presence.js");
      const element = document.createElement("notifier-presence");
      document.body.append(element);
      element.show(await notifier.topic(grant));
    }"""
    page.evaluate(with_people, topic_grant(JWT_SECRET, shop.user, ["order:1"]))
    for part in ("people", "text"):
        expect(page.locator(f"notifier-presence [part={part}]")).to_have_class(re.compile("dim"))


def test_a_failure_that_a_repeat_cannot_change_has_no_retry(shop: Shop) -> None:
    shop.publish("Hello")
    page = shop.open()
    page.route("**/v1/inbox/*", lambda route: route.fulfill(status=404, json={"detail": "there is no message"}))
    page.get_by_role("button", name="Delete: Hello").first.click()
    toast = page.locator("[part=toast]", has_text="It has ended, or is no longer there.")
    page.mouse.move(0, 0)  # away from the offer to undo, which would stay
    expect(toast).to_be_visible()
    expect(toast.get_by_role("button")).to_have_count(1)  # close


def test_a_service_that_is_away_is_named_as_the_reason(shop: Shop) -> None:
    shop.publish("Hello")
    page = shop.open()
    page.route("**/v1/inbox/read", lambda route: route.abort())
    page.locator("notifier-inbox").get_by_role("button", name="Mark as read: Hello").click()
    expect(page.locator("[part=toast]")).to_contain_text("The service cannot be reached.")


def test_cancel_is_offered_where_the_user_may_cancel(shop: Shop) -> None:
    group = f"group:{shop.user}"

    def begin(name: str, *to: str) -> None:
        shop.call("POST", "/v1/tasks", {"to": list(to), "name": name, "total": 10})

    begin("Old of group", group)
    begin("Old of both", group, f"user:{shop.user}")
    pages = [shop.open(groups=[shop.user]), shop.open(groups=[shop.user])]  # the second follows the first
    begin("New of group", group)
    begin("New of both", group, f"user:{shop.user}")
    begin("New of user", f"user:{shop.user}")
    for page in pages:
        tasks = page.locator("notifier-tasks")
        expect(tasks.locator("li")).to_have_count(6)
        for name in ("Old of both", "New of both", "New of user"):
            expect(tasks.get_by_role("button", name=f"Cancel: {name}")).to_be_visible()
        for name in ("Old of group", "New of group"):
            expect(tasks.get_by_role("button", name=f"Cancel: {name}")).to_have_count(0)


def test_cancel_is_offered_for_all_tasks_with_the_claim(shop: Shop) -> None:
    page = shop.open(groups=[shop.user], cancel=True)
    shop.begin("Of group", f"group:{shop.user}")
    expect(page.locator("notifier-inbox [part=empty]")).to_be_visible()  # before the click: it moves what is below
    page.get_by_role("button", name="Cancel: Of group").click()
    expect(page.locator("notifier-tasks li", has_text="Of group")).to_contain_text("Cancelling")


def test_on_a_phone_toasts_are_above_the_open_sheet_and_repeat_no_message_of_its_list(shop: Shop) -> None:
    for number in range(12):
        shop.publish(f"Number {number}")
    page = shop.open()
    page.set_viewport_size({"width": 390, "height": 844})
    bell, panel, toasts = page.locator("notifier-bell [part=bell]"), page.get_by_role("dialog"), "notifier-toasts"
    bell.click()
    shop.publish("While it is open")
    expect(panel.locator("li").first).to_contain_text("While it is open")
    expect(page.locator("[part=toast]")).to_have_count(1)
    expect(page.locator("[part=toast]")).to_be_hidden()
    page.route("**/v1/inbox/read", lambda route: route.fulfill(status=503, json={}))
    panel.get_by_role("button", name="Mark as read: Number 11").click()
    toast = page.locator("[part=toast]", has_text="This could not be marked as read")
    expect(toast).to_be_visible()
    page.emulate_media(reduced_motion="reduce")
    shots(page, "states-sheet-toast", 390)
    end = "element => element.getBoundingClientRect().bottom"
    wait_for(lambda: page.locator(toasts).evaluate(end) <= panel.evaluate("panel => panel.offsetTop"), what="its place")
    page.unroute("**/v1/inbox/read")
    toast.get_by_role("button", name="Retry").click()
    expect(toast).to_have_count(0)
    expect(panel.get_by_role("button", name="Mark as read: Number 11")).to_have_count(0)
    panel.get_by_role("button", name="Close").click()
    shop.publish("Afterwards")
    expect(page.locator("[part=toast]", has_text="Afterwards")).to_be_visible()
    assert page.locator(toasts).evaluate(end) > 800


def test_toasts_that_a_page_adds_while_a_phones_sheet_is_open_are_above_it_until_it_closes(shop: Shop) -> None:
    shop.publish("Hello")
    page = shop.open()
    page.set_viewport_size({"width": 390, "height": 844})
    bell, panel = page.locator("notifier-bell [part=bell]"), page.get_by_role("dialog")
    bell.click()
    expect(panel.locator("li")).to_have_count(1)
    toasts = page.locator("notifier-toasts")
    add = "old => { old.remove(); document.body.append(document.createElement('notifier-toasts')); }"
    toasts.evaluate(add)
    toasts.evaluate("toasts => toasts.show('info', 'Saved')")
    expect(page.locator("[part=toast]")).to_be_visible()
    end = "element => element.getBoundingClientRect().bottom"
    wait_for(lambda: toasts.evaluate(end) <= panel.evaluate("panel => panel.offsetTop"), what="its place")
    panel.get_by_role("button", name="Close").click()
    wait_for(lambda: toasts.evaluate(end) > 800, what="its usual place")
    toasts.evaluate(add)
    toasts.evaluate("toasts => toasts.show('info', 'Saved')")
    assert toasts.evaluate(end) > 800
