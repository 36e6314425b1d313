"""Texts that the server wrote into a page: toasts where there are any, and text where there are none."""

from __future__ import annotations

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import Witness
from tests.support import Service

SAVED = '<notifier-message level="success">Saved &lt;b&gt;seven&lt;/b&gt; rows</notifier-message>'
SCRIPT = '<script type="module" src="/client/widgets/message.js"></script>'
TOASTS = "<notifier-toasts></notifier-toasts>"


def shown(context: BrowserContext, service: Service, body: str) -> Page:
    page = context.new_page()
    page.route("**/written", lambda route: route.fulfill(body=f"<!doctype html>{body}", content_type="text/html"))
    page.goto(f"{service.url}/written")
    return page


def test_it_is_a_toast_of_its_level_without_any_connection(
    context: BrowserContext, service: Service, witness: Witness
) -> None:
    page = shown(context, service, SAVED + TOASTS + SCRIPT)
    toast = page.locator("[part=toast].success")
    expect(toast).to_contain_text("Saved <b>seven</b> rows")
    expect(page.locator("notifier-message")).to_have_count(0)
    toast.get_by_role("button", name="Close").click()
    expect(toast).to_have_count(0)


def test_one_that_is_added_later_is_a_toast_too(context: BrowserContext, service: Service) -> None:
    page = shown(context, service, TOASTS + SAVED + SCRIPT)
    expect(page.locator("[part=toast]")).to_have_count(1)
    page.evaluate(
        "() => document.body.append(Object.assign(document.createElement('notifier-message'), {textContent: 'More'}))"
    )
    expect(page.locator("[part=toast].info")).to_contain_text("More")


def test_it_stays_in_the_page_where_there_are_no_toasts(context: BrowserContext, service: Service) -> None:
    page = shown(context, service, SAVED + SCRIPT)
    page.wait_for_function("!!customElements.get('notifier-message')")
    expect(page.get_by_text("Saved <b>seven</b> rows")).to_be_visible()


def test_it_stays_in_the_page_where_there_are_no_scripts(browser: Browser, service: Service) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = shown(context, service, SAVED + TOASTS + SCRIPT)
    expect(page.get_by_text("Saved <b>seven</b> rows")).to_be_visible()
    context.close()
