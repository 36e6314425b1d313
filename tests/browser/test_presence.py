"""Who looks, and how: hidden tabs, the browser's own notifications, less motion, forced colours, several devices."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import WHOLE, Witness, shot
from tests.browser.test_widgets import Shop, watched_shop  # noqa: F401  # a fixture
from tests.support import Service, wait_for

# Chromium without a window takes every tab for visible: what a window would do when another tab is chosen.
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
}"""
# The browser's own class does the work; this only writes down what it is asked for.
WATCH = """
  window.asked = 0;
  window.shown = [];
  const { Notification } = window;
  const ask = Notification.requestPermission.bind(Notification);
  Notification.requestPermission = () => (asked += 1, ask());
  window.Notification = new Proxy(Notification, {
    construct: (target, args) => (shown.push([args[0], args[1].body]), new target(...args)),
  });
"""


@pytest.fixture
def context(context: BrowserContext) -> BrowserContext:
    context.add_init_script(WATCH)
    return context


def native(shop: Shop) -> Page:
    page = shop.open()
    page.evaluate("document.querySelector('notifier-toasts').setAttribute('native', '')")
    page.evaluate("import('/client/widgets/base.js').then(({ showWidgets }) => showWidgets(store))")
    return page


def hide(page: Page, hidden: bool = True) -> None:
    page.evaluate(HIDE, hidden)


def test_what_comes_while_the_tab_is_hidden_is_told_when_it_is_looked_at_again(shop: Shop) -> None:
    page = shop.open()
    toasts = page.locator("[part=toast]")
    hide(page)
    for n in range(14):
        shop.publish(f"Number {n}")
    task = shop.begin("Walk")
    shop.change(task, status="succeeded")
    wait_for(lambda: page.evaluate("store.state.unread === 14 && store.state.tasks[0]?.ended_at"), what="all of it")
    page.wait_for_timeout(1200)  # longer than a go of messages lasts
    expect(toasts).to_have_count(0)
    hide(page, False)
    expect(toasts).to_have_text([re.compile("Walk: Done"), re.compile("14 messages while you were away")])


@WHOLE
def test_one_notification_of_the_browser_for_all_hidden_tabs_and_none_while_one_is_looked_at(shop: Shop) -> None:
    shop.context.grant_permissions(["notifications"], origin=shop.service.url)
    looked_at = "navigator.locks.query().then(({ held }) => held.some(({ name }) => name === 'notifier looked at'))"
    pages = [native(shop)]
    wait_for(lambda: pages[0].evaluate(looked_at), what="its lock")
    pages += [native(shop) for _ in range(2)]
    for page in pages[1:]:
        hide(page)
    shop.publish("Seen")
    expect(pages[0].locator("[part=toast]", has_text="Seen")).to_be_visible()
    # The hidden tabs have it too, and have found that a tab is looked at: each question is answered after those before.
    for page in pages[1:]:
        wait_for(lambda page=page: page.evaluate("store.state.messages[0]?.subject === 'Seen'"), what="the message")
        for _ in range(2):
            page.evaluate("navigator.locks.query().then(() => true)")
    hide(pages[0])
    wait_for(lambda: not pages[1].evaluate(looked_at), what="the release of its lock")
    shop.publish("Elsewhere", text="Come back", **{"from": {"name": "Ann"}})
    wait_for(lambda: any(page.evaluate("shown.length") for page in pages), what="the notification")
    for page in pages:
        wait_for(
            lambda page=page: page.evaluate("store.state.messages[0]?.subject === 'Elsewhere'"), what="the message"
        )
    pages[0].wait_for_timeout(500)  # for others that would come
    assert [texts for page in pages for texts in page.evaluate("shown")] == [["Ann: Elsewhere", "Come back"]]


def test_the_browser_is_asked_only_when_the_user_presses_the_button(shop: Shop, browser: Browser) -> None:
    page = native(shop)
    button = page.get_by_role("button", name="Notify me when I am elsewhere")
    page.evaluate("() => void Object.defineProperty(Notification, 'permission', { value: 'default' })")
    page.locator("notifier-bell").get_by_role("button").first.click()
    expect(button).to_be_visible()
    assert page.evaluate("asked") == 0
    button.click()
    wait_for(lambda: page.evaluate("asked") == 1, what="the question")


def test_a_page_that_does_not_want_notifications_offers_none(shop: Shop) -> None:
    page = shop.open()
    page.locator("notifier-bell").get_by_role("button").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("button", name="Notify me")).to_have_count(0)


def test_reading_deleting_and_dismissing_reach_other_tabs_and_devices(
    shop: Shop, browser: Browser, service: Service, witness: Witness
) -> None:
    for n in range(3):
        shop.publish(f"Number {n}")
    task = shop.begin("Walk")
    shop.change(task, status="succeeded")
    elsewhere = browser.new_context()
    device = Shop(elsewhere, service, witness)
    device.user = shop.user
    first, others = shop.open(), [shop.open(), device.open()]
    first.evaluate("store.read(store.state.messages[0].id)")
    first.evaluate("store.remove(store.state.messages[1].id)")
    first.locator("notifier-tasks").get_by_role("button", name="Dismiss: Walk").click()
    for page in others:
        expect(page.get_by_role("button", name="Messages. 1 unread message")).to_be_visible()
        expect(page.locator("notifier-tasks li")).to_have_count(0)
        wait_for(lambda page=page: page.evaluate("store.state.messages.length") == 2, what="the deletion")
    elsewhere.close()


def test_less_motion_moves_nothing(shop: Shop) -> None:
    page = shop.open()
    page.emulate_media(reduced_motion="reduce")
    task = shop.begin("Walk")
    shop.publish("Hello")
    expect(page.locator("[part=toast]", has_text="Hello")).to_be_visible()
    shop.change(task, done=50)
    expect(page.locator("notifier-tasks li")).to_contain_text("50%")
    assert page.evaluate("document.getAnimations().length") == 0


def test_forced_colours_keep_bars_badge_and_borders(shop: Shop) -> None:
    task = shop.begin("Walk")
    page = shop.open()
    page.emulate_media(forced_colors="active")
    shop.change(task, done=50)
    shop.publish("Hello", level="error")
    expect(page.locator("[part=toast]", has_text="Hello")).to_be_visible()
    fill = page.locator("notifier-tasks li [part=fill]")
    expect(page.locator("notifier-tasks li")).to_contain_text("50%")
    assert fill.evaluate("one => getComputedStyle(one).backgroundColor") == page.evaluate(
        "() => { document.body.style.color = 'Highlight'; return getComputedStyle(document.body).color; }"
    )
    for part in ("notifier-tasks li [part=track]", "notifier-bell [part=badge]", "[part=toast]"):
        width = page.locator(part).first.evaluate("one => getComputedStyle(one).borderTopWidth")
        assert width == "1px", part
    shot(page, "widgets-forced-colours")
