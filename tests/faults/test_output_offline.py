"""A page without network for seconds, while its task writes: the whole output afterwards, each piece once."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, Witness
from tests.browser.test_output import FAMILY, Reader
from tests.faults.conftest import Scale
from tests.support import CHROMIUM, Service, running


def test_a_page_that_was_offline_for_seconds_shows_the_whole_output(scale: Scale, figure: Callable[..., None]) -> None:
    seconds = scale(0.5, 10)
    with running(Service()) as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        reader = Reader(browser.new_context(), service, Witness(service.url))
        page = reader.open()
        reader.write("online\n")
        reader.shows_all(page)
        reader.context.set_offline(True)
        pieces, until = 0, time.monotonic() + seconds
        while pieces == 0 or time.monotonic() < until:
            reader.write(f"offline {pieces} {FAMILY}\n")
            pieces += 1
            page.wait_for_timeout(20)
        assert "offline" not in page.evaluate("document.querySelector('notifier-output').shadowRoot.textContent")
        reader.context.set_offline(False)
        reader.write("online again\n")
        reader.shows_all(page)
        browser.close()
    figure(seconds=seconds, pieces=pieces)
