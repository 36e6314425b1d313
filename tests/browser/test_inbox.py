"""The hands: what a user does with the list of messages, by pointer, keyboard and touch, short or long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.browser.conftest import CHROMIUM_FIRST, EITHER, Witness, stop_clock
from tests.browser.test_widgets import Shop
from tests.support import Service, subscriber_token, wait_for


@pytest.fixture
def shop(context: BrowserContext, service: Service, witness: Witness) -> Iterator[Shop]:
    opened = Shop(context, service, witness)
    yield opened
    assert witness.faults == []


def opened(page: Page) -> Locator:
    """The bell's panel, with its list."""
    page.locator("notifier-bell [part=bell]").click()
    panel = page.get_by_role("dialog")
    expect(panel.get_by_role("list")).to_have_attribute("aria-busy", "false")
    return panel


def subjects(panel: Locator) -> Locator:
    return panel.locator("[part=subject]")


def batch(shop: Shop, count: int, **fields: object) -> None:
    """Messages `Number 0` and on, in calls of 500."""
    for start in range(0, count, 500):
        items = [
            {"kind": "message", "to": [f"user:{shop.user}"], "subject": f"Number {n}", **fields}
            for n in range(start, min(start + 500, count))
        ]
        shop._call("POST", "/v1/batch", items)  # type: ignore[arg-type]


def at(shop: Shop, subject: str, **ago: float) -> None:
    """A message that was sent this long ago."""
    shop.publish(subject, sent_at=(datetime.now(UTC) - timedelta(**ago)).isoformat())


def test_rows_are_grouped_by_day_with_relative_times_and_the_absolute_time_as_title(shop: Shop) -> None:
    for days in (300, 2, 1):
        at(shop, f"{days} days", days=days)
    shop.publish("Now")
    page = shop.open()
    rows = opened(page).locator("li")
    groups = [row.get_attribute("data-group") for row in rows.all()]
    assert groups == ["today", "yesterday", "Earlier", None]
    times = rows.locator("time")
    expect(times).to_have_text(["now", "yesterday", "2 days ago", re.compile(r"^[A-Z][a-z]{2} \d+, \d{4}$")])
    for time in times.all():
        expect(time).to_have_attribute("title", re.compile(r"^[A-Z][a-z]+day, .* at \d+:\d\d"))


def test_a_time_grows_old_while_the_page_is_open(shop: Shop) -> None:
    shop.context.clock.install()
    shop.publish("Hello")
    page = shop.open()
    time = opened(page).locator("time")
    expect(time).to_have_text("now")
    page.clock.run_for(3 * 60_000)
    expect(time).to_have_text(re.compile(r"^[23] min. ago$"))


def test_a_row_is_a_link_as_a_whole_and_a_click_reads_it(shop: Shop) -> None:
    shop.publish("Order 7", text="Paid", url="/orders/7", **{"from": {"name": "Ann Other"}})
    page = shop.open()
    page.route("**/orders/7", lambda route: route.fulfill(body="<title>Order</title>", content_type="text/html"))
    row = opened(page).locator("li")
    expect(row.locator("[part=avatar]")).to_have_text("AO")
    box = row.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 4)  # below the texts
    page.wait_for_url("**/orders/7")  # in the same tab: it is the site's own address
    with shop.service.client() as client:
        token = {"Authorization": f"Bearer {page_token(shop)}"}
        wait_for(lambda: client.get("/v1/inbox/unread", headers=token).json()["unread"] == 0, what="the read mark")


def page_token(shop: Shop) -> str:
    return subscriber_token(shop.user)


def test_long_texts_are_cut_and_do_not_push_the_actions_away(shop: Shop) -> None:
    long = "Wolfeschlegelsteinhausenbergerdorff " * 6
    shop.publish(long.strip(), text=long * 5, **{"from": {"name": long.strip()}})
    page = shop.open()
    for width in (320, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        row = (opened(page) if width == 320 else page.get_by_role("dialog")).locator("li")
        row.hover()
        box = row.bounding_box()
        assert box
        assert box["height"] < 150
        expect(row.locator("[part=text]")).to_have_css("-webkit-line-clamp", "2")
        for part in ("sender", "subject"):
            expect(row.locator(f"[part={part}]")).to_have_css("white-space", "nowrap")
        for part in ("sender", "subject", "text"):
            inner = row.locator(f"[part={part}]").bounding_box()
            assert inner
            assert inner["x"] + inner["width"] <= box["x"] + box["width"] + 1, part
        delete = row.get_by_role("button", name=re.compile("^Delete")).bounding_box()
        assert delete
        assert delete["y"] < box["y"] + 50
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_unread_is_a_dot_and_weight(shop: Shop) -> None:
    shop.publish("Hello")
    page = shop.open()
    row = opened(page).locator("li")
    style = "(row, pseudo) => getComputedStyle(row.querySelector('.row'), pseudo)"
    assert row.evaluate(f"row => ({style})(row, '::before').borderTopWidth") == "4px"
    assert row.evaluate(f"row => ({style})(row).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert int(row.locator("[part=subject]").evaluate("part => getComputedStyle(part).fontWeight")) >= 600
    row.get_by_role("button", name="Mark as read: Hello").click()
    expect(row).not_to_have_class(re.compile("unread"))
    assert row.evaluate(f"row => ({style})(row, '::before').content") == "none"


def test_actions_show_on_hover_and_on_focus(shop: Shop) -> None:
    shop.publish("Hello")
    page = shop.open()
    panel = opened(page)
    actions = panel.locator(".actions")
    expect(actions).to_have_css("opacity", "0")
    panel.locator("li").hover()
    expect(actions).to_have_css("opacity", "1")
    page.mouse.move(0, 0)
    expect(actions).to_have_css("opacity", "0")
    panel.locator("li").focus()
    expect(actions).to_have_css("opacity", "1")


def test_on_touch_a_row_has_a_menu(browser: Browser, service: Service, witness: Witness) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    stop_clock(context)  # the offer to undo stays
    shop = Shop(context, service, witness)
    shop.publish("Hello", url="/a")
    page = shop.open()
    page.locator("notifier-bell [part=bell]").tap()
    panel = page.get_by_role("dialog")
    menu = panel.get_by_role("button", name="Actions: Hello")
    remove = panel.get_by_role("button", name="Delete: Hello")
    expect(menu).to_have_attribute("aria-expanded", "false")
    expect(remove).to_be_hidden()
    menu.tap()
    expect(menu).to_have_attribute("aria-expanded", "true")
    remove.tap()
    expect(panel.locator("li")).to_have_count(0)
    panel.get_by_role("button", name="Undo").tap()
    expect(panel.locator("li")).to_have_count(1)
    panel.get_by_role("button", name="Close").tap()
    expect(panel).to_be_hidden()
    context.close()


@pytest.mark.parametrize("style", ["backdrop-filter: blur(4px)", "transform: translateX(0)", "color: inherit"])
def test_a_phones_sheet_is_at_the_end_of_the_window_in_any_header(shop: Shop, style: str) -> None:
    batch(shop, 20)
    page = shop.open()
    page.set_viewport_size({"width": 390, "height": 800})
    page.locator("notifier-bell").evaluate(
        """(bell, style) => {
          const bar = Object.assign(document.createElement("div"), { style });
          bell.before(bar);
          bar.append(bell);
        }""",
        style,
    )
    panel = opened(page)
    edges = """panel => {
      const { left, right, top, bottom } = panel.getBoundingClientRect();
      return [left >= 0, right <= 390, top >= 0, bottom];
    }"""
    assert panel.evaluate(edges) == [True, True, True, 800]
    page.set_viewport_size({"width": 390, "height": 700})
    wait_for(lambda: panel.evaluate(edges) == [True, True, True, 700], what="the sheet at the new end")
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()


def test_the_filter_shows_all_or_the_unread(shop: Shop) -> None:
    for n in range(3):
        shop.publish(f"Number {n}")
    page = shop.open()
    panel = opened(page)
    page.evaluate("store.read(store.state.messages[1].id)")
    unread = panel.get_by_role("button", name="Unread", exact=True)
    unread.click()
    expect(unread).to_have_attribute("aria-pressed", "true")
    expect(subjects(panel)).to_have_text(["Number 2", "Number 0"])
    panel.get_by_role("button", name="Mark all read").click()
    expect(panel.locator("[part=empty]")).to_have_text("Nothing here")
    panel.get_by_role("button", name="All", exact=True).click()
    expect(subjects(panel)).to_have_text(["Number 2", "Number 1", "Number 0"])


@pytest.mark.parametrize("choice", ["Unread", "All"])
def test_a_filter_shows_what_is_below_the_pages_that_it_hides(shop: Shop, choice: str) -> None:
    batch(shop, 3)
    batch(shop, 12, text="newer")  # pages of five
    page = shop.open()
    newer = "(await notifier.inbox({ limit: 12 })).messages.map(({ id }) => id)"
    if choice == "Unread":
        page.evaluate(f"async () => notifier.markRead({newer})")
    else:
        page.evaluate(f"async () => localStorage.setItem('notifier archived', JSON.stringify({newer}))")
    panel = opened(page)
    panel.get_by_role("button", name=choice, exact=True).click()
    expect(subjects(panel)).to_have_text(["Number 2", "Number 1", "Number 0"])
    expect(panel.locator("[part=placeholder]")).to_be_empty()
    expect(panel.get_by_role("button", name="More messages")).to_be_hidden()


def test_archived_messages_that_the_service_has_no_longer_are_looked_for_once(shop: Shop) -> None:
    batch(shop, 60)  # pages of five: more than all messages need in the panel
    page = shop.open()
    newest = page.evaluate("store.state.messages[0].id")
    page.evaluate("kept => localStorage.setItem('notifier archived', JSON.stringify(kept))", ["gone", newest, "away"])
    opened(page).get_by_role("button", name="Archived", exact=True).click()
    wait_for(lambda: page.evaluate("localStorage['notifier archived']") == f'["{newest}"]', what="the end of those")
    expect(subjects(page.get_by_role("dialog"))).to_have_text(["Number 59"])
    page = shop.open()
    waiting: list[Route] = []
    page.route("**/v1/inbox?*before=*", lambda route: waiting.append(route))
    panel = opened(page)
    wait_for(lambda: page.evaluate("true") and waiting, what="the second page of all messages")
    panel.get_by_role("button", name="Archived", exact=True).click()
    waiting[0].continue_()
    wait_for(lambda: page.evaluate("store.state.messages.length") == 10, what="its answer")
    page.evaluate("async () => { for (let n = 0; n < 3; n++) await notifier.inbox({limit: 1}); }")
    expect(subjects(panel)).to_have_text(["Number 59"])
    assert len(waiting) == 1


def test_a_list_whose_end_is_above_the_view_loads_nothing(shop: Shop) -> None:
    batch(shop, 30)
    page = shop.open()
    page.evaluate("document.body.append(document.createElement('notifier-inbox'))")
    rows = page.locator("notifier-inbox li")
    expect(rows.first).to_contain_text("Number 29")
    page.evaluate("document.body.append(Object.assign(document.createElement('div'), {style: 'height: 20000px'}))")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.evaluate("async () => notifier.inbox({limit: 1})")
    older: list[str] = []
    page.on("request", lambda request: older.append(request.url) if "before=" in request.url else None)
    for number in range(3):
        shop.publish(f"New {number}")
        page.wait_for_function("subject => store.state.messages[0].subject === subject", arg=f"New {number}")
    page.evaluate("async () => { for (let n = 0; n < 3; n++) await notifier.inbox({limit: 1}); }")
    assert older == []


@pytest.mark.parametrize("way", ["Retry", "More messages"])
def test_a_filter_whose_messages_could_not_be_loaded_offers_them_again(shop: Shop, way: str) -> None:
    batch(shop, 6)
    page = shop.open()
    page.evaluate("localStorage.setItem('notifier archived', JSON.stringify(store.state.messages.map(({ id }) => id)))")
    page.route("**/v1/inbox?*before=*", lambda route: route.fulfill(status=503, json={}))
    panel = opened(page)
    failed = panel.locator("[part=failed]")
    expect(failed).to_contain_text("This could not be loaded.")
    page.unroute("**/v1/inbox?*before=*")
    panel.get_by_role("button", name=way).click()
    expect(subjects(panel)).to_have_text(["Number 0"])
    expect(panel.locator("li")).to_be_focused()
    shop.witness.faults.clear()  # the 503


def test_a_deletion_can_be_undone_for_five_seconds(shop: Shop) -> None:
    stop_clock(shop.context)
    for n in range(2):
        shop.publish(f"Number {n}")
    page = shop.open()
    panel = opened(page)
    deletions: list[str] = []
    page.on("request", lambda request: deletions.append(request.url) if request.method == "DELETE" else None)
    panel.get_by_role("button", name="Delete: Number 1").click()
    page.mouse.move(0, 0)
    expect(subjects(panel)).to_have_text(["Number 0"])
    page.clock.run_for(4000)
    panel.get_by_role("button", name="Undo").press("Enter")
    expect(panel.get_by_role("heading", name="Messages")).to_be_focused()
    expect(subjects(panel)).to_have_text(["Number 1", "Number 0"])
    page.clock.run_for(10_000)
    assert deletions == []
    panel.get_by_role("button", name="Delete: Number 1").click()
    page.mouse.move(0, 0)
    page.clock.run_for(6000)
    expect(panel.locator("[part=undo]")).to_be_hidden()
    wait_for(lambda: len(deletions) == 1, what="the deletion")
    expect(subjects(panel)).to_have_text(["Number 0"])


def test_leaving_the_page_deletes_what_could_still_be_undone(shop: Shop) -> None:
    shop.publish("Hello")
    page = shop.open()
    opened(page).get_by_role("button", name="Delete: Hello").click()
    page.goto(f"{shop.service.url}/healthz")
    token = {"Authorization": f"Bearer {page_token(shop)}"}
    with shop.service.client() as client:
        wait_for(lambda: client.get("/v1/inbox", headers=token).json()["messages"] == [], what="the deletion")


def test_an_archived_message_leaves_the_list_is_read_unless_undone_and_stays_archived_here(shop: Shop) -> None:
    stop_clock(shop.context)  # the offer to undo stays
    for n in range(2):
        shop.publish(f"Number {n}")
    page = shop.open()
    panel = opened(page)
    reads: list[str] = []
    page.on("request", lambda request: reads.append(request.url) if request.url.endswith("/read") else None)
    panel.get_by_role("button", name="Archive: Number 1").click()
    expect(subjects(panel)).to_have_text(["Number 0"])
    expect(page.get_by_role("button", name="Messages. 1 unread message")).to_be_visible()
    panel.get_by_role("button", name="Undo").click()
    expect(subjects(panel)).to_have_text(["Number 1", "Number 0"])
    expect(page.get_by_role("button", name="Messages. 2 unread messages")).to_be_visible()
    expect(panel.locator("li").first).to_have_class(re.compile("unread"))
    page.clock.run_for(10_000)
    assert reads == []
    panel.get_by_role("button", name="Archive: Number 1").click()
    page.mouse.move(0, 0)
    page.clock.run_for(6000)
    expect(panel.locator("[part=undo]")).to_be_hidden()
    wait_for(lambda: len(reads) == 1, what="the read mark")
    page = shop.open()  # another tab, later
    expect(page.get_by_role("button", name="Messages. 1 unread message")).to_be_visible()
    panel = opened(page)
    expect(subjects(panel)).to_have_text(["Number 0"])
    panel.get_by_role("button", name="Archived", exact=True).click()
    expect(subjects(panel)).to_have_text(["Number 1"])
    panel.get_by_role("button", name="Archive: Number 1").click()  # takes it back
    expect(panel.locator("[part=empty]")).to_be_visible()


@EITHER
def test_the_keyboard_walks_opens_reads_archives_and_closes(shop: Shop) -> None:
    for n in range(4):
        shop.publish(f"Number {n}")
    page = shop.open()
    panel = opened(page)
    rows = panel.locator("li")
    for _ in range(5):  # mark all read, three filters, the first row
        page.keyboard.press("Tab")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("u")
    expect(rows.nth(1)).not_to_have_class(re.compile("unread"))
    page.keyboard.press("e")
    expect(subjects(panel)).to_have_text(["Number 3", "Number 1", "Number 0"])
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows.nth(1)).not_to_have_class(re.compile("unread"))
    page.keyboard.press("Delete")
    expect(subjects(panel)).to_have_text(["Number 3", "Number 0"])
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator("notifier-bell [part=bell]")).to_be_focused()


def test_a_key_that_is_held_walks_on_but_acts_once(shop: Shop) -> None:
    """Only the last of several deletions could be undone."""
    for n in range(6):
        shop.publish(f"Number {n}", url=f"/orders/{n}")
    page = shop.open()
    panel = opened(page)
    rows = panel.locator("li")
    page.evaluate(
        """() => {
          window.followed = [];
          addEventListener("click", (event) => {
            const link = event.composedPath().find((node) => node.localName === "a");
            if (!link) return;
            event.preventDefault();
            followed.push(link.href);
          });
        }"""
    )
    rows.nth(0).get_by_role("link").focus()

    def hold(key: str) -> None:
        for _ in range(3):  # each but the first is a repeat
            page.keyboard.down(key)
        page.keyboard.up(key)

    hold("ArrowDown")
    expect(rows.nth(3).get_by_role("link")).to_be_focused()
    hold("Delete")
    expect(subjects(panel)).to_have_text([f"Number {n}" for n in (5, 4, 3, 1, 0)])
    hold("e")
    expect(subjects(panel)).to_have_text([f"Number {n}" for n in (5, 4, 3, 0)])
    rows.nth(0).get_by_role("button", name="Delete: Number 5").focus()
    hold("Enter")  # the focus goes to the next row's link
    expect(subjects(panel)).to_have_text([f"Number {n}" for n in (4, 3, 0)])
    assert page.evaluate("followed") == []


def test_the_letters_are_keys_on_any_layout_and_with_caps_lock(shop: Shop) -> None:
    for n in range(5):
        shop.publish(f"Number {n}")
    panel = opened(shop.open())
    rows = panel.locator("li")
    expect(rows).to_have_count(5)

    def press(row: Locator, key: str, code: str) -> None:
        row.dispatch_event("keydown", {"key": key, "code": code, "bubbles": True, "cancelable": True})

    press(rows.nth(4), "г", "KeyU")  # Russian
    expect(rows.nth(4)).not_to_have_class(re.compile("unread"))
    press(rows.nth(3), "U", "KeyU")
    expect(rows.nth(3)).not_to_have_class(re.compile("unread"))
    press(rows.nth(2), "u", "KeyF")  # Dvorak: what the key shows
    press(rows.nth(1), "p", "KeyE")
    expect(rows.nth(2)).not_to_have_class(re.compile("unread"))
    press(rows.nth(0), "ק", "KeyE")  # Hebrew
    expect(subjects(panel)).to_have_text(["Number 3", "Number 2", "Number 1", "Number 0"])


@CHROMIUM_FIRST
def test_enter_on_a_row_follows_its_url(shop: Shop) -> None:
    shop.publish("Order 7", url="/orders/7")
    page = shop.open()
    page.route("**/orders/7", lambda route: route.fulfill(body="<title>Order</title>", content_type="text/html"))
    link = opened(page).get_by_role("link", name="Order 7")
    for _ in range(5):  # mark all read, three filters, the first row
        page.keyboard.press("Tab")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/7")


def test_the_focus_stays_inside_an_open_panel(shop: Shop) -> None:
    for n in range(3):
        shop.publish(f"Number {n}")
    page = shop.open()
    opened(page)
    inside = "document.querySelector('notifier-bell').shadowRoot.activeElement?.closest('[part=panel]') !== null"
    seen: list[str] = []
    for key in ["Tab"] * 14 + ["Shift+Tab"] * 14:
        page.keyboard.press(key)
        assert page.evaluate(f"{inside} && document.activeElement.localName === 'notifier-bell'")
        seen.append(page.evaluate("document.querySelector('notifier-bell').shadowRoot.activeElement.textContent"))
    assert seen.count("Mark all read") >= 2  # it came round


DRAWS = """async (panel) => {
  const above = panel.querySelector("[part=list]").previousSibling; // measured once by each draw
  const real = Element.prototype.getBoundingClientRect;
  let draws = 0;
  Element.prototype.getBoundingClientRect = function () {
    draws += this === above;
    return real.call(this);
  };
  for (let n = 0; n < 20; n++) for (const target of [panel, window]) target.dispatchEvent(new Event("scroll"));
  const before = draws;
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  Element.prototype.getBoundingClientRect = real;
  return [before, draws];
}"""


def test_a_scrolled_list_is_drawn_once_in_a_frame(shop: Shop) -> None:
    batch(shop, 5)
    panel = opened(shop.open())
    expect(panel.locator("li")).to_have_count(5)
    at_once, draws = panel.evaluate(DRAWS)
    assert at_once == 0
    assert 0 < draws < 20, "one, and one for each change of the store meanwhile"


def test_a_long_list_keeps_few_rows_in_the_page_and_loads_more_as_it_is_scrolled(shop: Shop) -> None:
    batch(shop, 250)
    page = shop.open()
    panel = opened(page)
    panel.get_by_role("button", name="More messages").evaluate(
        "button => button.click()"
    )  # pages of five do not fill the panel
    seen: set[str] = set()

    def scroll() -> bool:
        seen.update(subjects(panel).all_inner_texts())
        panel.evaluate("panel => panel.scrollBy(0, 300)")
        assert panel.locator("li").count() < 60
        return len(seen) == 250

    wait_for(scroll, timeout_s=100, what="all rows")
    expect(panel.get_by_role("button", name="More messages")).to_be_hidden()
    panel.evaluate("panel => panel.scrollTo(0, 0)")
    expect(subjects(panel).first).to_have_text("Number 249")
    expect(panel.locator("li").first).to_have_attribute("aria-posinset", "1")
    expect(panel.locator("li").first).to_have_attribute("aria-setsize", "250")
