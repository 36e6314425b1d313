"""The eyes: lengths, edges, sizes of targets, and the user's own colours."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import overflows, shot
from tests.browser.test_options import wants
from tests.browser.test_widgets import Shop, watched_shop  # noqa: F401  # a fixture

LONG = "Wolfgang Amadeus Theophilus Mozart of the accounting department "
LEAST_TARGET_PX = 24
"""Success criterion 2.5.8 of WCAG 2.2."""
COLOURS = {
    "light": {"color_scheme": "light", "forced_colors": "none"},
    "dark": {"color_scheme": "dark", "forced_colors": "none"},
    "forced": {"color_scheme": "light", "forced_colors": "active"},
}


def small_targets(page: Page) -> list[str]:
    """Buttons, links and fields that are smaller than a finger; the link of a row has the row's size."""
    targets: list[str] = page.evaluate(
        """least => [...document.querySelectorAll("*")].flatMap(({ shadowRoot }) => shadowRoot
          ? [...shadowRoot.querySelectorAll("button, a:not([part=subject] a), input:not(label input), label, summary")]
          : [])
          .filter((target) => target.checkVisibility())
          .filter((target) => Math.min(target.offsetWidth, target.offsetHeight) < least)
          .map((target) => target.outerHTML)""",
        LEAST_TARGET_PX,
    )
    return targets


@pytest.mark.parametrize(
    ("browser", "direction"),
    [
        ("chromium", "ltr"),
        ("chromium", "rtl"),
        pytest.param("firefox", "ltr", marks=pytest.mark.full),
        ("firefox", "rtl"),
    ],
    indirect=["browser"],
)
def test_figures_end_with_their_bar_and_every_target_fits_a_finger(shop: Shop, direction: str) -> None:
    task, ended = shop.begin("Walk"), shop.begin("Price list")
    page = shop.open(task=task, lang="ar" if direction == "rtl" else "en", direction=direction)
    wants(page, "notifier-toasts", preferences="orders")
    shop.change(task, done=50)
    shop.change(ended, status="succeeded", url="/list", url_text="Open the list")
    shop.publish("Hello", text="See you", url="/hello")
    expect(page.locator("notifier-tasks a")).to_be_visible()
    expect(page.locator("[part=toast] a")).to_have_count(2)
    for place in ("notifier-tasks li.running", "notifier-progress"):
        far = page.locator(f"{place} [part=percent]")
        expect(far).to_contain_text("50")
        track = page.locator(f"{place} [part=track]").bounding_box()
        box = far.bounding_box()
        assert track
        assert box
        edge = track["x"] if direction == "rtl" else track["x"] + track["width"]
        assert abs(edge - (box["x"] if direction == "rtl" else box["x"] + box["width"])) < 1, place
    page.locator("notifier-bell [part=bell]").click()
    expect(page.get_by_role("dialog").locator("li")).to_have_count(1)
    page.locator("notifier-bell summary").click()
    expect(page.locator("notifier-bell label").last).to_be_visible()
    assert small_targets(page) == []


def test_long_toasts_and_names_of_tasks_end_with_an_ellipsis(shop: Shop) -> None:
    shop.begin((LONG * 3).strip())
    page = shop.open()
    page.set_viewport_size({"width": 320, "height": 800})
    for number in range(4):
        shop.publish(f"{number} {LONG}", text=LONG * 6, **{"from": {"name": LONG.strip()}})
        expect(page.locator("[part=toast]", has_text=f"{number} {LONG[:8]}")).to_be_visible()
    toast = page.locator("[part=toast]").first
    for part, lines in ((toast.locator("[part=title]"), 3), (toast.locator("[part=text]"), 4)):
        assert part.evaluate("part => getComputedStyle(part).webkitLineClamp") == str(lines)
        assert part.evaluate("part => part.scrollHeight > part.clientHeight")
    region = page.locator("notifier-toasts").bounding_box()
    assert region
    assert region["y"] > 0, "four toasts are higher than the window"
    name = page.locator("notifier-tasks [part=name]")
    assert name.evaluate("name => name.offsetHeight < 3 * parseFloat(getComputedStyle(name).lineHeight)")
    expect(name).to_have_attribute("title", (LONG * 3).strip())


def test_a_message_of_the_page_is_shown_as_a_whole(shop: Shop) -> None:
    page = shop.open()
    page.evaluate("text => document.querySelector('notifier-toasts').show('info', text)", LONG * 6)
    title = page.locator("[part=toast] [part=title]")
    expect(title).to_be_visible()
    assert title.evaluate("title => getComputedStyle(title).webkitLineClamp") == "none"


def test_forced_colours_are_the_users_own(shop: Shop) -> None:
    task = shop.begin("Walk")
    shop.change(task, done=50)
    shop.change(task, status="failed", error="Rain")
    shop.publish("Hello", level="error")
    page = shop.open()
    page.emulate_media(forced_colors="active")
    page.locator("notifier-bell [part=bell]").click()
    expect(page.get_by_role("dialog").locator("li")).to_have_count(1)

    def colour(selector: str, name: str) -> str:
        value: str = page.locator(selector).first.evaluate("(element, name) => getComputedStyle(element)[name]", name)
        return value

    def system(name: str) -> str:
        """A colour of the user, as the browser gives it."""
        page.evaluate("name => (document.body.style.color = name)", name)
        return colour("body", "color")

    assert colour("notifier-tasks li.failed [part=fill]", "backgroundColor") == system("Highlight")
    assert colour("notifier-bell [aria-pressed=true]", "color") == system("SelectedItemText")
    assert colour("notifier-bell li svg.level", "color") == system("CanvasText")


def test_cancelled_bars_have_a_colour_of_their_own_and_waiting_tasks_do_not_run(shop: Shop) -> None:
    running, waiting, ended = shop.begin("Walk"), shop.begin("Wait"), shop.begin("Stop")
    shop.change(waiting, status="pending")
    question = {"text": "Go?", "choices": [{"value": "yes", "text": "Yes"}]}
    shop._call("POST", f"/v1/tasks/{shop.begin('Ask')}/question", question)
    shop.change(shop.begin("Fall"), status="failed", done=40, error="Rain")
    shop.change(shop.begin("Win"), status="succeeded")
    shop.change(running, done=40)
    with shop.service.user(shop.user) as user:
        user.post(f"/v1/tasks/{ended}/cancel").raise_for_status()
    shop.change(ended, done=40, status="cancelled")
    page = shop.open(task=waiting)
    overall = page.get_by_role("progressbar", name="1 task is running")
    expect(overall).to_have_attribute("aria-valuenow", "40")
    expect(page.locator("notifier-tasks li.waiting")).to_contain_text("Go?")
    expect(page.locator("notifier-tasks li.pending [role=progressbar]")).to_have_attribute("aria-valuenow", "0")
    colours = {
        name: page.locator(f"notifier-tasks li.{name} [part=fill]").evaluate(
            "fill => getComputedStyle(fill).backgroundColor"
        )
        for name in ("running", "cancelled", "failed", "succeeded")
    }
    assert len(set(colours.values())) == 4, colours


WORDS = {
    "en": (
        "Price list of the winter season",
        "Download the complete price list...",
        "Ann of the accounting department",
    ),
    "ru": ("Прайс-лист зимнего сезона", "Скачать полный прайс-лист в Excel...", "Анна из отдела бухгалтерского учёта"),
    "ar": ("قائمة أسعار موسم الشتاء", "تنزيل قائمة الأسعار الكاملة للموسم", "آن من قسم المحاسبة والشؤون المالية"),
}
"""A task, the text of a link and a sender."""


@pytest.mark.slow
@pytest.mark.parametrize("lang", WORDS)
def test_nothing_overflows_in_any_width_or_colours(shop: Shop, lang: str) -> None:
    name, link, sender = WORDS[lang]
    ended, running, cancelled, waiting = (shop.begin(name) for _ in range(4))
    shop.change(ended, status="succeeded", url="/list", url_text=link, state=name)
    shop.change(running, done=40, state=name)
    shop.change(cancelled, status="cancelled", done=60)
    shop.change(waiting, status="pending")
    for level in ("info", "success", "warning"):
        shop.publish(name, text=f"{name}. " * 5, url="/a", level=level, **{"from": {"name": sender}})
    page = shop.open(lang=lang, direction="rtl" if lang == "ar" else "ltr", task=ended)
    shop.publish(name, text=f"{name}. " * 5, level="error", url="/list", **{"from": {"name": sender}})
    shop.change(shop.begin(name), status="failed", error=name)
    expect(page.locator("[part=toast]")).to_have_count(2)
    expect(page.locator("notifier-tasks a")).to_have_text(link)
    page.locator("notifier-bell [part=bell]").click()
    panel = page.get_by_role("dialog")
    expect(panel.locator("li")).to_have_count(4)
    page.emulate_media(reduced_motion="reduce")
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for colours, media in COLOURS.items():
            page.emulate_media(**media)  # type: ignore[arg-type]  # names and values are playwright's
            shot(page, f"look-{lang}-{width}-{colours}-panel")
            assert overflows(page) == [], colours
        page.keyboard.press("Escape")
        shot(page, f"look-{lang}-{width}")
        assert overflows(page) == []
        page.locator("notifier-bell [part=bell]").click()
        expect(panel).to_be_visible()
