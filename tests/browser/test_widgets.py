"""The widgets in a page under the strictest policy: what they show, do and say, and that nothing hostile runs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.axe import FINDINGS, axe
from tests.browser.conftest import CHROMIUM_FIRST, EITHER, Witness, shot, stop_clock
from tests.support import Service, subscriber_token, wait_for

POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-abc'; connect-src 'self'; img-src 'self'; base-uri 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE = """<!doctype html><html lang="{lang}" dir="{dir}"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Widgets</title><link rel="icon" href="/client/demo/icon.svg"><h1>Shop</h1>
<notifier-bell></notifier-bell><notifier-tasks></notifier-tasks>
<notifier-progress task="{task}"></notifier-progress><notifier-toasts></notifier-toasts>
<script type="module" nonce="abc">
  import {{ connect }} from "/client/notifier.js";
  import {{ createStore }} from "/client/store.js";
  import {{ showWidgets }} from "/client/widgets.js";
  import texts from "/client/i18n/{lang}.js";
  window.notifier = connect("/", {{ token: "{token}" }});
  window.store = createStore(notifier, {{ pageSize: 5 }});
  showWidgets(store, {{ texts }});
</script>"""
HOSTILE = [
    "<img src=x onerror=\"document.title='pwned'\">",
    "<script>document.title='pwned'</script>",
    "\"><svg onload=document.title='pwned'>",
    "{{constructor.constructor('document.title=`pwned`')()}}",
    "<iframe srcdoc=\"<script>parent.document.title='pwned'</script>\"></iframe>",
]
BAD_URLS = ["javascript:document.title='pwned'", "data:text/html,x", "vbscript:x", "file:///etc/passwd"]


class Shop:
    """A user's page with all widgets."""

    def __init__(self, context: BrowserContext, service: Service, witness: Witness) -> None:
        self.context = context
        self.service = service
        self.witness = witness
        self.user = f"w{uuid.uuid4().hex[:8]}"

    def open(
        self, *, lang: str = "en", direction: str = "ltr", task: str = "", policy: str = POLICY, stay: bool = True
    ) -> Page:
        page = self.context.new_page()
        self.witness.watch(page)
        body = PAGE.format(lang=lang, dir=direction, task=task, token=subscriber_token(self.user))
        headers = {"Content-Security-Policy": policy} if policy else {}
        page.route("**/shop", lambda route: route.fulfill(body=body, content_type="text/html", headers=headers))
        page.goto(f"{self.service.url}/shop")
        # Not wait_for_function: it evaluates strings, and the policy forbids that.
        state = "window.store?.state.loaded && window.store.state.connectionState.state === 'open'"
        wait_for(lambda: page.evaluate(state), what="the list and the stream")
        if stay:  # by themselves they leave after 6 s, in which a busy machine may not have looked
            page.evaluate("customElements.get('notifier-toasts').prototype.stay = () => {}")
        return page

    def publish(self, subject: str, **fields: object) -> None:
        self._call("POST", "/v1/messages", {"to": [f"user:{self.user}"], "subject": subject, **fields})

    def begin(self, name: str, **fields: object) -> str:
        task = self._call("POST", "/v1/tasks", {"to": [f"user:{self.user}"], "name": name, "total": 100, **fields})
        return str(task["id"])

    def change(self, task: str, **fields: object) -> None:
        self._call("PATCH", f"/v1/tasks/{task}", fields)

    def _call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        with self.service.client() as client:
            answer = client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(name="shop")
def watched_shop(context: BrowserContext, service: Service, witness: Witness) -> Iterator[Shop]:
    opened = Shop(context, service, witness)
    yield opened
    assert witness.faults == []


@EITHER
def test_the_bell_counts_and_its_panel_lists_reads_and_deletes(shop: Shop) -> None:
    for n in range(7):
        shop.publish(f"Number {n}", text=f"Text {n}", **{"from": {"name": "Ann"}}, url="/orders/7")
    page = shop.open()
    bell = page.get_by_role("button", name="Messages. 7 unread messages")
    expect(bell).to_have_attribute("aria-expanded", "false")
    bell.click()
    panel = page.get_by_role("dialog", name="Messages")
    rows = panel.locator("li")
    expect(rows).to_have_count(7)  # a page of five does not fill the panel
    expect(rows.first).to_contain_text("Ann")
    expect(rows.first).to_contain_text("Number 6")
    expect(rows.first.locator("time")).to_have_attribute("title", re.compile(r"\d"))
    expect(rows.first.get_by_role("link", name="Number 6")).to_have_attribute("href", f"{shop.service.url}/orders/7")
    expect(panel.get_by_role("button", name="More messages")).to_be_hidden()
    act(panel, "Mark as read", "Number 6")
    expect(page.get_by_role("button", name="Messages. 6 unread messages")).to_be_visible()
    act(panel, "Delete", "Number 5")
    expect(rows).to_have_count(6)
    expect(rows.nth(1).get_by_role("link")).to_be_focused()
    panel.get_by_role("button", name="Mark all read").click()
    expect(page.get_by_role("button", name="Messages. 0 unread messages")).to_be_visible()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator("notifier-bell").get_by_role("button")).to_be_focused()


def act(panel: Locator, action: str, subject: str) -> None:
    """Firefox without a window and a mouse takes the device for a touch screen, where a row has a menu."""
    menu = panel.get_by_role("button", name=f"Actions: {subject}")
    if menu.is_visible():
        menu.click()
    panel.get_by_role("button", name=f"{action}: {subject}").click()


def is_drawn(image: Locator) -> bool:
    return bool(image.evaluate("image => image.complete && image.naturalWidth > 0"))


def test_a_message_shows_its_icon_in_inbox_and_toast(shop: Shop) -> None:
    page = shop.open()
    shop.publish("Named", icon="cart")
    shop.publish("Linked", icon="/client/demo/icon.svg")
    shop.publish("Plain")
    toasts = page.locator("notifier-toasts [part=toast]")
    expect(toasts).to_have_count(3)
    page.get_by_role("button", name="Messages. 3 unread messages").click()
    rows = page.get_by_role("dialog", name="Messages").locator("li")
    for row in (rows.nth(2), toasts.nth(0)):
        expect(row.locator("img")).to_have_attribute("src", re.compile(r"/client/icons/cart\.svg$"))
    for row in (rows.nth(1), toasts.nth(1)):
        expect(row.locator("img")).to_have_attribute("src", "/client/demo/icon.svg")
    for row in (rows.nth(0), toasts.nth(2)):
        expect(row.locator("img")).to_have_count(0)
        expect(row.locator("svg.level")).to_have_count(1)
    for image in page.locator("notifier-bell img, notifier-toasts img").all():
        wait_for(lambda image=image: is_drawn(image), what="the picture")  # type: ignore[misc]  # bound now, on purpose
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shot(page, f"icons-{scheme}")


def test_the_buttons_of_a_message_are_links_and_calls_to_the_page_s_site(shop: Shop) -> None:
    page = shop.open()
    page.evaluate("document.cookie = 'csrftoken=token-7'")
    answers = [503, 200]
    calls: list[tuple[str, str | None]] = []

    def answer(route: Route) -> None:
        calls.append((route.request.method, route.request.headers.get("x-csrftoken")))
        route.fulfill(status=answers.pop(0), body="")

    page.route("**/orders/7/approve/", answer)
    show = {"text": "Show", "url": "/orders/7/"}
    shop.publish("Order 7", actions=[show, {"text": "Approve", "url": "/orders/7/approve/", "method": "POST"}])
    toast = page.locator("notifier-toasts [part=toast]").filter(has_text="Order 7")
    expect(toast.get_by_role("link", name="Show")).to_have_attribute("href", f"{shop.service.url}/orders/7/")
    expect(toast.get_by_role("button", name="Approve")).to_be_visible()
    page.get_by_role("button", name="Messages. 1 unread message").click()
    row = page.get_by_role("dialog", name="Messages").locator("li")
    expect(row.get_by_role("link", name="Show")).not_to_have_attribute("target", "_blank")
    approve = row.get_by_role("button", name="Approve")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shot(page, f"actions-{scheme}")
    approve.click()
    failure = page.locator("notifier-toasts [part=toast]").filter(has=page.get_by_role("button", name="Retry"))
    expect(failure).to_be_visible()
    expect(row).to_have_class(re.compile("unread"))
    approve.click()
    expect(approve).to_have_attribute("aria-disabled", "true")
    expect(row).not_to_have_class(re.compile("unread"))
    approve.click(force=True)
    toast.get_by_role("button", name="Close").click()
    assert calls == [("POST", "token-7")] * 2
    shop.witness.faults[:] = [line for line in shop.witness.faults if "503" not in line]  # the browser's own line


def test_a_corrected_message_is_shown_anew_where_it_stands(shop: Shop) -> None:
    page = shop.open()
    to = [f"user:{shop.user}"]
    first = str(shop._call("POST", "/v1/messages", {"to": to, "subject": "Leaves at 9:20"})["id"])
    shop.publish("Second")
    page.get_by_role("button", name="Messages. 2 unread messages").click()
    rows = page.get_by_role("dialog", name="Messages").locator("li")
    expect(rows).to_have_text([re.compile("Second"), re.compile("Leaves at 9:20")])
    act(page.get_by_role("dialog", name="Messages"), "Mark as read", "Leaves at 9:20")
    expect(rows.nth(1)).not_to_have_class(re.compile("unread"))
    expect(rows.nth(1)).to_be_focused()
    shop._call("PATCH", f"/v1/messages/{first}", {"to": to, "subject": "Leaves at 9:40"})
    expect(rows).to_have_text([re.compile("Second"), re.compile("Leaves at 9:40")])
    expect(rows.nth(1)).not_to_have_class(re.compile("unread"))
    expect(rows.nth(1)).to_be_focused()


def test_a_message_whose_icon_does_not_load_shows_its_level(context: BrowserContext, service: Service) -> None:
    shop = Shop(context, service, Witness(service.url))
    page = shop.open()
    shop.publish("Gone", icon="/client/icons/none-such.svg", level="success")
    toast = page.locator("notifier-toasts [part=toast]")
    expect(toast.locator("svg.level")).to_have_count(1)
    expect(toast.locator("img")).to_have_count(0)


@CHROMIUM_FIRST
def test_the_bell_opens_and_closes_by_keyboard_and_by_a_press_elsewhere(shop: Shop) -> None:
    page = shop.open()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="Messages")
    expect(panel).to_contain_text("No messages")
    page.get_by_role("heading", name="Shop").click()
    expect(panel).to_be_hidden()


@CHROMIUM_FIRST
def test_a_toast_comes_for_a_message_by_its_level_and_for_a_task(shop: Shop) -> None:
    page = shop.open()
    shop.publish("Paid", text="Order 7", **{"from": {"name": "Ann"}})
    expect(page.get_by_role("status").filter(has_text="Ann: Paid")).to_contain_text("Order 7")
    shop.publish("On fire", level="error")
    expect(page.get_by_role("alert")).to_contain_text("System: On fire")
    task = shop.begin("Walk")
    expect(page.locator("[part=toast]", has_text="Walk: Running")).to_be_visible()
    shop.change(task, status="failed", error="No disk left")
    expect(page.get_by_role("alert")).to_contain_text("No disk left")
    assert page.evaluate("document.activeElement === document.body")  # the focus is never taken
    page.locator("[part=toast]", has_text="Paid").get_by_role("button", name="Close").click()
    expect(page.locator("[part=toast]", has_text="Paid")).to_have_count(0)


def test_many_messages_in_one_go_are_one_toast(shop: Shop) -> None:
    """By the page's clock: a pause of 100 ms between two of them would make two toasts."""
    stop_clock(shop.context)
    page = shop.open()
    item = {"kind": "message", "to": [f"user:{shop.user}"]}
    shop._call("POST", "/v1/batch", [{**item, "subject": f"Number {n}"} for n in range(14)])
    wait_for(lambda: page.evaluate("store.state.unread") == 14, what="all of them")
    page.clock.run_for(1000)
    expect(page.locator("[part=toast]")).to_have_text([re.compile("14 messages while you were away")])


def test_a_toast_stays_while_the_pointer_is_on_it(shop: Shop) -> None:
    stop_clock(shop.context)
    page = shop.open(stay=False)
    shop.publish("Look")
    wait_for(lambda: page.evaluate("store.state.unread") == 1, what="the message")
    toast = page.locator("[part=toast]")
    page.clock.run_for(200)
    expect(toast).to_be_visible()
    toast.hover()
    page.clock.run_for(8000)
    expect(toast).to_be_visible()
    page.mouse.move(5, 5)
    page.clock.run_for(8000)
    expect(toast).to_have_count(0)


@EITHER
def test_tasks_have_bar_state_percent_and_time_left_and_are_cancelled_and_dismissed(shop: Shop) -> None:
    first, second = shop.begin("First"), shop.begin("Second")
    page = shop.open(task=second)
    tasks, alone = page.locator("notifier-tasks"), page.locator("notifier-progress")
    # What it shows first is not announced.
    expect(alone.get_by_role("progressbar", name="Second")).to_be_visible()
    shop.change(first, done=20, state="Reading")
    shop.change(second, done=60)
    row = tasks.locator("li", has_text="First")
    expect(row).to_contain_text("Reading")
    expect(row).to_contain_text("20%")
    expect(row.get_by_role("progressbar", name="First")).to_have_attribute("aria-valuenow", "20")
    expect(tasks.get_by_role("progressbar", name="2 tasks are running")).to_have_attribute("aria-valuenow", "40")
    expect(alone.get_by_role("progressbar", name="Second")).to_have_attribute("aria-valuenow", "60")
    expect(alone.get_by_role("status")).to_have_text("Second: 50%")
    row.get_by_role("button", name="Cancel: First").click()
    expect(row).to_contain_text("Cancelling")
    shop.change(first, status="cancelled")
    expect(row).to_contain_text("Cancelled")
    row.get_by_role("button", name="Dismiss: First").click()
    expect(tasks.locator("li")).to_have_count(1)
    expect(tasks.locator("ol")).to_be_focused()
    shop.change(second, status="succeeded")
    expect(alone.get_by_role("status")).to_have_text("Second: Done")
    expect(tasks.locator("[part=overall]")).to_be_hidden()


def test_an_ended_task_links_to_its_result_in_list_bar_and_toast(shop: Shop) -> None:
    task = shop.begin("Export")
    page = shop.open(task=task)
    bare = shop.begin("Bare")
    shop.change(task, status="succeeded", url="/reports/7.csv", url_text="Download")
    shop.change(bare, status="succeeded", url="/log")
    in_toast = page.locator("notifier-toasts [part=toast]").get_by_role("link", name="Download")
    expect(in_toast).to_have_css("margin-inline-start", re.compile("[4-9]"))  # a title may stand before it on its line
    expect(in_toast).to_have_attribute("href", f"{shop.service.url}/reports/7.csv")
    for place in ("notifier-tasks li", "notifier-progress"):
        result = page.locator(place).get_by_role("link", name="Download")
        expect(result).to_have_attribute("href", f"{shop.service.url}/reports/7.csv")
    expect(page.locator("notifier-tasks li", has_text="Bare").get_by_role("link")).to_have_text("Open")


def test_a_progress_may_be_given_another_task_and_shows_nothing_for_an_unknown_one(shop: Shop) -> None:
    task = shop.begin("Walk")
    page = shop.open(task="unknown")
    bar = page.locator("notifier-progress").get_by_role("progressbar")
    expect(bar).to_have_count(0)
    page.evaluate("id => document.querySelector('notifier-progress').setAttribute('task', id)", task)
    expect(bar).to_be_visible()


def test_a_refused_call_is_told_in_a_toast_and_the_message_is_back(shop: Shop) -> None:
    shop.publish("Keep me")
    page = shop.open()
    page.route("**/v1/inbox/*", lambda route: route.fulfill(status=409, json={"title": "Not now"}))
    page.locator("notifier-bell").get_by_role("button").first.click()
    page.get_by_role("button", name="Delete: Keep me").click()
    page.get_by_role("heading", name="Shop").hover()  # away from the offer to undo, which would stay
    expect(page.get_by_role("alert")).to_contain_text("This could not be deleted")
    expect(page.get_by_role("alert")).not_to_contain_text("Not now")  # the service's words, in English
    expect(page.get_by_role("dialog").locator("li")).to_have_count(1)
    shop.witness.faults.clear()  # the browser logs the 409


@CHROMIUM_FIRST
def test_two_hundred_hostile_texts_are_shown_and_run_nothing(shop: Shop) -> None:
    page = shop.open()
    texts = [f"{HOSTILE[n % len(HOSTILE)]} {n}" for n in range(200)]
    item = {"kind": "message", "to": [f"user:{shop.user}"]}
    batch = [{**item, "subject": text, "text": text, "from": {"name": text}, "data": {"x": text}} for text in texts]
    for each in batch[: len(HOSTILE)]:  # as toasts of their own
        shop._call("POST", "/v1/batch", [each])
    for begin in range(len(HOSTILE), 200, 50):
        shop._call("POST", "/v1/batch", batch[begin : begin + 50])
    task = shop.begin(HOSTILE[0], state=HOSTILE[1])
    wait_for(lambda: page.evaluate("store.state.messages.length === 200 && store.state.tasks.length === 1"))
    page.locator("notifier-bell").get_by_role("button").first.click()
    shown: set[str] = set()

    def scroll() -> bool:  # rows outside the view are not in the page
        shown.update(page.locator("notifier-bell [part=subject]").all_inner_texts())
        page.get_by_role("dialog").evaluate(
            """panel => {
              const isAtEnd = panel.scrollTop + panel.clientHeight >= panel.scrollHeight - 1;
              if (isAtEnd) panel.scrollTo(0, 0);
              else panel.scrollBy(0, panel.clientHeight / 2);
            }"""
        )
        return len(shown) == 200

    wait_for(scroll, what="all texts", timeout_s=60)
    expect(page.locator("notifier-tasks [part=name]")).to_have_text(HOSTILE[0])
    shop.change(task, status="succeeded")
    assert page.locator("li img, li script, li iframe").count() == 0
    assert page.title() == "Widgets"
    assert shop.witness.foreign == []


def test_only_addresses_that_are_safe_become_links(shop: Shop) -> None:
    page = shop.open()
    links = page.evaluate(
        "urls => import('/client/widgets/dom.js').then(({ link }) => urls.map((url) => link(url)?.href ?? null))",
        [*BAD_URLS, " javascript:1", "java\nscript:1", "http://[", None, "/a", "https://example.org/"],
    )
    assert links == [None] * 8 + [f"{shop.service.url}/a", "https://example.org/"]


@pytest.fixture
def coloured(request: pytest.FixtureRequest, browser: Browser) -> Iterator[tuple[str, BrowserContext]]:
    fresh = browser.new_context(viewport={"width": 900, "height": 640}, color_scheme=request.param)
    yield request.param, fresh
    fresh.close()


@pytest.fixture
def audit() -> Callable[[Page], None]:
    """Lets axe-core look at the page."""
    source = axe()

    def run(page: Page) -> None:
        page.evaluate(source)
        assert [finding for finding in page.evaluate(FINDINGS) if finding[0] not in PAGE_RULES] == []

    return run


PAGE_RULES = {"region", "landmark-one-main"}
"""Rules for the page around the widgets, not for them."""


@pytest.mark.parametrize(
    ("coloured", "lang"),
    [
        ("light", "en"),
        ("dark", "ru"),
        ("light", "rtl"),
        *(
            pytest.param(scheme, lang, marks=pytest.mark.full)
            for scheme, lang in (("dark", "en"), ("light", "ru"), ("dark", "rtl"))
        ),
    ],
    indirect=["coloured"],
)
def test_axe_finds_nothing_in_light_and_dark_in_any_language(
    coloured: tuple[str, BrowserContext], service: Service, witness: Witness, audit: Callable[[Page], None], lang: str
) -> None:
    scheme, context = coloured
    shop = Shop(context, service, witness)
    first, second = shop.begin("Quarterly report"), shop.begin("Import of customers")
    right = lang == "rtl"
    page = shop.open(lang="en" if right else lang, direction="rtl" if right else "ltr", task=first, policy="")
    shop.change(first, done=40, state="Adding them up")
    shop.change(second, status="failed", error="No disk left")
    for level in ("info", "warning"):
        shop.publish(f"Order {level}", text="See you at noon", level=level, url="/a", **{"from": {"name": "Ann"}})
    expect(page.locator("[part=toast]", has_text="Order warning")).to_be_visible()
    page.locator("notifier-bell").get_by_role("button").first.click()
    box = page.get_by_role("dialog").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 900
    if lang == "ru":
        expect(page.get_by_role("button", name="Сообщения. 2 непрочитанных сообщения")).to_be_visible()
    page.evaluate("document.body.style.background = 'Canvas'")  # axe takes a page without one for white
    audit(page)
    shot(page, f"widgets-{lang}-{scheme}")
    assert witness.faults == []
