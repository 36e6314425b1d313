"""The recipes of docs/client.md, as they stand there, with the real packages; htmx pages that swap all they have."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import Witness
from tests.support import REPOSITORY, Service, subscriber_token, wait_for

MODULES = REPOSITORY / "node_modules"
GUIDE = (REPOSITORY / "docs" / "client.md").read_text()
HTMX = {"htmx 2": "htmx2", "htmx 4": "htmx.org"}


class Site:
    """A page of a user's that a test makes up, on the service's origin."""

    def __init__(self, context: BrowserContext, service: Service) -> None:
        self.context = context
        self.service = service
        self.user = f"r{uuid.uuid4().hex[:8]}"
        self.witness = Witness(service.url)

    def serve(self, path: str, body: str, content_type: str = "text/html") -> None:
        self.context.route(
            f"{self.service.url}{path}", lambda route: route.fulfill(body=body, content_type=content_type)
        )

    def open(self, path: str) -> Page:
        page = self.context.new_page()
        self.witness.watch(page)
        page.goto(f"{self.service.url}{path}")
        return page

    def publish(self, subject: str) -> None:
        with self.service.client() as client:
            client.post("/v1/messages", json={"to": [f"user:{self.user}"], "subject": subject}).raise_for_status()

    def unread(self) -> int:
        with self.service.user(self.user) as client:
            return int(client.get("/v1/inbox/unread").json()["unread"])

    @property
    def streams(self) -> int:
        return sum(url.endswith("/v1/stream") for url in self.witness.requests)


@pytest.fixture
def site(context: BrowserContext, service: Service) -> Iterator[Site]:
    opened = Site(context, service)
    opened.serve("/favicon.ico", "")
    yield opened
    assert opened.witness.faults == []


def recipe(heading: str, language: str) -> str:
    """The code of one recipe."""
    part = GUIDE.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    block = re.search(rf"^```{language}\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)
    assert block, f"{heading} has no {language}"
    return block[1]


def bundled(code: str, user: str) -> str:
    """What a bundler makes of it. `getToken` is the page's own; the client stays what the service serves."""
    command = [MODULES / ".bin" / "esbuild", "--bundle", "--format=esm", "--loader=jsx", "--jsx=automatic"]
    command += ["--external:/client/*", "--define:process.env.NODE_ENV='production'", "--log-level=error"]
    code = f"const getToken = () => {json.dumps(subscriber_token(user))};\n{code}"
    done = subprocess.run(command, input=code, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_alpine_draws_the_store(site: Site) -> None:
    site.serve("/recipe.js", bundled(recipe("Alpine", "js"), site.user), "text/javascript")
    site.serve("/recipe", f'<!doctype html>{recipe("Alpine", "html")}<script type="module" src="/recipe.js"></script>')
    site.publish("First")
    page = site.open("/recipe")
    expect(page.locator("b")).to_have_text("1")
    site.publish("Second")
    expect(page.locator("li")).to_have_text(["Second", "First"])
    expect(page.locator("b")).to_have_text("2")
    page.locator("li", has_text="First").click()
    expect(page.locator("b")).to_have_text("1")  # shown before the service has answered
    wait_for(lambda: site.unread() == 1, what="the read mark")


def htmx_of(package: str) -> str:
    return (MODULES / package / "dist" / "htmx.min.js").read_text()


@pytest.mark.parametrize("package", HTMX.values(), ids=HTMX)
def test_htmx_fetches_a_part_anew_when_something_came(site: Site, package: str) -> None:
    site.serve("/htmx.js", htmx_of(package), "text/javascript")
    site.serve("/recipe.js", bundled(recipe("htmx", "js"), site.user), "text/javascript")
    orders: list[int] = []

    def answer(route: Route) -> None:
        orders.append(len(orders))
        route.fulfill(body=f"<p>Answer {len(orders)}</p>", content_type="text/html")

    site.context.route(f"{site.service.url}/orders", answer)
    scripts = '<script src="/htmx.js"></script><script type="module" src="/recipe.js"></script>'
    site.serve("/recipe", f"<!doctype html><head>{scripts}</head><body>{recipe('htmx', 'html')}</body>")
    page = site.open("/recipe")
    expect(page.locator("#orders")).to_have_text("Answer 1")
    wait_for(lambda: page.evaluate("1") and any("/v1/inbox?" in url for url in site.witness.requests), what="the list")
    site.publish("Changed")
    expect(page.locator("#orders")).to_have_text("Answer 2")


def boosted(site: Site, name: str, other: str, message: str = "") -> str:
    """A page as Django renders it with `{% notifier %}` in its body, where a swap brings it again."""
    config = json.dumps({"url": "/", "token": subscriber_token(site.user), "widgets": True})
    return f"""<!doctype html><html><head><title>{name}</title><script src="/htmx.js"></script></head>
<body hx-boost="true" hx-boost:inherited="true"><h1>{name}</h1><a href="/{other}">Go on</a>
<button hx-get="/{other}" hx-target="body" hx-swap="outerHTML">Swap all</button>
<notifier-bell></notifier-bell><notifier-toasts id="toasts" hx-preserve></notifier-toasts>
<script id="notifier-config" type="application/json">{config}</script>
<script type="module" src="/client/django.js"></script>{message}</body></html>"""


@pytest.mark.parametrize("package", HTMX.values(), ids=HTMX)
def test_pages_that_htmx_swaps_keep_their_stream_and_fill_their_widgets(site: Site, package: str) -> None:
    saved = '<notifier-message level="success">Saved</notifier-message>'
    site.serve("/htmx.js", htmx_of(package), "text/javascript")
    site.serve("/one", boosted(site, "One", "two"))
    site.serve("/two", boosted(site, "Two", "one", saved))
    page = site.open("/one")
    page.wait_for_function("window.notifier?.state === 'live'")
    page.evaluate("() => { window.mark = 'the same document'; }")
    badge = page.locator("notifier-bell [part=badge]")
    site.publish("Before")
    expect(badge).to_have_text("1")
    page.get_by_role("link", name="Go on").click()
    expect(page.get_by_role("heading")).to_have_text("Two")
    expect(badge).to_have_text("1")
    expect(page.locator("[part=toast]", has_text="Saved")).to_be_visible()
    site.publish("Between")
    expect(badge).to_have_text("2")
    expect(page.locator("[part=toast]", has_text="Between")).to_have_count(1)
    page.get_by_role("button", name="Swap all").click()
    expect(page.get_by_role("heading")).to_have_text("One")
    site.publish("After")
    expect(badge).to_have_text("3")
    expect(page.locator("[part=toast]", has_text="After")).to_have_count(1)
    assert page.evaluate("mark") == "the same document"
    assert site.streams == 1
