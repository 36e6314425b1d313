"""The README's and docs/django.md's examples, pasted into a new Wagtail project, as a reader would do it.

Wagtail is installed into an environment of the test's own: no other test needs it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.pasted import PASSWORD, Document, Project, answers, clean_environment, ended_s
from tests.support import CHROMIUM, REPOSITORY, free_port
from tests.test_readme import FIRST_FILES, OWN_FILES

pytestmark = [pytest.mark.programs, pytest.mark.slow, pytest.mark.full, pytest.mark.timeout(600)]

README = Document("README.md")
DJANGO = Document("docs/django.md")
SETTINGS = "mysite/settings/base.py"
ADMIN = "mysite/templates/wagtailadmin/admin_base.html"


def paste(folder: Path, title: str) -> None:
    name, _, place = title.partition(", ")
    path = folder / (SETTINGS if name == "mysite/settings.py" else name)
    with path.open("a" if place else "w") as file:
        file.write(README.file(title))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project of `wagtail start` with the examples pasted in. It runs at the address in its `env`, `PAGES`."""
    parent = tmp_path_factory.mktemp("wagtail")
    commands = parent / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", commands.parent], check=True)
    subprocess.run([commands / "pip", "install", "--quiet", "wagtail>=7,<9"], check=True)
    (install,) = set(re.findall(r"`(pip install '\.\[server\]')`", README.text))
    environment = clean_environment()
    environment["PATH"] = f"{commands}{os.pathsep}{environment['PATH']}"
    subprocess.run(install, shell=True, env=environment, cwd=REPOSITORY, check=True)
    before_s = ended_s()
    subprocess.run([commands / "wagtail", "start", "mysite"], env=environment, cwd=parent, check=True)
    folder = parent / "mysite"
    assert f"`mysite/settings.py` is `{SETTINGS}`" in README.text
    for title in FIRST_FILES + OWN_FILES:
        paste(folder, title)
    (folder / ADMIN).parent.mkdir()
    (folder / ADMIN).write_text(DJANGO.file(ADMIN))
    migrate, create, serve = README.block("sh", "createsuperuser").splitlines()
    port = free_port()
    environment["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    environment["NOTIFIER_URL"] = f"http://127.0.0.1:{free_port()}"  # 8001 may be taken
    inside = Project(folder, {**environment, "PAGES": f"http://localhost:{port}"}, {})
    inside.run(migrate, timeout_s=300)
    inside.run(f"{create} --noinput --username ann --email ann@example.org")
    inside.commands_s = ended_s() - before_s
    inside.server = process = inside.start(f"exec {serve} --noreload {port}")
    try:
        process.wait_until(lambda: answers(f"{inside.env['PAGES']}/django-admin/login/"), "the project")
        yield inside
    finally:
        process.stop()


@pytest.fixture
def page(project: Project) -> Iterator[Page]:
    """A page of the user ann. An error of a script fails the test."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{project.env['PAGES']}/report/")
        page.fill("input[name=username]", "ann")
        page.fill("input[name=password]", PASSWORD)
        page.click("input[type=submit]")
        expect(page).to_have_url(f"{project.env['PAGES']}/report/")
        yield page
        browser.close()
    assert errors == []


def test_the_first_bar_moves(project: Project, page: Page) -> None:
    page.get_by_role("button", name="Start").click()
    row = page.locator("notifier-tasks li", has_text="Report").first
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile(r"^[1-9]\d?$"))
    assert project.cpu_s() < 60
    expect(row).to_contain_text("Finished", timeout=60_000)


def test_the_page_of_your_own_shows_bar_and_message(project: Project, page: Page) -> None:
    page.goto(f"{project.env['PAGES']}/own/")
    page.wait_for_function("window.notifier?.state === 'live'")
    page.click("#start")
    expect(page.locator("#state")).to_have_text("The report is ready", timeout=60_000)
    expect(page.locator("#inbox li").first).to_have_text("Your report")


def test_wagtails_admin_shows_a_toast(project: Project, page: Page) -> None:
    page.goto(f"{project.env['PAGES']}/admin/")
    page.wait_for_function("window.notifier?.state === 'live'")
    page.evaluate("customElements.get('notifier-toasts').prototype.stay = () => {}")  # it leaves after 6 s by itself
    project.run("python manage.py notifier_send ann --subject Hello")
    toasts = page.locator("notifier-toasts")
    expect(toasts).to_contain_text("Hello")
    toasts.get_by_role("button", name="Close").click()  # nothing of Wagtail's covers it
    expect(toasts).not_to_contain_text("Hello")


def test_neither_checks_nor_collected_files_have_a_warning(project: Project) -> None:
    project.run("python manage.py check --fail-level INFO")
    assert "Found another file" not in project.run("python manage.py collectstatic --noinput --dry-run")
