"""The documentation as a site: it builds without a warning, and its pages load nothing from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, sync_playwright

from tests.pasted import Document
from tests.support import CHROMIUM, REPOSITORY, wait_for
from tools import widget_pictures

pytestmark = pytest.mark.slow

EXAMPLES: dict[str, tuple[str, dict[str, int]]] = {
    "CONTRIBUTING.md": ("tests/test_project.py, tests/browser/test_contributing.py", {"js": 1, "sh": 6}),
    "README.md": ("tests/test_readme.py, tests/test_wagtail.py", {"html": 1, "js": 2, "python": 6, "sh": 7}),
    "deploy/chart/README.md": ("tests/test_deploy_chart.py", {"sh": 3, "yaml": 1}),
    "docs/api.md": ("tests/django/test_api_page.py", {"python": 7}),
    "docs/client.md": (
        "tests/browser/test_recipes.py, tests/browser/test_frameworks.py, tests/browser/test_client_page.py, "
        "tests/browser/test_options.py",
        {"html": 18, "js": 5, "jsx": 1, "vue": 1, "svelte": 1},
    ),
    "docs/deploy.md": ("tests/broker/test_sqlite_file.py, tests/test_deploy_brokers.py", {"conf": 4, "sh": 4}),
    "docs/django.md": (
        "tests/django/test_docs.py, tests/django/test_docs_settings.py, tests/django/test_admin_tasks.py, "
        "tests/django/test_import_export.py, tests/test_wagtail.py",
        {"html": 4, "python": 35, "sh": 6},
    ),
    "docs/hooks.md": ("tests/test_hooks_page.py", {"sh": 2, "yaml": 2}),
    "docs/index.md": ("tests/test_readme.py", {"python": 1}),
    "docs/languages.md": ("tests/test_languages.py", {}),
    "docs/live.md": ("tests/django/test_docs_live.py, tests/js/topics.test.js", {"js": 2, "python": 4}),
    "docs/migrating.md": ("tests/django/test_migrating.py", {"python": 6}),
    "docs/operate.md": ("tests/test_doctor.py, tests/test_deploy_metrics.py, tests/test_load.py", {"sh": 2, "yaml": 1}),
    "docs/performance.md": ("tests/test_bench_pages.py", {"sh": 4}),
    "docs/protocol.md": ("tests/test_readme.py", {"json": 9}),
    "docs/queues.md": ("tests/django/test_docs_queues.py", {"python": 7, "sh": 1}),
    "docs/redis.md": ("tests/test_deploy_brokers.py", {"conf": 1}),
    "docs/scaling.md": ("tests/test_bench_pages.py", {"sh": 1}),
    "docs/tracing.md": ("tests/test_tracing.py", {"sh": 3}),
    "docs/tutorial.md": ("tests/test_tutorial.py", {"html": 2, "python": 5, "sh": 5}),
}
"""Of each page: which test runs its examples, and how many it has of each language."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site. A warning of the build is an error."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return site


class Loads(HTMLParser):
    """The addresses that a page loads by itself: scripts, styles, fonts, images, frames."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") not in ("prev", "next", "canonical", "alternate"):
            self.addresses.append(values.get("href") or "")
        for name in ("src", "srcset", "poster", "data"):
            if tag != "a" and values.get(name):
                self.addresses.append(str(values[name]))


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        foreign = [address for address in Loads(page.read_text()).addresses if re.match(r"(\w+:)?//", address)]
        assert foreign == [], page.name


def test_no_style_loads_anything_from_another_host(site: Path) -> None:
    for sheet in site.rglob("*.css"):
        foreign = re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]*", sheet.read_text())
        assert foreign == [], sheet.name


@pytest.mark.programs
def test_every_page_opens_in_a_browser_without_a_network(site: Path) -> None:
    handler = partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        problems: list[str] = []
        page.on("request", lambda request: None if request.url.startswith(url) else problems.append(request.url))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on("response", lambda response: problems.append(response.url) if response.status >= 400 else None)
        page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        page.route("**", lambda route: route.continue_() if route.request.url.startswith(url) else route.abort())
        for path in sorted(site.glob("*.html")):
            if path.name == "404.html":
                continue
            page.goto(url + path.name, wait_until="networkidle")
            assert page.locator("h1").count() == 1, path.name
            wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wider <= 0, f"{path.name} is {wider} px wider than a telephone"
        page.goto(f"{url}index.html")
        page.get_by_role("button", name="Search").or_(page.locator("label[for=__search]")).first.click()
        wait_for(lambda: found_by_search(page, "heartbeat"), what="results of a search")
        browser.close()
        server.shutdown()
    assert problems == []


def found_by_search(page: Page, word: str) -> int:
    """The number of results. The page hears what is typed only after its index has been loaded."""
    box = page.get_by_role("textbox", name="Search")
    box.fill("")
    box.press_sequentially(word)
    page.wait_for_timeout(300)
    return page.locator(".md-search-result__item a").count()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_every_page_is_in_the_navigation_once() -> None:
    config = (REPOSITORY / "mkdocs.yml").read_text()
    listed = re.findall(r": ([\w-]+\.md)$", config, re.MULTILINE)
    assert len(listed) == len(set(listed))
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.md")}
    assert set(listed) == pages | {"changelog.md", "contributing.md", "security.md"}


def navigation() -> Iterator[str]:
    yield from (name for entry in yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"] for name in entry)


def test_the_navigation_has_tutorial_guides_reference_and_explanation() -> None:
    assert list(navigation()) == ["Overview", "Tutorial", "How-to guides", "Reference", "Explanation", "Project"]


@pytest.mark.parametrize("path", EXAMPLES)
def test_each_example_of_a_page_is_run_by_a_test(path: str) -> None:
    """A new example fails here: run it in the test that is named, then count it."""
    tests, counts = EXAMPLES[path]
    languages = re.findall(r"^```(\w+)$", Document(path).text, re.MULTILINE)
    assert {language: languages.count(language) for language in languages} == counts, f"run it in {tests}"
    for name in tests.split(", "):
        assert (REPOSITORY / name).is_file(), name


def test_the_script_takes_every_picture_of_the_client_page_and_names_every_property() -> None:
    page = (REPOSITORY / "docs" / "client.md").read_text()
    assert set(re.findall(r"\(images/([\w-]+)\.png\)", page)) == widget_pictures.PICTURES
    for name in widget_pictures.PICTURES:
        assert (widget_pictures.FOLDER / f"{name}.png").is_file(), name
    theme = (REPOSITORY / "client" / "themes" / "base.css").read_text()
    labels = [name for name, _ in widget_pictures.LABELS]
    assert sorted(labels) == sorted(re.findall(r"--notifier-([\w-]+):", theme))


def test_pages_without_an_entry_have_no_examples() -> None:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    for path in set(listed.split()) - set(EXAMPLES):
        assert "```" not in (REPOSITORY / path).read_text(), path
