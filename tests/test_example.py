"""The example with a real service, Redis, Celery worker, web server and browser."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from playwright.sync_api import Browser, Page, StorageState, expect, sync_playwright

from tests.axe import FINDINGS, axe
from tests.support import API_KEY, CHROMIUM, JWT_SECRET, REPOSITORY, Process, RedisServer, Service, free_port, running

pytestmark = pytest.mark.timeout(300)
PROJECT = REPOSITORY / "examples" / "django_project"
OUTPUT = REPOSITORY / "tests" / "output"
MIDDLE = re.compile(r"^[1-6]\d%")
"""A job that has begun and has time left."""
PREPARE = """
import django
from django.core.management import call_command

django.setup()
call_command("check")
call_command("makemigrations", check=True)
call_command("migrate")
for _ in range(2):
    call_command("demo_users")
"""


@dataclass(frozen=True)
class Shop:
    url: str
    web: Process
    worker: Process
    logins: dict[str, StorageState]
    """The cookies of a user who has logged in."""


@pytest.fixture(scope="module")
def shop(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    port = free_port()
    url = f"http://localhost:{port}"
    with (
        running(Service(redis_url=redis_server.url, env={"NOTIFIER_CORS_ORIGINS": url})) as service,
        contextlib.ExitStack() as stack,
    ):
        folder = tmp_path_factory.mktemp("shop")
        env = {
            "DJANGO_SETTINGS_MODULE": "shop.settings",  # other tests of this run set another one
            "NOTIFIER_URL": service.url,
            "NOTIFIER_API_KEY": API_KEY,
            "NOTIFIER_JWT_SECRET": JWT_SECRET,
            "REDIS_URL": redis_server.url[:-1] + "1",
            "SHOP_DATABASE": str(folder / "shop.sqlite3"),
            "SHOP_JOB_SECONDS": "25",  # a page loads again in the middle of it
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PREPARE],
            cwd=PROJECT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        web = Process(
            [sys.executable, "-W", "error", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"],
            cwd=PROJECT,
            env=env,
        )
        stack.callback(web.stop)
        celery = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--loglevel", "info", "--concurrency", "1"]
        worker = Process(celery, cwd=PROJECT, env=env)
        stack.callback(worker.stop)

        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{url}/login/").status_code == 200
            return False

        web.wait_until(answers, "the web server", timeout_s=120)
        worker.wait_until(lambda: " ready." in worker.output(), "the Celery worker", timeout_s=120)
        yield Shop(url, web, worker, {})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def logged_in(browser: Browser, shop: Shop, user: str, locale: str = "en-GB", fails: str = "") -> Iterator[Page]:
    """A separate window for this user. An error in the page's console fails the test, unless it begins with `fails`."""
    context = browser.new_context(
        viewport={"width": 1100, "height": 720}, locale=locale, storage_state=shop.logins.get(user)
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(shop.url)
    if user not in shop.logins:
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", "demo")
        page.get_by_role("button", name="Log in").click()
    expect(page.locator("#state")).to_have_text("live")
    shop.logins.setdefault(user, context.storage_state())
    yield page
    assert [error for error in errors if not fails or not error.startswith(fails)] == []
    context.close()


def test_jobs_reach_100_percent_and_messages_reach_the_other_user(browser: Browser, shop: Shop) -> None:
    OUTPUT.mkdir(exist_ok=True)
    with logged_in(browser, shop, "ann") as ann, logged_in(browser, shop, "bob") as bob:
        bob.fill("input[name=subject]", "Are the <b>mugs</b> in?")
        bob.fill("textarea", "A customer asks for twenty of them.")
        bob.get_by_role("button", name="Send").click()
        expect(bob.locator("[part=toast]")).to_contain_text("Sent to Ann")
        message = ann.locator("notifier-inbox li", has_text="mugs")
        expect(message.locator("[part=subject]")).to_have_text("Are the <b>mugs</b> in?")
        expect(ann.locator("[part=toast]")).to_contain_text("Are the <b>mugs</b> in?")
        expect(ann.locator("notifier-bell [part=badge]")).to_have_text("1")

        ann.click("#celery")
        ann.click("#thread")
        recount = ann.locator("notifier-tasks li", has_text="Recount the stock")
        prices = ann.locator("notifier-tasks li", has_text="Write the price list")
        expect(recount.locator("[part=percent]")).to_have_text(MIDDLE)
        ann.screenshot(path=OUTPUT / "example-running.png")
        ann.reload()
        expect(recount).to_have_class("running")
        for task in (recount, prices):
            expect(task).to_have_class("succeeded", timeout=90_000)
            expect(task.locator("[part=percent]")).to_have_text("100%")
            assert task.locator("[part=fill]").evaluate("bar => bar.style.width") == "100%"
        expect(prices).to_contain_text("The price list is ready")
        href = prices.get_by_role("link", name="Download").get_attribute("href")
        assert ann.request.get(urljoin(shop.url, href or "")).text().startswith("Black basket,")
        expect(ann.locator("notifier-inbox [part=subject]").first).to_have_text("The stock is recounted")
        expect(ann.locator("notifier-inbox li")).to_have_count(2)
        ann.screenshot(path=OUTPUT / "example-done.png")
        assert bob.locator("notifier-tasks li").count() == 0

        message.get_by_role("button", name="Mark as read").click()
        expect(ann.locator("notifier-bell [part=badge]")).to_have_text("1")
        ann.locator("notifier-inbox").get_by_role("button", name="Mark all read").click()
        expect(ann.locator("notifier-bell [part=badge]")).to_be_hidden()


def test_a_job_in_the_worker_and_one_in_a_thread_can_be_cancelled(browser: Browser, shop: Shop) -> None:
    with logged_in(browser, shop, "bob") as bob:
        for button in ("#celery", "#thread"):
            bob.click(button)
            task = bob.locator("notifier-tasks li").first
            expect(task.locator("[part=percent]")).to_have_text(MIDDLE)
            task.get_by_role("button", name="Cancel").click()
            expect(task).to_have_class("cancelled")
            expect(task).to_contain_text("Stopped on your request")
            task.get_by_role("button", name="Dismiss").click()
            expect(bob.locator("notifier-tasks li")).to_have_count(0)


COLUMNS = """() => Object.fromEntries([...document.querySelectorAll("#orders section")].map(
    (column) => [column.ariaLabel, column.querySelectorAll(".order").length]))"""
"""How many orders each column of the board has."""


def test_an_order_that_the_staff_moves_is_moved_on_its_customers_page(browser: Browser, shop: Shop) -> None:
    OUTPUT.mkdir(exist_ok=True)
    with logged_in(browser, shop, "ann") as ann, logged_in(browser, shop, "bob") as bob:
        expect(ann.locator("notifier-presence")).to_contain_text("Bob")
        expect(bob.locator("notifier-presence")).to_contain_text("Ann")
        expect(ann.locator(".order")).to_have_count(10)
        expect(bob.locator(".order")).to_have_count(5)
        expect(bob.locator(".step")).to_have_count(0)
        before = ann.evaluate(COLUMNS)
        for button, column in (("Pack order 1001", "Packed"), ("Send order 1001", "Sent")):
            ann.get_by_role("button", name=button).press("Enter")
            for page in (ann, bob):
                expect(page.get_by_role("region", name=column).locator("#order-1001")).to_be_visible(timeout=15_000)
            ann.keyboard.press("Enter")  # again: the focus must not be on the button of another order
        expect(bob.locator(".order")).to_have_count(5)
        # A new order is on no page yet: the list is live, too.
        bob.get_by_label("Pieces").fill("7")
        expect(ann.locator("notifier-presence")).to_contain_text("Bob is editing")
        bob.get_by_role("button", name="Order", exact=True).press("Enter")
        expect(ann.locator(".order")).to_have_count(11)
        expect(bob.locator(".order")).to_have_count(6)
        expect(ann.locator(".order", has_text="7 ×")).to_contain_text("No. 1011")
        expect(ann.locator("notifier-presence")).to_contain_text("Also here: Bob")
        moved = {name: count - before[name] for name, count in ann.evaluate(COLUMNS).items() if count != before[name]}
        assert moved == {"Sent": 1}  # from the column that has got the new one
        for page in (ann, bob):
            page.evaluate(axe())
        for scheme in ("light", "dark"):
            for page in (ann, bob):
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(FINDINGS) == []
            for width in (390, 1280):
                ann.set_viewport_size({"width": width, "height": 900})
                assert ann.evaluate("document.documentElement.scrollWidth <= innerWidth")
                ann.screenshot(path=OUTPUT / f"example-board-{scheme}-{width}.png")


def test_a_form_that_fails_says_why_and_keeps_what_was_typed(browser: Browser, shop: Shop) -> None:
    with logged_in(browser, shop, "bob", fails="Failed to load resource") as bob:
        pieces = bob.get_by_label("Pieces")
        bob.evaluate("() => document.querySelectorAll('form').forEach((form) => (form.noValidate = true))")
        pieces.fill("-1")
        bob.get_by_role("button", name="Order", exact=True).press("Enter")
        expect(bob.locator("[part=toast]", has_text="The service has a problem.")).to_be_visible()
        bob.context.set_offline(True)
        bob.get_by_role("button", name="Order", exact=True).press("Enter")
        expect(bob.locator("[part=toast]", has_text="The service cannot be reached.")).to_be_visible()
        bob.context.set_offline(False)
        expect(pieces).to_have_value("-1")
        bob.context.clear_cookies(name="shop_session")
        bob.get_by_role("button", name="Order", exact=True).press("Enter")
        expect(bob.locator("[part=toast]", has_text="Signed out")).to_be_visible()


def test_the_widgets_speak_the_users_language(browser: Browser, shop: Shop) -> None:
    with logged_in(browser, shop, "bob", locale="ru-RU") as bob:
        expect(bob.locator("notifier-inbox").get_by_role("heading")).to_have_text("Сообщения")
        bob.screenshot(path=OUTPUT / "example-russian.png")


def test_the_worker_and_the_web_server_have_nothing_to_complain_about(shop: Shop) -> None:
    for process in (shop.web, shop.worker):
        assert "Traceback" not in process.output()


def test_the_login_page_looks_as_it_should(browser: Browser, shop: Shop) -> None:
    OUTPUT.mkdir(exist_ok=True)
    page = browser.new_page(viewport={"width": 1100, "height": 720})
    page.goto(shop.url)
    page.fill("input[name=username]", "ann")
    page.fill("input[name=password]", "wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.screenshot(path=OUTPUT / "example-login.png")
    page.close()


def test_its_readme_names_the_files_there_are() -> None:
    readme = (PROJECT / "README.md").read_text()
    for line in readme.splitlines():
        if line.startswith("| `shop/"):
            assert (PROJECT / line.split("`")[1]).is_file(), line
    assert Path(PROJECT / "manage.py").stat().st_mode & 0o111
