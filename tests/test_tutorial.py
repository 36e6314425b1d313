"""docs/tutorial.md, followed from the first step to the last as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.pasted import PASSWORD, Document, Shell, answers, clean_environment
from tests.support import CHROMIUM, free_port

pytestmark = [pytest.mark.programs, pytest.mark.timeout(300)]

TUTORIAL = Document("docs/tutorial.md")


@dataclass
class Site:
    """The tutorial's project, running."""

    shell: Shell
    url: str


def paste(folder: Path, shell: Shell, title: str) -> None:
    """Write a block into the file that it names, or append it where the title says "at the end"."""
    name, _, place = title.partition(", ")
    with (folder / name).open("a" if place else "w") as file:
        file.write(shell.here(TUTORIAL.file(title)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Steps 1 to 5, except that the packages are those of this environment."""
    install = TUTORIAL.block("sh", "git clone")
    assert "pip install django './notifier[server]'" in install
    port, service_port = free_port(), free_port()
    url = f"http://localhost:{port}"
    addresses = {"http://127.0.0.1:8001": f"http://127.0.0.1:{service_port}", "http://localhost:8000": url}
    addresses["time.sleep(0.05)  # the work"] = "time.sleep(0.2)  # longer than a page needs on a busy machine"
    parent = Shell(tmp_path_factory.mktemp("tutorial"), clean_environment(), addresses)
    parent.run(TUTORIAL.block("sh", "django-admin startproject"))
    folder = parent.folder / "mysite"
    titles = re.findall(r"^(?:#|<!--) (mysite/\S+?(?:, at the end)?)(?: -->)?$", TUTORIAL.text, re.MULTILINE)
    assert len(titles) == 7
    for title in titles:
        paste(folder, parent, title)
    shell = Shell(folder, {**parent.env, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}, addresses)
    migrate, create, serve = TUTORIAL.block("sh", "createsuperuser").splitlines()
    shell.run(migrate)
    shell.run(f"{create} --noinput")
    assert serve == "python manage.py notifier"
    process = shell.start(f"exec {serve} --noreload {port}")
    try:
        process.wait_until(lambda: answers(f"{url}/admin/login/"), "the project")
        yield Site(shell, url)
    finally:
        process.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """The page of the user ann, logged in and connected. An error on its console fails the test."""
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site.url)
    page.fill("input[name=username]", "ann")
    page.fill("input[name=password]", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_function("window.notifier?.state === 'live'")
    yield page
    context.close()
    assert errors == []


def test_a_message_pops_up_and_the_bell_counts_it_also_after_an_absence(page: Page, site: Site) -> None:
    send = TUTORIAL.block("sh", "notifier_send")
    site.shell.run(send)
    expect(page.locator("notifier-toasts [part=toast]")).to_contain_text("Hello")
    expect(page.get_by_role("button", name="Messages. 1 unread message")).to_be_visible()
    page.goto("about:blank")
    site.shell.run(send)
    page.goto(site.url)
    expect(page.get_by_role("button", name="Messages. 2 unread messages")).to_be_visible()


def test_the_bar_moves_in_two_tabs_and_a_message_comes_at_the_end(page: Page, site: Site) -> None:
    other = page.context.new_page()
    other.goto(site.url)
    page.click("#start")
    for tab in (page, other):
        expect(tab.locator("notifier-tasks li").first).to_contain_text("Collecting")
    expect(page.locator("notifier-toasts")).to_contain_text("Your report", timeout=60_000)
    for tab in (page, other):
        expect(tab.locator("notifier-tasks li").first).to_contain_text("The report is ready")


def test_a_cancel_stops_the_loop(page: Page, site: Site) -> None:
    page.click("#start")
    row = page.locator("notifier-tasks li", has_text="Collecting")
    row.get_by_role("button", name=re.compile("Cancel")).click()
    expect(page.locator("notifier-tasks li").first).to_contain_text("Stopped")


def test_the_test_passes(site: Site) -> None:
    site.shell.run(TUTORIAL.block("sh", "manage.py test"))


def test_no_example_was_left_out() -> None:
    assert TUTORIAL.left_out() == []
