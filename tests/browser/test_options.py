"""What attributes of the widgets ask for: count in title and icon, sound, preferences, the toasts' place; themes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import CHROMIUM_FIRST, shot
from tests.browser.test_widgets import Shop, audit, watched_shop  # noqa: F401  # fixtures
from tests.support import REPOSITORY, wait_for

THEMES = sorted(path.stem for path in (REPOSITORY / "client" / "themes").glob("*.css"))
# Chromium plays nothing without a device: this writes down what would be played. What playwright evaluates counts as an
# act of the user, which only a click is here.
LISTEN = """
  let hasBeenActive = false;
  addEventListener("pointerdown", () => { hasBeenActive = true; });
  Object.defineProperty(navigator, "userActivation", { get: () => ({ hasBeenActive }) });
  window.tones = [];
  const { start } = OscillatorNode.prototype;
  OscillatorNode.prototype.start = function () { tones.push(this.frequency.value); return start.call(this); };
  window.Audio = class { constructor(source) { tones.push(source); } play() { return Promise.resolve(); } };
"""
# The contrast of a bar with its empty part. A canvas turns any notation of a colour into its bytes.
CONTRAST = """track => {
  const luminance = (element) => {
    const context = new OffscreenCanvas(1, 1).getContext("2d");
    context.fillStyle = getComputedStyle(element).backgroundColor;
    context.fillRect(0, 0, 1, 1);
    const linear = [...context.getImageData(0, 0, 1, 1).data].map((byte) => byte / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05;
  };
  const [low, high] = [luminance(track), luminance(track.firstElementChild)].sort((a, b) => a - b);
  return high / low;
}"""


@pytest.fixture
def context(context: BrowserContext) -> BrowserContext:
    context.add_init_script(LISTEN)
    return context


def wants(page: Page, selector: str, **attributes: str) -> None:
    """Gives the widget these attributes, as if the page had had them from its start."""
    for name, value in attributes.items():
        page.locator(selector).evaluate(
            "(widget, [name, value]) => widget.setAttribute(name, value)", [name.replace("_", "-"), value]
        )
    page.evaluate("import('/client/widgets/base.js').then(({ showWidgets }) => showWidgets(store))")


def toasts(page: Page) -> list[str]:
    return page.locator("[part=toast] [part=title]").all_inner_texts()


@CHROMIUM_FIRST
def test_the_title_has_the_number_of_unread_messages_and_stays_the_pages(shop: Shop) -> None:
    shop.publish("First")
    page = shop.open()
    expect(page).to_have_title("Widgets")  # nothing without the attribute
    wants(page, "notifier-bell", title_count="")
    expect(page).to_have_title("(1) Widgets")
    shop.publish("Second")
    expect(page).to_have_title("(2) Widgets")
    page.evaluate("document.title = 'Orders'")
    expect(page).to_have_title("(2) Orders")
    page.evaluate("document.title = '(1) Widgets'")  # as from a cache of pages, with the number of that time
    expect(page).to_have_title("(2) Widgets")
    page.evaluate("document.title = '(1984) Orwell'")
    expect(page).to_have_title("(2) (1984) Orwell")
    page.evaluate("store.read('all')")
    expect(page).to_have_title("(1984) Orwell")
    page.evaluate("document.title = '(1985) Burgess'")
    shop.publish("Third")
    expect(page).to_have_title("(1) (1985) Burgess")
    # A cache of pages may show those that were counted last.
    page.evaluate("""async () => {
        for (let n = 0; n < 150; n++) {
            document.title = n % 60 ? `Row ${n}` : "Orders";
            await new Promise((resolve) => setTimeout(resolve));
        }
        for (const title of ["(1) Orders", "(1) Row 70", "(1) Row 149"]) {
            document.title = title;
            await new Promise((resolve) => setTimeout(resolve));
            if (document.title !== title) throw new Error(document.title);
        }
        document.title = "";
    }""")
    expect(page).to_have_title("(1)")
    shop.publish("Fourth")
    expect(page).to_have_title("(2)")


def test_the_icon_has_the_number_and_is_the_pages_own_without_unread_messages(shop: Shop) -> None:
    shop.publish("First")
    page = shop.open(policy="")
    icon = page.locator("link[rel=icon]")
    expect(icon).to_have_attribute("href", "/client/demo/icon.svg")
    wants(page, "notifier-bell", favicon_count="")
    expect(icon).to_have_attribute("href", re.compile("^data:image/png"))
    first = icon.get_attribute("href")
    shop.publish("Second")
    expect(icon).not_to_have_attribute("href", first or "")
    page.evaluate("store.read('all')")
    expect(icon).to_have_attribute("href", "/client/demo/icon.svg")


def test_a_message_sounds_once_the_user_has_clicked(shop: Shop) -> None:
    page = shop.open()
    wants(page, "notifier-toasts", sound="")
    shop.publish("Silent")
    wait_for(lambda: "System: Silent" in toasts(page), what="the toast")
    assert page.evaluate("tones") == []
    page.get_by_role("heading", name="Shop").click()
    shop.publish("Loud")
    wait_for(lambda: page.evaluate("tones.length") == 1, what="the tone")
    wants(page, "notifier-toasts", sound="/ding.mp3")
    page.evaluate("tones.length = 0")
    shop.publish("Own file")
    wait_for(lambda: page.evaluate("tones") == ["/ding.mp3"], what="the file")


def test_a_user_turns_toasts_off_by_kind_and_altogether_and_the_choice_stays(shop: Shop) -> None:
    page = shop.open()
    wants(page, "notifier-toasts", preferences="orders comments")
    page.locator("notifier-bell [part=bell]").click()
    expect(page.get_by_text("Preferences")).to_be_visible()
    page.keyboard.press("Shift+Tab")  # to the panel's end
    page.keyboard.press("Enter")
    page.get_by_role("checkbox", name="orders").uncheck()
    page.keyboard.press("Escape")

    def news(mark: str) -> None:
        shop.publish(f"Order {mark}", data={"kind": "orders"})
        shop.publish(f"Comment {mark}", data={"kind": "comments"})

    news("a")
    wait_for(lambda: toasts(page) == ["System: Comment a"], what="the comment alone")
    page = shop.open()  # the choice is kept on the device
    wants(page, "notifier-toasts", preferences="orders comments")
    page.locator("notifier-bell [part=bell]").click()
    expect(page.get_by_role("dialog").locator("li")).to_have_count(2)  # before the click: it moves what is below
    page.get_by_text("Preferences").click()
    expect(page.get_by_role("checkbox", name="orders")).not_to_be_checked()
    page.get_by_role("checkbox", name="orders").check()
    page.get_by_role("checkbox", name="Pop-ups").uncheck()
    news("b")
    wait_for(lambda: page.evaluate("store.state.messages[0]?.subject") == "Comment b", what="the messages")
    page.get_by_role("checkbox", name="Pop-ups").check()
    news("c")
    wait_for(lambda: toasts(page) == ["System: Order c", "System: Comment c"], what="toasts again")


def test_a_page_decides_which_news_are_shown(shop: Shop) -> None:
    page = shop.open()
    page.evaluate(
        """() => document.addEventListener("notifier:news", (event) => {
          if (event.detail.message?.subject === "No") event.preventDefault();
        })"""
    )
    for subject in ("No", "Yes"):
        shop.publish(subject)
    wait_for(lambda: toasts(page) == ["System: Yes"], what="the other one")


def test_the_toasts_of_a_task_replace_each_other(shop: Shop) -> None:
    page = shop.open()
    task, other = shop.begin("Walk"), shop.begin("Swim")
    wait_for(lambda: sorted(toasts(page)) == ["Swim: Running", "Walk: Running"], what="both")
    shop.change(task, status="succeeded")
    shop.change(other, status="failed", error="No water")
    wait_for(lambda: sorted(toasts(page)) == ["Swim: Failed", "Walk: Done"], what="one for each")


def test_a_fifth_toast_removes_the_oldest_and_is_seen_itself_also_where_the_others_are_errors(shop: Shop) -> None:
    page = shop.open()
    tell = "(widget, [level, subject]) => void widget.show(level, subject, '')"
    for subject in "ABCD":
        page.locator("notifier-toasts").evaluate(tell, ["error", subject])
    page.locator("notifier-toasts").evaluate(tell, ["info", "E"])
    assert sorted(text[0] for text in toasts(page)) == ["B", "C", "D", "E"]


POSITIONS = [
    ("", 1, 2),
    ("top-start", 0, 0),
    ("top", 0, 1),
    ("top-end", 0, 2),
    ("bottom-start", 1, 0),
    ("bottom", 1, 1),
]


def test_the_toasts_are_where_the_page_wants_them(shop: Shop) -> None:
    page = shop.open()
    widget = page.locator("notifier-toasts")
    widget.evaluate("widget => widget.style.setProperty('--notifier-toasts-offset', '60px')")
    for position, top, left in POSITIONS:
        widget.evaluate("(widget, position) => widget.setAttribute('position', position)", position)
        widget.evaluate("widget => widget.show('info', 'Hello')")
        toast = page.locator("[part=toast]")
        box = toast.bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"]
        assert (y < 100, y > 700) == (not top, bool(top)), position
        assert [x < 300, 500 < x < 780, x > 900].index(True) == left, position
        edges = "document.querySelector('notifier-toasts').getBoundingClientRect()"
        assert page.evaluate(f"{edges}.top") >= 60
        assert page.evaluate(f"innerHeight - {edges}.bottom") >= 60
        toast.get_by_role("button", name="Close").click()
        expect(toast).to_have_count(0)


@pytest.mark.parametrize(
    ("theme", "scheme"),
    [
        pytest.param(theme, scheme, marks=[] if number % 2 == is_dark else pytest.mark.full)
        for number, theme in enumerate(THEMES)
        for is_dark, scheme in enumerate(("light", "dark"))
    ],
)
def test_axe_finds_nothing_in_a_theme(shop: Shop, audit: Callable[[Page], None], theme: str, scheme: str) -> None:  # noqa: F811
    task = shop.begin("Quarterly report")
    shop.change(task, done=40, state="Adding them up")
    page = shop.open(policy="", task=task)
    page.add_style_tag(url=f"/client/themes/{theme}.css")
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
    page.evaluate("document.body.style.background = 'Canvas'")
    for level in ("info", "success", "warning", "error"):
        shop.publish(f"Order {level}", text="See you at noon", level=level, url="/a", **{"from": {"name": "Ann"}})
        expect(page.locator("[part=toast]", has_text=f"Order {level}")).to_be_visible()
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.locator("notifier-bell [part=bell]").click()
    expect(page.get_by_role("dialog").locator("li")).to_have_count(4)
    audit(page)
    assert page.locator("notifier-progress [part=track]").evaluate(CONTRAST) >= 3, "WCAG 2.2, 1.4.11"
    shot(page, f"theme-{theme}-{scheme}")


def test_the_base_theme_has_every_property_with_its_default(shop: Shop) -> None:
    base = (REPOSITORY / "client" / "themes" / "base.css").read_text()
    listed = dict(re.findall(r"(--notifier-[\w-]+): (.*?);", base))
    code = "".join(path.read_text() for path in (REPOSITORY / "client" / "widgets").rglob("*.js"))
    used = re.findall(r"var\((--notifier-[\w-]+), ((?:[^()]|\([^()]*\))*)\)", code)
    assert {name for name, _ in used} == set(listed)
    assert {(name, value) for name, value in used} == set(listed.items())
    for theme in THEMES:
        text = (REPOSITORY / "client" / "themes" / f"{theme}.css").read_text()
        assert set(re.findall(r"(--notifier-[\w-]+):", text)) <= set(listed), theme
