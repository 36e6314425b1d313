"""Takes the pictures of docs/client.md, one per widget, of the real client: `python -m tools.widget_pictures`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support import REPOSITORY, Service, running, subscriber_token

FOLDER = REPOSITORY / "docs" / "images"
WAYS = (("light", "en", "light"), ("dark", "en", "dark"), ("light", "ru", "ru"))
"""Colour scheme, language, and the suffix of the files' names."""
PAGE = """<!doctype html><html lang="{lang}"><meta name="color-scheme" content="light dark"><title>Picture</title>
<style>
  body {{ margin: 0; background: light-dark(#f5f6f8, #0d1015); }}
  .box {{ position: absolute; padding: 16px; width: 420px; box-sizing: border-box; }}
  .card > * {{ padding: 12px; border-radius: 10px; background: light-dark(#fff, #1c1f26); }}
  #bell {{ left: 0; height: 530px; text-align: end; }}
  #toasts {{ left: 0; top: 570px; height: 380px; transform: translate(0); }}
  #inbox {{ left: 440px; }} #tasks {{ left: 880px; }} #progress {{ left: 880px; top: 420px; }}
</style>
<div class="box" id="bell"><notifier-bell></notifier-bell></div>
<div class="box card" id="inbox"><notifier-inbox></notifier-inbox></div>
<div class="box card" id="tasks"><notifier-tasks></notifier-tasks></div>
<div class="box card" id="progress"><notifier-progress task="{task}"></notifier-progress></div>
<div class="box" id="toasts"><notifier-toasts></notifier-toasts></div>
<script type="module">
  import {{ connect }} from "/client/notifier.js";
  import {{ createStore }} from "/client/store.js";
  import {{ showWidgets }} from "/client/widgets.js";
  import texts from "/client/i18n/{lang}.js";
  window.store = createStore(connect("/", {{ token: "{token}" }}));
  showWidgets(store, {{ texts }});
</script>"""
WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "people": ("Ann", "Boris"),
        "messages": (
            ("Lunch at one?", "The place by the river has a table for four.", "info"),
            ("Backup finished", "", "success"),
            ("Disk almost full", "Less than a tenth of the archive's volume is free.", "warning"),
            ("The import failed", "There is no file prices.csv.", "error"),
        ),
        "tasks": ("Quarterly report", "Import of customers", "Price list"),
        "states": ("Adding them up", "Reading the rows", "The price list is ready"),
    },
    "ru": {
        "people": ("Анна", "Борис"),
        "messages": (
            ("Обед в час?", "В кафе у реки есть столик на четверых.", "info"),
            ("Резервная копия готова", "", "success"),
            ("Диск почти заполнен", "Свободно меньше десятой части тома.", "warning"),
            ("Загрузка не удалась", "Нет файла prices.csv.", "error"),
        ),
        "tasks": ("Квартальный отчёт", "Загрузка клиентов", "Прайс-лист"),
        "states": ("Считаем итоги", "Читаем строки", "Прайс-лист готов"),
    },
}


def main() -> None:
    with running(Service()) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for colours, lang, name in WAYS:
            take(browser, service, colours, lang, name)
        browser.close()


def take(browser: Browser, service: Service, colours: str, lang: str, name: str) -> None:
    """Play the scene in one colour scheme and language, and take a picture of each widget."""
    user, words = f"{colours}-{lang}", WORDS[lang]
    with service.client() as client:

        def call(method: str, path: str, **body: Any) -> Any:
            return client.request(method, path, json=body).raise_for_status().json()

        tasks = [call("POST", "/v1/tasks", to=[f"user:{user}"], name=name, total=100)["id"] for name in words["tasks"]]
        context = browser.new_context(viewport={"width": 1300, "height": 960}, color_scheme=colours)  # type: ignore[arg-type]
        page = context.new_page()
        body = PAGE.format(lang=lang, task=tasks[0], token=subscriber_token(user))
        page.route("**/picture", lambda route: route.fulfill(body=body, content_type="text/html"))
        page.goto(f"{service.url}/picture")
        page.wait_for_function("window.store?.state.loaded")
        page.wait_for_timeout(1500)  # so that the tasks' time left is plausible
        for task, done, state in zip(tasks, (40, 12, 100), words["states"], strict=True):
            call("PATCH", f"/v1/tasks/{task}", done=done, state=state)
        call("PATCH", f"/v1/tasks/{tasks[2]}", status="succeeded")
        expect(page.locator("notifier-tasks li.succeeded")).to_have_count(1)
        page.locator("[part=toast] button").first.click()
        for number, (subject, text, level) in enumerate(words["messages"]):
            sender = {"name": words["people"][number % 2]}
            call(
                "POST", "/v1/messages", to=[f"user:{user}"], subject=subject, text=text, level=level, **{"from": sender}
            )
            expect(page.locator("[part=toast]", has_text=subject)).to_be_visible()
        page.evaluate("store.read(store.state.messages.at(-1).id)")
        page.locator("notifier-bell button").first.click()
        expect(page.locator("notifier-inbox li.unread")).to_have_count(3)
        _pictures(page, name)
        context.close()


def _pictures(page: Page, name: str) -> None:
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(640, 940)
    for widget in ("bell", "toasts", "tasks", *(("inbox", "progress") if name != "ru" else ())):
        path: Path = FOLDER / f"{widget}-{name}.png"
        page.locator(f"#{widget}").screenshot(path=path, animations="disabled")


if __name__ == "__main__":
    main()
