"""`<notifier-output>`: the text of a task, live and after everything that can go wrong: complete, each piece once."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import Witness
from tests.support import RedisServer, Service, free_port, running, subscriber_token, wait_for

PAGE = """<!doctype html><html lang="en"><meta name="color-scheme" content="light dark">
<title>Output</title><link rel="icon" href="/client/demo/icon.svg"><main>
<notifier-output task="{task}"></notifier-output></main>
<script type="module" nonce="abc">
  import {{ connect }} from "/client/notifier.js";
  import {{ createStore }} from "/client/store.js";
  import {{ showWidgets }} from "/client/widgets/base.js";
  import "/client/widgets/output.js";
  window.notifier = connect("/", {{ token: "{token}" }});
  window.store = createStore(notifier);
  showWidgets(store);
</script>"""
POLICY = (
    "default-src 'none'; script-src 'nonce-abc'; connect-src 'self'; img-src 'self'; require-trusted-types-for 'script'"
)
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}e\N{COMBINING ACUTE ACCENT}"
TEXT = "document.querySelector('notifier-output').shadowRoot.querySelector('[part=text]')"


class Reader:
    """A task, and pages that show its output."""

    def __init__(self, context: BrowserContext, service: Service, witness: Witness) -> None:
        self.context = context
        self.service = service
        self.witness = witness
        self.user = f"o{uuid.uuid4().hex[:8]}"
        self.written = ""
        self.task = self._call("POST", "/v1/tasks", {"to": [f"user:{self.user}"], "name": "Import"})["id"]
        body = PAGE.format(task=self.task, token=subscriber_token(self.user))
        headers = {"Content-Security-Policy": POLICY.replace("script-src", "script-src 'self'")}
        context.route("**/output", lambda route: route.fulfill(body=body, content_type="text/html", headers=headers))

    def open(self) -> Page:
        page = self.context.new_page()
        self.witness.watch(page)
        page.goto(f"{self.service.url}/output")
        wait_for(lambda: page.evaluate("window.notifier?.state") == "live", what="the stream")
        return page

    def write(self, text: str) -> None:
        self._call("POST", f"/v1/tasks/{self.task}/output", {"text": text})
        self.written += text

    def shows_all(self, page: Page) -> None:
        wait_for(lambda: page.evaluate(f"{TEXT}.textContent") == self.written, what="the whole text")

    def _call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        key = uuid.uuid4().hex  # a repeat of the same call

        def answered() -> Any:
            with contextlib.suppress(httpx.HTTPError), self.service.client() as client:
                answer = client.request(method, path, json=body, headers={"Idempotency-Key": key})
                return answer.json() if answer.status_code == 200 else None

        return wait_for(answered, what=f"{method} {path}")


@pytest.fixture
def reader(context: BrowserContext, service: Service, witness: Witness) -> Iterator[Reader]:
    yield Reader(context, service, witness)
    assert witness.faults == []
    assert witness.foreign == []


def test_text_appears_as_it_is_written_and_a_reload_shows_the_same(reader: Reader) -> None:
    reader.write("before\n")
    page = reader.open()
    for number in range(20):
        reader.write(f"{number} {FAMILY}\n<b>{number}</b>\t\u2028")
        if number % 7 == 3:
            page.reload()
    reader.shows_all(page)
    page.reload()
    reader.shows_all(page)
    assert page.evaluate(f"{TEXT}.querySelector('b')") is None


def test_output_has_a_skeleton_while_it_is_read_and_a_retry_where_that_failed(reader: Reader) -> None:
    reader.write("kept\n")
    waiting: list[Route] = []
    reader.context.route("**/v1/tasks/*/output*", lambda route: waiting.append(route))
    page = reader.open()
    widget = page.locator("notifier-output")
    expect(widget.locator("[part=skeleton]")).to_be_visible()
    expect(widget.locator("[part=text]")).to_have_attribute("aria-busy", "true")
    wait_for(lambda: page.evaluate("1") and waiting, what="the read")
    waiting.pop().fulfill(status=403, json={"detail": "Kaboom"})
    expect(widget.locator("[part=failed]")).to_contain_text("This could not be loaded.")
    expect(widget.locator("[part=skeleton]")).to_have_count(0)
    reader.context.unroute("**/v1/tasks/*/output*")
    widget.get_by_role("button", name="Retry").click()
    reader.shows_all(page)
    expect(widget.locator("[part=text]")).to_be_visible()
    expect(widget.locator("[part=placeholder] *")).to_have_count(0)
    reader.witness.faults.clear()  # the refused request


def test_output_that_is_not_live_says_so(reader: Reader) -> None:
    page = reader.open()
    reader.write("before\n")
    reader.shows_all(page)
    note = page.locator("notifier-output [part=connection]")
    expect(note).to_have_text("")
    reader.context.set_offline(True)
    expect(note).to_contain_text("No network")
    reader.context.set_offline(False)
    expect(note).to_have_text("")
    reader.witness.faults.clear()  # requests without a network


def test_a_retry_keeps_the_text_and_reads_the_rest(reader: Reader) -> None:
    page = reader.open()
    reader.write("before\n")
    reader.shows_all(page)
    waiting: list[Route] = []
    reader.context.route("**/v1/tasks/*/output*", lambda route: waiting.append(route))

    def read() -> Route:
        wait_for(lambda: page.evaluate("1") and waiting, what="a read")
        return waiting.pop()

    reader.context.set_offline(True)
    wait_for(lambda: page.evaluate("notifier.state") != "live", what="the end of the stream")
    before = reader.written
    reader.write("missed\n")
    reader.context.set_offline(False)
    retry = page.locator("notifier-output").get_by_role("button", name="Retry")
    for _ in range(2):
        read().fulfill(status=503, json={})
        read().fulfill(status=503, json={})
        expect(retry).to_be_visible()
        retry.click()
        expect(retry).to_have_count(0)
        assert page.evaluate(f"{TEXT}.textContent") == before
    # The service may not keep the beginning any more: the rest is all that it is asked for.
    last = read()
    assert last.request.url.endswith("after=1")
    last.continue_()
    reader.shows_all(page)
    reader.witness.faults.clear()  # the failed requests


def test_two_tabs_show_the_same_also_when_the_leader_closes(reader: Reader) -> None:
    first, second = reader.open(), reader.open()
    for number in range(10):
        reader.write(f"{number}\n")
    reader.shows_all(first)
    reader.shows_all(second)
    first.close()
    for number in range(10):
        reader.write(f"more {number}\n")
    reader.shows_all(second)


def test_a_page_that_was_offline_shows_what_it_missed(reader: Reader) -> None:
    page = reader.open()
    reader.write("online\n")
    reader.shows_all(page)
    reader.context.set_offline(True)
    for number in range(5):
        reader.write(f"offline {number} {FAMILY}\n")
    reader.context.set_offline(False)
    reader.write("online again\n")
    reader.shows_all(page)
    reader.witness.faults.clear()  # failed requests while offline


def test_a_hole_is_read(reader: Reader) -> None:
    page = reader.open()
    reader.write("one\n")
    reader.shows_all(page)
    # Two pieces that do not reach this page; the snapshot of the next stream has their number.
    page.evaluate("notifier.close()")
    reader.write("two\n")
    reader.write("three\n")
    page.reload()
    reader.shows_all(page)


def test_it_follows_its_end_unless_the_reader_has_scrolled_up(reader: Reader) -> None:
    page = reader.open()
    reader.write("".join(f"line {number}\n" for number in range(200)))
    reader.shows_all(page)
    gap = f"{TEXT}.scrollHeight - {TEXT}.scrollTop - {TEXT}.clientHeight"
    wait_for(lambda: page.evaluate(gap) < 2, what="the end in view")
    reader.write("".join(f"more {number}\n" for number in range(50)))
    reader.shows_all(page)
    wait_for(lambda: page.evaluate(gap) < 2, what="the new end in view")
    page.evaluate(f"{TEXT}.scrollTop = 100")
    wait_for(lambda: page.evaluate(f"{TEXT}.scrollTop") == 100, what="the reader's place")
    # A scroll event comes with a frame; text that arrives before it would still be followed.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    reader.write("while reading\n")
    reader.shows_all(page)
    assert page.evaluate(f"{TEXT}.scrollTop") == 100


def test_a_long_output_says_that_its_beginning_is_gone(reader: Reader) -> None:
    for number in range(17):
        reader.write(f"{number % 10}" * 16_383 + "\n")
    page = reader.open()
    reader.written = reader.written[-16 * 16_384 :]
    reader.shows_all(page)
    assert page.locator("notifier-output [part=truncated]").text_content() == "The beginning is not kept any more"


def test_text_without_ends_of_lines_is_laid_out_in_bounded_parts(reader: Reader) -> None:
    page = reader.open()
    for number in range(4):
        reader.write(f"{number}" + "😀" * 4_000)
    reader.shows_all(page)
    parts = page.evaluate(f"[...{TEXT}.children].map((part) => part.textContent)")
    assert max(len(part.encode("utf-16-le")) // 2 for part in parts) <= 4 * 4096
    assert "".join(parts) == reader.written  # no character is cut


def test_a_page_keeps_the_newest_text_and_shows_the_whole_on_demand(context: BrowserContext) -> None:
    with running(Service(env={"NOTIFIER_TASK_OUTPUT_BYTES": str(4 << 20)})) as service:
        reader = Reader(context, service, Witness(service.url))
        for number in range(80):
            reader.write(f"{number % 10}" * 16_383 + "\n")
        page = reader.open()
        last = f"{TEXT}.textContent"
        button = page.get_by_role("button", name="Show all")
        wait_for(button.is_visible, what="the button")

        def shows_the_newest_part() -> bool:
            shown: str = page.evaluate(last)
            return (1 << 19) < len(shown) <= (1 << 20) and reader.written.endswith(shown)

        wait_for(shows_the_newest_part, what="the newest part")
        button.click()
        reader.shows_all(page)
        assert not button.is_visible()
        assert reader.witness.faults == []


def test_the_text_is_copied(reader: Reader) -> None:
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = reader.open()
    reader.write(f"one\n{FAMILY}\n")
    reader.shows_all(page)
    page.get_by_role("button", name="Copy").click()
    wait_for(lambda: page.get_by_text("Copied").count() == 1, what="the confirmation")
    assert page.evaluate("navigator.clipboard.readText()") == reader.written


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_killed_service_loses_no_character(
    context: BrowserContext,
    tmp_path: Path,
    redis_server: RedisServer,
    kind: str,
) -> None:
    port = free_port()
    url = f"sqlite://{tmp_path}/notifier.db" if kind == "sqlite" else redis_server.url
    env = {"NOTIFIER_BROKER_URL": url, "NOTIFIER_PREFIX": f"killed{port}:"}
    service = Service(port=port, env=env)
    try:
        reader = Reader(context, service, Witness(service.url))
        page = reader.open()
        for turn in range(2):
            for number in range(10):
                reader.write(f"{turn}.{number} {FAMILY}\n")
            service.process.child.kill()
            service.process.child.wait()
            service.stop()
            service = reader.service = Service(port=port, env=env)
            for number in range(10):
                reader.write(f"{turn}.{number} after\n")
            reader.shows_all(page)
    finally:
        service.stop()
