"""The widget of CONTRIBUTING.md, run as it stands."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Witness
from tests.browser.test_widgets import Shop
from tests.support import REPOSITORY, Service

CODE = re.findall(r"^```js\n(.*?)^```$", (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_guides_widget_shows_the_number_of_unread_messages(
    context: BrowserContext, service: Service, witness: Witness
) -> None:
    (code,) = CODE
    context.route("**/widgets/count.js", lambda route: route.fulfill(body=code, content_type="text/javascript"))
    shop = Shop(context, service, witness)
    shop.publish("First")
    page = shop.open()
    page.evaluate(
        "import('/client/widgets/count.js').then(() => document.body.append(document.createElement('notifier-count')))"
    )
    count = page.locator("notifier-count [part=count]")
    expect(count).to_have_text("1 unread message")
    page.evaluate("store.read('all')")
    expect(count).to_be_empty()
    assert witness.faults == []
