"""The demo, as two people use it: what one sends, the other sees; what one tab does, the other shows."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.axe import FINDINGS, axe
from tests.browser.conftest import Open, Witness, live, shot
from tests.support import Service, running, wait_for

HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"


@pytest.fixture(autouse=True)
def _empty(service: Service) -> None:
    """What earlier tests left is taken away: both inboxes are empty, all ended tasks dismissed."""
    for user in ("ann", "bob"):
        with service.user(user) as client:
            for message in client.get("/v1/inbox?limit=100").json()["messages"]:
                client.delete(f"/v1/inbox/{message['id']}")
            for record in client.get("/v1/tasks").json()["tasks"]:
                client.delete(f"/v1/tasks/{record['id']}")


def send(page: Page, to: str, subject: str, text: str = "", level: str = "info") -> None:
    """Fills the form in and sends it."""
    page.get_by_label("To", exact=True).select_option(to)
    page.get_by_label("Subject").fill(subject)
    page.get_by_label("Text").fill(text)
    page.get_by_role("radio", name=level.capitalize()).check(force=True)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#sent")).to_have_text(re.compile("Sent|Stored"))


def start(page: Page, name: str, seconds: int) -> Locator:
    """Starts a task; answers its row."""
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Takes").fill(str(seconds))
    page.get_by_role("button", name="Start").click()
    row = task(page, name)
    expect(row).to_be_visible()
    return row


def messages(page: Page) -> Locator:
    return page.locator("notifier-inbox li")


def message(page: Page, subject: str) -> Locator:
    return messages(page).filter(has=page.locator("[part=subject]", has_text=subject))


def tasks(page: Page) -> Locator:
    return page.locator("notifier-tasks li")


def task(page: Page, name: str) -> Locator:
    return tasks(page).filter(has=page.locator("[part=name]", has_text=name))


def toast(page: Page, text: str) -> Locator:
    return page.locator("[part=toast]", has_text=text)


def status(row: Locator, expected: str) -> None:
    expect(row).to_have_class(expected)


def unread(page: Page, count: int) -> None:
    """Waits until badge and title show this count."""
    expect(page.get_by_role("button", name=f"Messages. {count} unread message")).to_be_visible()
    expect(page).to_have_title(re.compile(rf"^\({count}\) " if count else r"^[A-Z]"))


def subject() -> str:
    return f"Subject {uuid.uuid4().hex[:6]}"


def publish(service: Service, user: str, subject: str, **fields: object) -> None:
    with service.client() as client:
        client.post("/v1/messages", json={"to": [f"user:{user}"], "subject": subject, **fields}).raise_for_status()


def test_a_person_logs_in_with_a_click_and_stays_after_a_reload(
    context: BrowserContext, service: Service, witness: Witness
) -> None:
    page = context.new_page()
    witness.watch(page)
    page.goto(f"{service.url}/demo")
    page.get_by_role("button", name="Log in as Bob").click()
    live(page)
    expect(page.locator("#me")).to_have_text("Bob")
    page.reload()
    live(page)
    expect(page.locator("#me")).to_have_text("Bob")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in as Ann")).to_be_visible()
    assert witness.faults == []


def test_the_link_opens_a_second_tab_as_the_other_person(demo: Open, context: BrowserContext) -> None:
    ann = demo("ann")
    with context.expect_page() as opened:
        ann.get_by_role("link", name="Open as Bob").click()
    bob = opened.value
    live(bob)
    expect(bob.locator("#me")).to_have_text("Bob")
    ann.reload()
    expect(ann.locator("#me")).to_have_text("Ann")


def test_what_ann_sends_bob_sees_in_pop_up_badge_and_box(demo: Open) -> None:
    ann, bob = demo("ann"), demo("bob")
    unread(bob, 0)
    told = subject()
    send(ann, "bob", told, "See you at noon", level="warning")
    expect(ann.locator("#sent")).to_have_text("Sent. Bob has a page open.")
    expect(toast(bob, f"Ann: {told}")).to_contain_text("See you at noon")
    row = message(bob, told)
    expect(row).to_have_class(re.compile("unread"))
    expect(row).to_have_class(re.compile("warning"))
    expect(row).to_contain_text("See you at noon")
    unread(bob, 1)
    expect(messages(ann)).to_have_count(0)
    shot(bob, "demo-message")


def test_read_and_deleted_messages_are_in_step_over_two_tabs(demo: Open, service: Service) -> None:
    first, second = demo("bob"), demo("bob")
    subjects = [subject() for _ in range(3)]
    for text in subjects:
        publish(service, "bob", text)
    for page in (first, second):
        expect(page.locator("notifier-inbox li.unread")).to_have_count(3)
    message(first, subjects[0]).get_by_role("button", name="Mark as read").click()
    for page in (first, second):
        expect(message(page, subjects[0])).not_to_have_class(re.compile("unread"))
        unread(page, 2)
    message(second, subjects[1]).get_by_role("button", name="Delete").click()
    second.mouse.move(0, 0)  # away from the offer to undo, which would stay
    for page in (second, first):
        expect(message(page, subjects[1])).to_have_count(0)
        unread(page, 1)
    first.locator("notifier-inbox").get_by_role("button", name="Mark all read").click()
    for page in (first, second):
        expect(page.locator("notifier-inbox li.unread")).to_have_count(0)
        unread(page, 0)
    second.reload()
    expect(messages(second)).to_have_count(2)
    unread(second, 0)


def test_a_deletion_shows_at_once_and_is_taken_back_when_the_service_refuses(
    context: BrowserContext, service: Service
) -> None:
    told = subject()
    publish(service, "ann", told)
    page = context.new_page()
    routes: list[Route] = []
    page.route(
        "**/v1/inbox/*", lambda route: routes.append(route) if route.request.method == "DELETE" else route.continue_()
    )
    page.goto(f"{service.url}/demo?user=ann")
    message(page, told).get_by_role("button", name="Delete").click()
    expect(message(page, told)).to_have_count(0)
    unread(page, 0)
    page.mouse.move(0, 0)  # away from the offer to undo, which would stay
    wait_for(lambda: page.evaluate("1") and routes, timeout_s=30, what="the request")
    routes[0].fulfill(status=503, json={"title": "The broker is away"})
    expect(message(page, told)).to_be_visible()
    expect(toast(page, "The service cannot be reached.")).to_be_visible()
    unread(page, 1)


def test_older_messages_come_page_by_page(demo: Open, service: Service) -> None:
    for n in range(40):
        publish(service, "bob", f"Number {n:02}")
    page = demo("bob")
    box = page.locator("notifier-inbox")
    rows, more = box.locator("[part=subject]"), box.get_by_role("button", name="More messages")
    unread(page, 40)
    expect(rows.first).to_have_text("Number 39")
    expect(more).to_be_visible()  # the end of the list is not near the view

    def is_at_end() -> bool:
        box.evaluate("box => box.scrollIntoView({ block: 'end' })")
        return rows.last.inner_text() == "Number 00"

    wait_for(is_at_end, what="the oldest message")
    expect(more).to_be_hidden()


WATCH_TASK = """name => {
  window.steps = new Set();
  window.titles = new Set();
  const watch = (selector, look) => {
    const { shadowRoot } = document.querySelector(selector);
    const changes = { attributes: true, childList: true, subtree: true };
    new MutationObserver(() => look(shadowRoot)).observe(shadowRoot, changes);
  };
  watch("notifier-tasks", (root) => {
    const row = [...root.querySelectorAll("li")].find(({ textContent }) => textContent.includes(name));
    const step = row?.querySelector("[role=progressbar]")?.getAttribute("aria-valuenow");
    if (step) steps.add(Number(step));
    window.summed ||= root.querySelector("[part=overall]")?.checkVisibility();
  });
  watch("notifier-toasts", (root) => {
    for (const title of root.querySelectorAll("[part=title]")) titles.add(title.textContent);
  });
}"""
"""Writes down each step of the task's bar and each title of a toast: a test that looks now and then would miss some."""


def test_a_task_runs_to_its_end_with_bar_state_and_pop_ups(demo: Open) -> None:
    page, other = demo("ann"), demo("ann")
    name = subject()
    page.evaluate(WATCH_TASK, name)
    row = start(page, name, 6)
    expect(row).to_have_class("succeeded", timeout=30_000)
    expect(row.get_by_role("progressbar", name=name)).to_have_attribute("aria-valuenow", "100")
    page.wait_for_function("name => titles.has(`${name}: Running`) && titles.has(`${name}: Done`)", arg=name)
    seen = page.evaluate("[...steps]")
    assert len(seen) > 3, f"the bar was seen only at {sorted(seen)}"
    assert page.evaluate("summed"), "the bar over all running tasks was not shown"
    expect(row).to_contain_text("The report is ready")
    status(task(other, name), "succeeded")
    expect(page.locator("[part=overall]")).to_be_hidden()
    row.get_by_role("button", name="Dismiss").click()
    expect(row).to_have_count(0)
    page.reload()
    live(page)
    expect(tasks(page)).to_have_count(0)


def test_a_running_task_is_still_there_after_a_reload(demo: Open) -> None:
    page = demo("ann")
    name = subject()
    start(page, name, 30)
    page.reload()
    row = task(page, name)
    status(row, "running")
    expect(page.locator("[part=toast]")).to_have_count(0)  # what is there at the start is no news
    row.get_by_role("button", name="Cancel").click()
    status(row, "cancelled")


def test_a_task_is_cancelled_from_any_tab(demo: Open) -> None:
    page, other = demo("ann"), demo("ann")
    name = subject()
    row = start(page, name, 20)
    task(other, name).get_by_role("button", name="Cancel").click()
    expect(toast(page, f"{name}: Cancelled")).to_be_visible()  # first: it leaves by itself
    for tab in (row, task(other, name)):
        status(tab, "cancelled")
        expect(tab).to_contain_text("Stopped on your request")
        expect(tab.get_by_role("button", name="Cancel")).to_be_hidden()


def test_the_summary_bar_is_over_all_running_tasks(demo: Open, service: Service) -> None:
    page = demo("ann")
    with service.client() as client:
        for done in (20, 60):
            record = client.post("/v1/tasks", json={"to": ["user:ann"], "name": "By hand", "total": 100}).json()
            client.patch(f"/v1/tasks/{record['id']}", json={"done": done})
        record = client.post("/v1/tasks", json={"to": ["user:ann"], "name": "Who knows"}).json()
        client.patch(f"/v1/tasks/{record['id']}", json={"done": 7, "state": "Counting"})
        unknown = task(page, "Who knows")
        expect(unknown).to_contain_text("7 so far")
        expect(unknown.get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", re.compile(""))
        expect(page.get_by_role("progressbar", name=re.compile(r"tasks? (is|are) running"))).to_have_attribute(
            "aria-valuenow", "40"
        )
        expect(page.locator("[part=overall]")).to_contain_text("3 tasks are running")
        shot(page, "demo-tasks")
        for record in client.get("/v1/tasks", headers=service.user("ann").headers).json()["tasks"]:
            client.patch(f"/v1/tasks/{record['id']}", json={"status": "failed", "error": "No disk left"})
    expect(page.locator("notifier-tasks li.failed")).to_have_count(3)
    expect(task(page, "Who knows")).to_contain_text("No disk left")


def test_hostile_texts_are_shown_and_never_run(demo: Open, service: Service, witness: Witness) -> None:
    page = demo("ann")
    publish(service, "ann", HOSTILE, text=HOSTILE, **{"from": {"name": HOSTILE}}, url='/x"onclick=alert(1)')
    with service.client() as client:
        client.post("/v1/tasks", json={"to": ["user:ann"], "name": HOSTILE, "state": HOSTILE})
        client.post("/v1/events", json={"to": ["user:ann"], "type": "constructor", "data": HOSTILE})
    expect(toast(page, "onerror")).to_have_count(2)  # first: they leave by themselves
    expect(page.locator("notifier-inbox [part=subject]")).to_have_text(HOSTILE)
    expect(page.locator("notifier-inbox [part=text]")).to_have_text(HOSTILE)
    expect(page.locator("notifier-tasks [part=name]")).to_have_text(HOSTILE)
    page.locator("#wire summary").click()
    expect(page.locator("#wire-log [data-event=constructor]")).to_contain_text("onerror")
    assert page.locator("img, main script, li script, [part=toast] script").count() == 0
    assert "pwned" not in page.title()
    assert not [url for url in witness.requests if url.endswith("/x")]
    with service.client() as client:
        for record in client.get("/v1/tasks", headers=service.user("ann").headers).json()["tasks"]:
            client.patch(f"/v1/tasks/{record['id']}", json={"status": "succeeded"})


def test_the_page_asks_nothing_of_other_hosts_and_puts_no_token_in_an_address(demo: Open, witness: Witness) -> None:
    page = demo("ann")
    send(page, "ann", subject())
    expect(messages(page)).to_have_count(1)
    assert witness.foreign == []
    assert any(url.endswith("/v1/stream") for url in witness.requests)
    assert not [url for url in witness.requests if "eyJ" in url]


def test_the_wire_shows_events_as_they_came(demo: Open, service: Service) -> None:
    page = demo("ann")
    page.locator("#wire summary").click()
    with service.client() as client:
        client.post("/v1/events", json={"to": ["user:ann"], "type": "order.paid", "data": {"n": 7}})
    expect(page.locator("#wire-log [data-event='order.paid'] .wire-data")).to_have_text('{"n":7}')
    expect(page.locator("#wire-log [data-event=hello]")).to_contain_text("heartbeat_s")
    expect(page.locator("#wire-count")).to_have_text(re.compile(r"^\d+ events · "))
    page.locator("#shell summary").click()
    expect(page.locator("#curl")).to_contain_text(f"curl -X POST {service.url}/v1/messages")


def test_the_keyboard_alone_is_enough(demo: Open, service: Service) -> None:
    page = demo("ann")
    told = [subject(), subject()]
    for text in told:
        publish(service, "ann", text)
    expect(messages(page)).to_have_count(2)
    page.get_by_role("button", name=f"Delete: {told[1]}").focus()
    page.keyboard.press("Enter")
    expect(message(page, told[1])).to_have_count(0)
    expect(message(page, told[0])).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    unread(page, 0)


def test_every_control_has_a_name(demo: Open, service: Service) -> None:
    page = demo("ann")
    publish(service, "ann", subject(), text="With a text")
    start(page, subject(), 2)
    expect(messages(page)).to_have_count(1)
    expect(page.locator("notifier-tasks li.succeeded")).to_have_count(1)
    # All at once: toasts leave by themselves meanwhile.
    controls = page.locator("button:visible, a:visible, input:visible, select:visible, textarea:visible")
    nameless = controls.evaluate_all(
        """all => all.filter((one) =>
          !(one.getAttribute("aria-label") || one.labels?.[0]?.innerText.trim() || one.innerText.trim()))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []


@pytest.fixture
def narrow(browser: Browser) -> Iterator[BrowserContext]:
    """A phone that likes it dark."""
    fresh = browser.new_context(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, color_scheme="dark"
    )
    yield fresh
    fresh.close()


@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_does_not_scroll_sideways_while_it_connects(
    narrow: BrowserContext, service: Service, width: int
) -> None:
    page = narrow.new_page()
    page.set_viewport_size({"width": width, "height": 740})
    page.route("**/v1/stream", lambda route: None)
    page.goto(f"{service.url}/demo?user=ann")
    expect(page.locator("#state-text")).to_have_text("Connecting")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shot(page, f"demo-phone-connecting-{width}")


def test_a_phone_shows_it_all_without_scrolling_sideways(narrow: BrowserContext, service: Service) -> None:
    publish(service, "ann", "W" * 200, text="x" * 2000)
    with service.client() as client:
        task = client.post("/v1/tasks", json={"to": ["user:ann"], "name": "T" * 200, "state": "S" * 300}).json()
    page = narrow.new_page()
    page.goto(f"{service.url}/demo?user=ann")
    expect(messages(page)).to_have_count(1)
    page.locator("#wire summary").click()
    page.locator("#shell summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shot(page, "demo-phone")
    with service.client() as client:
        client.patch(f"/v1/tasks/{task['id']}", json={"status": "succeeded"})


def test_a_restart_of_the_service_is_survived_and_nothing_sent_meanwhile_is_missed(context: BrowserContext) -> None:
    with running(Service(dev=True)) as first:
        page = context.new_page()
        page.goto(f"{first.url}/demo?user=bob")
        live(page)
        publish(first, "bob", "Before")
        expect(message(page, "Before")).to_be_visible()
        first.stop()
        expect(page.locator("#state")).not_to_have_attribute("data-state", "live")
        # The embedded broker forgets: the page must see that (a reset), and not go on showing what is gone.
        with running(Service(dev=True, port=first.port)) as second:
            publish(second, "bob", "Meanwhile")
            live(page)
            expect(message(page, "Meanwhile")).to_be_visible()
            expect(message(page, "Before")).to_have_count(0)
            unread(page, 1)
            publish(second, "bob", "After")
            expect(message(page, "After")).to_be_visible()
            unread(page, 2)


def test_a_network_that_was_away_brings_what_was_missed(demo: Open, context: BrowserContext, service: Service) -> None:
    page = demo("bob")
    seen, missed = subject(), subject()
    publish(service, "bob", seen)
    expect(message(page, seen)).to_be_visible()
    context.set_offline(True)
    publish(service, "bob", missed)
    context.set_offline(False)
    expect(message(page, missed)).to_be_visible()
    expect(messages(page)).to_have_count(2)
    unread(page, 2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page(browser: Browser, service: Service, scheme: Literal["light", "dark"]) -> None:
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{service.url}/demo?user=ann")
    live(page)
    for level in ("info", "success", "warning", "error"):
        publish(service, "ann", f"Hello {level}", text="See you at noon", level=level, url="/a")
    start(page, "Report", 2)
    expect(page.locator("notifier-tasks li.succeeded")).to_have_count(1)
    page.locator("notifier-bell").get_by_role("button").first.click()
    page.evaluate(axe())
    assert page.evaluate(FINDINGS) == []
    context.close()
