"""Takes the pictures of docs/client.md, one per widget, of the real client: `python -m tools.widget_pictures`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from notifier.auth import topic_grant
from tests.support import JWT_SECRET, REPOSITORY, Service, running, subscriber_token

LABELS = (
    ("accent", "notifier-bell [part=filter] [aria-pressed=true]"),
    ("surface", "notifier-bell [part=extras]"),
    ("muted", "notifier-bell li:nth-child(2) time"),
    ("text", "notifier-bell li:nth-child(3) [part=subject]"),
    ("line", "notifier-bell li:nth-child(4)"),
    ("gap", "notifier-bell li:nth-child(4) time"),
    ("font", "notifier-bell [part=text]"),
    ("shadow", "notifier-bell [part=panel]"),
    ("error", "notifier-toasts .error [part=title]"),
    ("warning", "notifier-toasts .warning [part=title]"),
    ("success", "notifier-toasts .success [part=title]"),
    ("radius", "notifier-toasts .info"),
    ("toasts-offset", "notifier-toasts [role=region]"),
    ("z", "notifier-bell .line button"),
    ("output-height", "notifier-output [part=text]"),
)
"""The custom properties, and where a picture shows each."""
LABEL_CSS = """
  .label { position: absolute; z-index: 2000; padding: 0 6px; border-radius: 4px; background: #1b1e24; color: #fff;
    font: 600 11px/18px monospace; translate: 0 -50%; }
  .label::before { content: ""; position: absolute; inset: 8px 100% auto auto; width: var(--reach);
    border-top: 1px solid #1b1e24; }
  #inbox, #tasks, #progress { visibility: hidden; }"""
OUTPUT = "\n".join(f"{number:>6,} rows read" for number in range(1000, 20_000, 1000))
QUESTION = {
    "text": "Prices of 12 articles are known already. Overwrite them?",
    "choices": [{"value": "yes", "text": "Overwrite"}, {"value": "no", "text": "Leave them"}],
}
THEMES = ("warm", "contrast", "compact")
FOLDER = REPOSITORY / "docs" / "images"
WAYS = (("light", "en", "light"), ("dark", "en", "dark"), ("light", "ru", "ru"))
"""Colour scheme, language, and the suffix of the files' names."""
RUSSIAN = ("bell", "toasts", "tasks")
WIDGETS = (*RUSSIAN, "inbox", "progress", "output", "presence")
PICTURES = {
    *(f"{widget}-{name}" for _, lang, name in WAYS for widget in (WIDGETS if lang == "en" else RUSSIAN)),
    *(f"theme-{theme}" for theme in THEMES),
    "theme-properties",
    "question-light",
    "question-dark",
}
"""The files' names."""
PAGE = """<!doctype html><html lang="{lang}"><meta name="color-scheme" content="light dark"><title>Picture</title>
<style>
  body {{ margin: 0; background: light-dark(#f5f6f8, #0d1015); }}
  .box {{ position: absolute; padding: 16px; width: 420px; box-sizing: border-box; }}
  .card > * {{ padding: 12px; border-radius: 10px; background: light-dark(#fff, #1c1f26); }}
  #bell {{ left: 0; height: 530px; text-align: end; }}
  notifier-output {{ --notifier-output-height: 7rem; }}
  #toasts {{ left: 0; top: 570px; height: 380px; transform: translate(0); }}
  #inbox {{ left: 440px; }} #tasks {{ left: 880px; }} #progress {{ left: 880px; top: 420px; }}
  #output {{ left: 0; top: 970px; }} #presence {{ left: 880px; top: 530px; }} #question {{ left: 880px; top: 680px; }}
</style>
<div class="box" id="bell"><notifier-bell></notifier-bell></div>
<div class="box card" id="inbox"><notifier-inbox></notifier-inbox></div>
<div class="box card" id="tasks"><notifier-tasks></notifier-tasks></div>
<div class="box card" id="progress"><notifier-progress task="{task}"></notifier-progress></div>
<div class="box card" id="output"><notifier-output task="{task}"></notifier-output></div>
<div class="box card" id="presence"><notifier-presence></notifier-presence></div>
<div class="box" id="toasts"><notifier-toasts></notifier-toasts></div>
<script type="module">
  import {{ connect }} from "/client/notifier.js";
  import {{ createStore }} from "/client/store.js";
  import {{ showWidgets }} from "/client/widgets.js";
  import "/client/widgets/output.js";
  import "/client/widgets/presence.js";
  import texts from "/client/i18n/{lang}.js";
  window.store = createStore(connect("/", {{ token: "{token}" }}));
  showWidgets(store, {{ texts }});
  const [own, ...others] = {people};
  const join = ({{ token, grant }}) => connect("/", {{ token, shared: false }}).topic(grant);
  for (const other of others) (await join(other)).presence(() => {{}});
  document.querySelector("notifier-presence").show(await join(own));
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
        context = browser.new_context(viewport={"width": 1300, "height": 1150}, color_scheme=colours)  # type: ignore[arg-type]
        page = context.new_page()
        people = [_person(f"{user}-{n}", name) for n, name in enumerate(("Cleo", *words["people"]))]
        body = PAGE.format(lang=lang, task=tasks[0], token=subscriber_token(user), people=json.dumps(people))
        page.route("**/picture", lambda route: route.fulfill(body=body, content_type="text/html"))
        page.goto(f"{service.url}/picture")
        page.wait_for_function("window.store?.state.loaded")
        call("POST", f"/v1/tasks/{tasks[0]}/output", text=OUTPUT)
        expect(page.locator("notifier-output [part=text]")).to_contain_text("19,000")
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
        expect(page.locator("notifier-presence li")).to_have_count(2)
        page.evaluate("store.read(store.state.messages.at(-1).id)")
        page.locator("notifier-bell button").first.click()
        expect(page.locator("notifier-inbox li.unread")).to_have_count(3)
        _pictures(page, name)
        if name == "light":
            _themes(page)
            _properties(page)
        if lang == "en":
            asks = call("POST", "/v1/tasks", to=[f"user:{user}"], name="Import of prices", total=100)["id"]
            call("POST", f"/v1/tasks/{asks}/question", **QUESTION)
            _question(page, asks, name)
        context.close()


def _person(user: str, name: str) -> dict[str, str]:
    """The tokens of a person who has an order open."""
    grant = topic_grant(JWT_SECRET, user, ["order:7"], presence=True, name=name)
    return {"token": subscriber_token(user), "grant": grant}


def _pictures(page: Page, name: str) -> None:
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(640, 1140)
    for widget in RUSSIAN if name == "ru" else WIDGETS:
        path: Path = FOLDER / f"{widget}-{name}.png"
        page.locator(f"#{widget}").screenshot(path=path, animations="disabled")


def _question(page: Page, task: str, name: str) -> None:
    page.evaluate(
        """task => {
          const box = document.createElement("div");
          box.id = "question";
          box.className = "box card";
          const bar = document.createElement("notifier-progress");
          bar.setAttribute("task", task);
          box.append(bar);
          document.body.append(box);
        }""",
        task,
    )
    expect(page.locator("#question [part=question] button")).to_have_count(2)
    page.locator("#question").screenshot(path=FOLDER / f"question-{name}.png", animations="disabled")


def _themes(page: Page) -> None:
    for theme in THEMES:
        style = page.add_style_tag(url=f"/client/themes/{theme}.css")
        page.locator("#bell").screenshot(path=FOLDER / f"theme-{theme}.png", animations="disabled")
        style.evaluate("style => style.remove()")


def _properties(page: Page) -> None:
    """A picture of bell and toasts, with the name of each property where it shows."""
    labels: list[tuple[str, float, float]] = []
    for name, selector in LABELS:
        box = page.locator(selector).first.bounding_box()
        assert box, selector
        labels.append(
            (name, box["x"] + box["width"], box["y"] + box["height"] * (1 if name == "toasts-offset" else 0.5))
        )
    page.add_style_tag(content=LABEL_CSS)
    page.evaluate(
        """labels => {
          let last = 0;
          for (const [name, x, y] of labels.toSorted((a, b) => a[2] - b[2])) {
            const label = document.createElement("span");
            last = Math.max(y, last + 20);
            label.className = "label";
            label.textContent = `--notifier-${name}`;
            label.style.cssText = `left: 450px; top: ${last}px; --reach: ${450 - x}px`;
            document.body.append(label);
          }
        }""",
        labels,
    )
    page.screenshot(
        path=FOLDER / "theme-properties.png", clip={"x": 0, "y": 0, "width": 640, "height": 1150}, animations="disabled"
    )


if __name__ == "__main__":
    main()
