"""Takes docs/images/demo.png, the README's picture, of the real demo: `python -m tools.picture`.

It shows Ann's window, with messages from Bob and two running tasks.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support import REPOSITORY, Service, running

PICTURE = REPOSITORY / "docs" / "images" / "demo.png"
MESSAGES = (
    ("Lunch at one?", "The place by the river has a table for four.", "info"),
    ("Backup finished", "", "success"),
    ("Disk almost full", "Less than a tenth of the archive's volume is free.", "warning"),
)


def main() -> None:
    with running(Service(dev=True)) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take(browser, service.url, PICTURE)
        browser.close()


def take(browser: Browser, url: str, picture: Path) -> None:
    """Play the scene and take the picture."""
    ann, bob = _log_in(browser, url, "Ann"), _log_in(browser, url, "Bob")
    for name, seconds in (("Quarterly report", "14"), ("Import of the price list", "30")):
        ann.fill("#start [name=name]", name)
        ann.locator("#seconds").fill(seconds)
        ann.locator("#start button[type=submit]").click()
        expect(ann.locator("notifier-tasks")).to_contain_text(name)
    for message in MESSAGES[:-1]:
        _send(bob, ann, *message)
    ann.locator("notifier-inbox li", has_text=MESSAGES[0][0]).get_by_role("button", name="Mark as read").click()
    # Wait until the toasts of this are gone, so that only the last one is in the picture.
    expect(ann.locator("[part=toast]")).to_have_count(0, timeout=20_000)
    _send(bob, ann, *MESSAGES[-1])
    expect(ann.locator("[part=toast]")).to_have_count(1)
    ann.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    ann.mouse.move(0, 0)
    picture.parent.mkdir(parents=True, exist_ok=True)
    ann.screenshot(path=picture, animations="disabled")


def _send(sender: Page, to: Page, subject: str, text: str, level: str) -> None:
    sender.locator("#to").select_option("ann")
    sender.fill("#send [name=subject]", subject)
    sender.fill("#send [name=text]", text)
    sender.locator(f"#send [data-level={level}]").click()
    sender.locator("#send button[type=submit]").click()
    expect(to.locator("notifier-inbox")).to_contain_text(subject)


def _log_in(browser: Browser, url: str, name: str) -> Page:
    page = browser.new_context(viewport={"width": 1200, "height": 800}, locale="en-GB", color_scheme="light").new_page()
    page.goto(f"{url}/demo")
    page.get_by_role("button", name=f"Log in as {name}").click()
    expect(page.locator("#state")).to_have_attribute("data-state", "live")
    return page


if __name__ == "__main__":
    main()
