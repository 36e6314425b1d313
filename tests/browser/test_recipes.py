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
from tests.support import ADMIN_KEY, REPOSITORY, Service, subscriber_token, wait_for

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

    def send(self, kind: str, data: object) -> None:
        """Publish an event of the site's own."""
        with self.service.client() as client:
            body = {"to": [f"user:{self.user}"], "type": kind, "data": data}
            client.post("/v1/events", json=body).raise_for_status()

    def is_online(self) -> bool:
        with self.service.client(ADMIN_KEY) as client:
            return bool(client.get(f"/v1/users/{self.user}/presence").raise_for_status().json()["online"])

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


def test_output_is_shown_as_markdown_without_its_scripts(site: Site) -> None:
    with site.service.client() as client:
        task = client.post("/v1/tasks", json={"to": [f"user:{site.user}"], "name": "Answer"}).json()["id"]

        def write(text: str) -> None:
            client.post(f"/v1/tasks/{task}/output", json={"text": text}).raise_for_status()

        write("# Head")
        code = f"const taskId = {json.dumps(task)};\n{recipe('Markdown', 'js')}"
        site.serve("/recipe.js", bundled(code, site.user), "text/javascript")
        script = '<script type="module" src="/recipe.js"></script>'
        site.serve("/recipe", f"<!doctype html>{recipe('Markdown', 'html')}{script}")
        page = site.open("/recipe")
        expect(page.locator("article h1")).to_have_text("Head")
        write("ing\n\nIt is **bo")
        write('ld** 😀\n\n<img src="data:," onerror="window.ran = true"><script>window.ran = true</script>')
        for _ in range(2):
            expect(page.locator("article h1")).to_have_text("Heading")
            expect(page.locator("article strong")).to_have_text("bold")
            expect(page.locator("article img")).to_have_count(1)
            assert page.locator("article img[onerror], article script").count() == 0
            assert page.evaluate("window.ran") is None
            page.reload()


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
    waiting: list[Route] = []
    site.context.route("**/v1/stream", lambda route: waiting.append(route))
    page = site.open("/recipe")
    expect(page.locator("#orders")).to_have_text("Answer 1")
    wait_for(lambda: page.evaluate("1") and waiting, what="the request for the stream")
    site.publish("Before the stream is open")
    site.context.unroute("**/v1/stream")
    waiting[-1].continue_()  # after 8 s without an answer the page asks again
    expect(page.locator("#orders")).to_have_text("Answer 2")
    site.publish("Changed")
    expect(page.locator("#orders")).to_have_text("Answer 3")


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
    expect(page.locator("[part=toast]", has_text="Saved")).to_be_visible()
    expect(badge).to_have_text("1")
    site.publish("Between")
    expect(page.locator("[part=toast]", has_text="Between")).to_have_count(1)
    expect(badge).to_have_text("2")
    page.get_by_role("button", name="Swap all").click()
    expect(page.get_by_role("heading")).to_have_text("One")
    site.publish("After")
    expect(page.locator("[part=toast]", has_text="After")).to_have_count(1)
    expect(badge).to_have_text("3")
    assert page.evaluate("mark") == "the same document"
    assert site.streams == 1


@pytest.mark.parametrize("package", HTMX.values(), ids=HTMX)
def test_the_documents_events_trigger_requests_of_htmx(site: Site, package: str) -> None:
    """`hx-trigger="notifier:message from:document"`, and a published name with a condition."""
    fetched = {"/inbox": 0, "/order": 0}

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(site.service.url)
        fetched[path] += 1
        route.fulfill(body=f"{path} {fetched[path]}", content_type="text/html")

    for path in fetched:
        site.context.route(f"{site.service.url}{path}", answer)
    config = json.dumps({"url": "/", "token": subscriber_token(site.user)})
    site.serve("/htmx.js", htmx_of(package), "text/javascript")
    site.serve(
        "/recipe",
        f"""<!doctype html><script src="/htmx.js"></script>{recipe("htmx: the events of the document", "html")}
        <script id="notifier-config" type="application/json">{config}</script>
        <script type="module" src="/client/django.js"></script>""",
    )
    page = site.open("/recipe")
    page.wait_for_function("window.notifier?.state === 'live'")
    expect(page.locator("#inbox")).to_have_text("/inbox 2")  # at the load and at the hello
    site.publish("News")
    expect(page.locator("#inbox")).to_have_text("/inbox 3")
    for number in (6, 7):
        site.send("order.paid", {"id": number})
    expect(page.locator("#order")).to_have_text("/order 2")
    assert fetched == {"/inbox": 3, "/order": 2}


ROWS = ["<li>One</li>\n<li>Two &amp; <i>more</i></li>", "<li>Three</li>"]
STREAMS = {
    "htmx 2": ("htmx 2: markup from the service", ["htmx2/dist/htmx.min.js", "htmx-ext-sse/dist/sse.min.js"]),
    "htmx 4": ("htmx 4: markup from the service", ["htmx.org/dist/htmx.min.js", "htmx.org/dist/ext/hx-sse.min.js"]),
    "Turbo": ("Turbo", ["@hotwired/turbo/dist/turbo.es2017-umd.js"]),
}
HOSTILE = "<turbo-stream action=append target=rows><template><li>Forged</li></template></turbo-stream>"


def turbo(row: str) -> str:
    return f'<turbo-stream action="append" target="rows"><template>{row}</template></turbo-stream>'


@pytest.mark.parametrize("library", STREAMS)
def test_a_stream_of_texts_is_inserted_as_markup(site: Site, library: str) -> None:
    """By the library's own listener, and nothing else of the stream, whatever users have written."""
    heading, files = STREAMS[library]
    for number, file in enumerate(files):
        site.serve(f"/{number}.js", (MODULES / file).read_text(), "text/javascript")
    scripts = "".join(f'<script src="/{number}.js"></script>' for number in range(len(files)))
    if library == "htmx 4":
        scripts += f"<script>{recipe(heading, 'js')}</script>"
    rows = '<ul id="rows"></ul>' if library == "Turbo" else ""
    site.serve("/recipe", f"<!doctype html><head>{scripts}</head><body>{rows}{recipe(heading, 'html')}</body>")
    cookie = {"name": "notifier_token", "value": subscriber_token(site.user), "url": site.service.url}
    site.context.add_cookies([cookie])  # type: ignore[list-item]  # a typed dict of the same keys
    site.publish(HOSTILE)
    page = site.open("/recipe")
    wait_for(lambda: page.evaluate("1") and site.is_online(), what="the stream")
    site.publish(HOSTILE)
    site.send("other", {"row": HOSTILE})
    for row in ROWS:
        site.send("order.row", turbo(row) if library == "Turbo" else row)
    expect(page.locator("#rows li")).to_have_text(["One", "Two & more", "Three"])
    expect(page.locator("#rows i")).to_have_text("more")
    assert "Forged" not in page.content()
