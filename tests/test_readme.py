"""The README's examples, run as they stand: pasted into a fresh project, into a shell, into a page."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from notifier.api.stream_events import PresenceChange
from tests.pasted import BIN, PASSWORD, Document, Project, Shell, answers, blocks, clean_environment, ended_s
from tests.stream_reader import StreamReader
from tests.support import CHROMIUM, REPOSITORY, Service, free_port, subscriber_token, wait_for

pytestmark = [pytest.mark.programs, pytest.mark.timeout(300)]

README = Document("README.md")
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES += sorted((REPOSITORY / "examples").rglob("README.md"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell in which the service runs as the README starts it."""
    *exports, serve = README.block("sh", "notifier serve").splitlines()
    assert serve.endswith("notifier serve")
    folder = tmp_path_factory.mktemp("shell")
    printed = Shell(folder, clean_environment(), {}).run("\n".join([*exports, "env -0"]))
    env = dict(line.split("=", 1) for line in printed.split("\0") if line)
    port, page_port = free_port(), free_port()
    url = f"http://localhost:{port}"
    addresses = {"http://localhost:8000": url, "http://localhost:8080": f"http://localhost:{page_port}"}
    shell = Shell(folder, {**env, "NOTIFIER_URL": url}, addresses)
    process = shell.start(serve.replace("notifier serve", f"exec notifier serve --port {port}"))
    process.wait_until(lambda: answers(f"{url}/readyz"), "the service")
    yield shell
    process.stop()


@pytest.fixture
def url(shell: Shell) -> str:
    """The address of the service."""
    return shell.here("http://localhost:8000")


@pytest.fixture(scope="module")
def pages_url(shell: Shell) -> str:
    """The address of the project's pages."""
    return shell.here("http://localhost:8080")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


# Django


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, pages_url: str) -> Iterator[Project]:
    """A new project, with the README's blocks pasted in. It runs, with a service of its own."""
    before_s, parent = ended_s(), tmp_path_factory.mktemp("project")
    subprocess.run([BIN / "django-admin", "startproject", "mysite"], cwd=parent, check=True)
    folder = parent / "mysite"
    (folder / "mysite" / "templates").mkdir()
    for title in FIRST_FILES + OWN_FILES:
        name, _, place = title.partition(", ")
        with (folder / name).open("a" if place else "w") as file:
            file.write(README.file(title))
    migrate, create, serve = README.block("sh", "createsuperuser").splitlines()
    env = {**clean_environment(), "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    env["NOTIFIER_URL"] = f"http://127.0.0.1:{free_port()}"  # 8001 may be taken
    inside = Project(folder, env, {})
    inside.run(migrate)
    inside.run(f"{create} --noinput --username ann --email ann@example.org")
    assert serve == "python manage.py notifier"
    inside.commands_s = ended_s() - before_s
    inside.server = process = inside.start(f"exec {serve} --noreload {pages_url.rpartition(':')[2]}")
    try:
        process.wait_until(lambda: answers(f"{pages_url}/admin/login/"), "the project")
        assert f"{pages_url} and {pages_url.replace('localhost', '127.0.0.1')}\n" in process.output()
        yield inside
    finally:
        process.stop()


FIRST_FILES = ["mysite/settings.py, at the end", "mysite/urls.py, at the end"]
OWN_FILES = [
    "mysite/views.py",
    "mysite/templates/report.html",
    "mysite/urls.py, below that",
    "mysite/settings.py, below that",
]


def test_the_first_bar_costs_six_lines_in_two_files() -> None:
    lines = [line for title in FIRST_FILES for line in README.file(title).splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) == 6


def test_the_first_lines_reach_a_user_and_a_group(project: Shell) -> None:
    first = README.blocks("python")[0]
    assert len([line for line in first.splitlines() if line]) == 3
    setup = """
from types import SimpleNamespace
from django.contrib.auth.models import Group, User
from django_bridge.tokens import subscriber_token
user = User.objects.get(username="ann")
user.groups.add(Group.objects.get_or_create(name="editors")[0])
request = SimpleNamespace(user=user)
"""
    (project.folder / "first_lines.py").write_text(f"{setup}{first}\nprint(subscriber_token(user))\n")
    token = project.run("python manage.py shell < first_lines.py").split()[-1]
    answer = httpx.get(f"{project.env['NOTIFIER_URL']}/v1/inbox", headers={"Authorization": f"Bearer {token}"})
    assert {message["subject"] for message in answer.json()["messages"]} >= {"Your report is ready", "A new draft"}


def test_the_checks_of_the_fresh_project_pass(project: Shell) -> None:
    project.run("python manage.py check --fail-level INFO")


def log_in(page: Page, address: str) -> None:
    page.goto(address)
    page.fill("input[name=username]", "ann")
    page.fill("input[name=password]", PASSWORD)
    page.click("input[type=submit]")


def test_the_first_bar_moves_in_every_tab_of_either_address(project: Project, pages_url: str, browser: Browser) -> None:
    address = f"{pages_url}/report/"
    other_address = address.replace("localhost", "127.0.0.1")
    context = browser.new_context()
    pages = first, second, third = context.new_page(), context.new_page(), context.new_page()
    log_in(first, address)
    expect(first).to_have_url(address)
    second.goto(address)
    log_in(third, other_address)
    expect(third).to_have_url(other_address)
    third.get_by_role("button", name="Start").click()
    for page in pages:
        row = page.locator("notifier-tasks li", has_text="Report").first
        bar = row.get_by_role("progressbar")
        expect(bar).to_have_attribute("aria-valuenow", re.compile(r"^[1-9]\d?$"), timeout=20_000)
    # Since startproject, of a project for both hosts; 7 to 11 s when measured, on slow processors more.
    assert project.cpu_s() < 60
    for page in pages:
        row = page.locator("notifier-tasks li", has_text="Report").first
        expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100", timeout=60_000)
        expect(row).to_contain_text("Finished")
    context.close()


WATCH_BAR = """() => {
  const bar = document.getElementById("bar");
  window.values = [];
  new MutationObserver(() => values.push(bar.value)).observe(bar, { attributes: true });
}"""
"""Writes down each value: the bar moves for five seconds, in which the test may not have looked."""


def test_the_button_moves_the_bar_of_your_own_page_in_every_tab(
    project: Shell, pages_url: str, browser: Browser
) -> None:
    context = browser.new_context()
    first, second = context.new_page(), context.new_page()
    log_in(first, f"{pages_url}/own/")
    second.goto(f"{pages_url}/own/")
    for page in (first, second):
        page.wait_for_function("window.notifier?.state === 'live'")
        page.evaluate(WATCH_BAR)
    first.click("#start")
    for page in (first, second):
        page.wait_for_function("values.some((value) => value > 0 && value < 100)")
    for page in (first, second):
        expect(page.locator("#state")).to_have_text("The report is ready", timeout=20_000)
        assert page.locator("#bar").evaluate("bar => bar.value") == 100
        expect(page.locator("#inbox li")).to_have_text("Your report")
    context.close()


# The shell


def test_curl_publishes_and_listens(shell: Shell) -> None:
    message, task = README.block("sh", "/v1/messages"), README.block("sh", "/v1/tasks")
    answer = json.loads(shell.run(message))
    assert set(answer) == {"id", "cursor", "watched"}
    assert answer["watched"] is False

    stream = shell.start(f"exec {README.block('sh', 'curl -N')}")
    try:
        stream.wait_until(lambda: "event: hello" in stream.output(), "curl -N")
        assert json.loads(shell.run(message))["watched"] is True
        states = [json.loads(state)["percent"] for state in re.findall(r"\{.*?\}", shell.run(task))]
        assert states == [0, 20, 100]
        stream.wait_until(lambda: '"status":"succeeded"' in stream.output(), "the end of the task")
        assert '"subject":"Hello"' in stream.output()
    finally:
        stream.stop()


def test_the_command_sends_and_listens(shell: Shell) -> None:
    send, listen = re.findall(r"`(notifier (?:send|listen) [^`]+)`", README.text)
    listener = shell.start(f"exec {listen}")
    try:
        listener.wait_until(lambda: "\thello\t" in listener.output(), "notifier listen")
        shell.run(send)
        listener.wait_until(lambda: '"subject":"Hello"' in listener.output(), "the message")
    finally:
        listener.stop()


# The browser


@pytest.fixture
def page(shell: Shell, pages_url: str, browser: Browser, project: Shell) -> Iterator[Page]:
    """A page of an origin that the service allows; its backend has a token for user 42."""
    page = browser.new_page()
    token = shell.run("notifier token 42").strip()
    answer = json.dumps({"token": token, "expires_in": 3600})
    page.route("**/my-token", lambda route: route.fulfill(body=answer, content_type="application/json"))
    # The page must come from a server on this machine: on a page that the test fulfils, the browser asks a person
    # before it connects to the service.
    page.goto(f"{pages_url}/admin/login/")
    page.evaluate("token => { window.token = token }", token)
    yield page
    page.close()


def _lines(page: Page) -> list[str]:
    lines: list[str] = []
    page.on("console", lambda line: lines.append(line.text))
    return lines


def _wait_for_line(page: Page, lines: list[str], wanted: str) -> None:
    wait_for(lambda: page.wait_for_timeout(20) or wanted in lines, what=f"{wanted!r} in {lines}")


def test_the_client_module_reports_every_kind_of_event(page: Page, shell: Shell, url: str) -> None:
    lines = _lines(page)
    page.add_script_tag(content=shell.here(README.block("js", "import { connect }")), type="module")
    _wait_for_line(page, lines, "state live")
    shell.run(README.block("sh", "/v1/messages"))
    order = {"to": ["user:42"], "type": "order.paid", "data": {"number": 17}}
    key = {"Authorization": f"Bearer {shell.env['NOTIFIER_API_KEYS']}"}
    assert httpx.post(f"{url}/v1/events", json=order, headers=key).status_code == 200
    task = {"to": ["user:42"], "name": "Import", "total": 4}
    assert httpx.post(f"{url}/v1/tasks", json=task, headers=key).status_code == 200
    for line in ("message Hello", "order 17", "task Import 0"):
        _wait_for_line(page, lines, line)


def test_the_browsers_own_eventsource_works(page: Page, shell: Shell) -> None:
    lines = _lines(page)
    page.add_script_tag(content=shell.here(README.block("js", "new EventSource")))
    page.wait_for_function("stream.readyState === EventSource.OPEN")
    shell.run(README.block("sh", "/v1/messages"))
    _wait_for_line(page, lines, "message Hello")


# The words


def test_the_first_screen_has_code_a_picture_and_the_two_commands() -> None:
    first = README.text.split("\n## ")[0]
    order = [
        first.index(words)
        for words in (
            "```python",
            "docs/images/demo.png",
            "make demo",
            "make test",
            "pip install '.[server]'",
            "INSTALLED_APPS",
            "progress_page",
        )
    ]
    assert order == sorted(order)


def test_the_two_commands_exist() -> None:
    for target in re.findall(r"^    make (\w+)", README.text, re.MULTILINE):
        done = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere_and_code_is_code(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), f"{path.name}: {target}"
    for code in blocks(text, "python"):
        ast.parse(code)
    for code in blocks(text, "json"):
        json.loads(code)
    assert str(REPOSITORY) not in text


def test_the_protocol_page_shows_the_services_answers(service: Service) -> None:
    examples = map(json.loads, Document("docs/protocol.md").blocks("json"))
    message, task, output, question, answered, poll, joining, presence, batch = examples
    PresenceChange(**presence)
    assert set(presence) == set(PresenceChange.model_fields)
    sent = {name: message[name] for name in ("from", "subject", "text", "sent_at", "level", "url", "data", "id")}
    with service.client() as api, service.user("42") as user:
        bodies = [{"kind": "message", "to": ["user:42"], **sent}, {"kind": "message", "to": ["user:42"]}]
        good, bad = api.post("/v1/batch", json=bodies).json()["results"]
        assert bad == batch["results"][1]
        assert {**good["body"], "cursor": "", "watched": True} == {**batch["results"][0]["body"], "cursor": ""}
        inbox = user.get("/v1/inbox").json()["messages"]
        # Other tests of this service may have published to `all`.
        [listed] = [item for item in inbox if item["id"] == good["body"]["id"]]
        assert listed == {**message, "read": False}
        created = api.post("/v1/tasks", json={"id": task["id"], "to": ["user:42"], "name": task["name"]}).json()
        assert set(created) == {*task, "cancel_requested"}
        appended = api.post(f"/v1/tasks/{task['id']}/output", json={"text": output["text"]}).json()
        assert output["id"] == task["id"]
        assert (set(output), "n" in appended) == ({"id", "n", "from", "text"}, True)
        asking = {name: question[name] for name in ("id", "text", "choices")}
        asked = api.post(f"/v1/tasks/{task['id']}/question", json=asking).json()["question"]
        assert {**asked, "asked_at": "", "expires_at": ""} == {**question, "asked_at": "", "expires_at": ""}
        choice = {name: answered[name] for name in ("question", "value")}
        closed = user.post(f"/v1/tasks/{task['id']}/answer", json=choice).json()["answer"]
        assert {**closed, "by": {}, "answered_at": ""} == {**answered, "by": {}, "answered_at": ""}
        cursor = user.get("/v1/poll").json()["cursor"]
        (event,) = poll["events"]
        api.post("/v1/events", json={"to": ["user:42"], "type": event["event"], "data": event["data"]})
        answer = user.get("/v1/poll", params={"after": cursor}).json()
        assert set(answer) == set(poll)
        [polled] = [item for item in answer["events"] if item["event"] == event["event"]]
        assert {**polled, "id": ""} == {**event, "id": ""}
        with closing(StreamReader(service.url, "42")) as stream:
            _, hello = stream.next("hello")
            own = {"connection": hello["connection"], "since": cursor}
            grant = subscriber_token("42", aud="notifier:topics", topics=["order:42"])
            assert joining["add"] == ["<grant>"]
            joined = user.post("/v1/stream/topics", json={**joining, **own, "add": [grant]}).json()
        assert (joined["topics"], joined["stale"]) == (["order:42"], [])


def test_the_overview_has_the_readmes_first_lines() -> None:
    assert Document("docs/index.md").blocks("python") == README.blocks("python")[:1]


def test_the_picture_is_there_and_not_large() -> None:
    picture = REPOSITORY / "docs" / "images" / "demo.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000
