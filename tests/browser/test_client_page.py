"""The examples of docs/client.md before its recipes, each in a page as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Witness
from tests.support import REPOSITORY, Service, subscriber_token, wait_for

GUIDE = (REPOSITORY / "docs" / "client.md").read_text("utf-8")
HTML = re.findall(r"^```html\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
USER = "client-page"
Open = Callable[[str], Page]


def example(words: str) -> str:
    """The one example that contains these words."""
    (code,) = [code for code in HTML if words in code]
    return code


@pytest.fixture
def open_page(context: BrowserContext, service: Service, witness: Witness) -> Iterator[Open]:
    """Opens a page of this body, whose user is logged in. A fault of the page fails the test."""
    token = subscriber_token(USER)
    answer = json.dumps({"token": token, "expires_in": 60})
    context.route("**/token", lambda route: route.fulfill(body=answer, content_type="application/json"))
    head = f'<!doctype html><link rel="icon" href="data:,"><script>const getToken = () => "{token}";</script>'

    def open_page(body: str) -> Page:
        page = context.new_page()
        witness.watch(page)
        page.route("**/example", lambda route: route.fulfill(body=head + body, content_type="text/html"))
        page.goto(f"{service.url}/example")
        return page

    yield open_page
    assert witness.faults == []


def publish(service: Service, subject: str) -> None:
    with service.client() as client:
        client.post("/v1/messages", json={"to": [f"user:{USER}"], "subject": subject}).raise_for_status()


def test_a_connected_page_hears_messages(open_page: Open, service: Service) -> None:
    page = open_page(example("notifier.on("))
    lines: list[str] = []
    page.on("console", lambda line: lines.append(line.text))

    def heard() -> bool:
        publish(service, "Hello")
        page.wait_for_timeout(100)
        return "Hello" in lines

    wait_for(heard, what="the message")


def test_a_page_draws_the_store(open_page: Open, service: Service) -> None:
    page = open_page(example("document.title"))
    publish(service, "First")
    expect(page).to_have_title(re.compile(r"^\(\d+\) My page$"))


def test_the_widgets_show_what_the_store_has(open_page: Open, service: Service) -> None:
    elements = [code for code in HTML if code.startswith("<notifier-") or "<notifier-message" in code]
    assert len(elements) == 7
    publish(service, "Shown")
    page = open_page("".join([example("showWidgets("), *elements]))
    expect(page.locator("notifier-toasts [part=toast]")).to_contain_text("Saved")  # first: it leaves by itself
    expect(page.locator("notifier-inbox li").first).to_contain_text("Shown")
    expect(page.locator("notifier-bell").get_by_role("button").first).to_be_visible()
    expect(page.locator("notifier-progress [part=progress]")).to_be_hidden()


def test_the_output_of_a_task_is_shown(open_page: Open, service: Service) -> None:
    with service.client() as client:
        task = client.post("/v1/tasks", json={"to": [f"user:{USER}"], "name": "Import"}).json()["id"]
        client.post(f"/v1/tasks/{task}/output", json={"text": "Reading the file"}).raise_for_status()
    element = example("/client/widgets/output.js").replace("0199-the-id-of-a-task", task)
    page = open_page(example("showWidgets(") + element)
    expect(page.locator("notifier-output [part=text]")).to_have_text("Reading the file")
