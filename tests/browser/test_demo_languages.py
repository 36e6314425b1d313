"""The demo's menu of languages: every language that is shipped, and the two that are written from right to left."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, overflows, shot
from tests.browser.test_demo import publish, start, task
from tests.support import REPOSITORY, Service

SHIPPED = sorted(path.stem for path in (REPOSITORY / "client" / "i18n").glob("*.js"))


def choose(page: Page, language: str) -> None:
    page.get_by_label("Language of the widgets").select_option(language)


def test_the_menu_has_every_language_that_is_shipped(demo: Open) -> None:
    page = demo("ann")
    options = page.get_by_label("Language of the widgets").locator("option")
    assert sorted(options.evaluate_all("all => all.map(({ value }) => value)")) == SHIPPED


@pytest.mark.parametrize(
    ("language", "messages"), [("ar", "الرسائل"), pytest.param("he", "הודעות", marks=pytest.mark.full)]
)
def test_a_language_from_right_to_left_turns_the_widgets(
    demo: Open, service: Service, language: str, messages: str
) -> None:
    page = demo("ann")
    publish(service, "ann", "Order 7 is paid", text="It leaves today.", level="warning", url="/orders/7")
    publish(service, "ann", "תודה رسالة", **{"from": {"name": "دانا"}})
    name = f"Import {language}"
    start(page, name, 60)
    choose(page, language)
    expect(page.locator("notifier-inbox")).to_contain_text(messages)
    page.locator("notifier-toasts").evaluate("toasts => { toasts.hidden = true; }")  # they lie over the widgets
    page.locator("notifier-bell [part=bell]").click()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
            shot(page, f"demo-{language}-{width}-{scheme}")
        assert overflows(page) == []
    row = page.locator("notifier-inbox li").first
    time, body = row.locator("time").bounding_box(), row.bounding_box()
    assert time is not None
    assert body is not None
    assert time["x"] + time["width"] / 2 < body["x"] + body["width"] / 2, "times are at the end of a line"
    choose(page, "en")
    expect(page.locator("notifier-inbox")).to_contain_text("Messages")
    page.locator("notifier-tasks").get_by_role("button", name=f"Cancel: {name}").click()
    expect(task(page, name)).to_have_class("cancelled")  # not left to the tests that follow
