"""The README's examples, run as they stand: pasted into a fresh project, into a shell, into a page.

Only the ports are replaced: those of the README may be taken here.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support import REPOSITORY, Process, Service, free_port, wait_for

pytestmark = pytest.mark.programs

README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES += sorted((REPOSITORY / "examples").rglob("README.md"))
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    """The code of all fences of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def block(language: str, holding: str) -> str:
    """The one block that holds these words."""
    found = [one for one in blocks(README, language) if holding in one]
    assert len(found) == 1, f"{len(found)} blocks hold {holding!r}"
    return found[0]


def file_block(path: str) -> str:
    """The block whose first line names this file."""
    language = "html" if path.endswith(".html") else "python"
    return next(one for one in blocks(README, language) if path in one.partition("\n")[0])


@dataclass
class Started:
    """The service as step 1 of the README starts it."""

    url: str
    pages: str
    env: dict[str, str]

    def here(self, text: str) -> str:
        """An example with the ports that are in use here."""
        return text.replace("http://localhost:8000", self.url).replace("http://localhost:8080", self.pages)

    def shell(self, script: str) -> str:
        """What a script of the README prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.here(script)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    *exports, serve = block("sh", "notifier serve").splitlines()
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFIER_", "DJANGO_"))}
    exported = subprocess.run(
        ["bash", "-euc", "\n".join([*exports, "env -0"])],
        env={**clean, "PATH": path},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    env = dict(one.split("=", 1) for one in exported.split("\0") if one)
    port, page_port = free_port(), free_port()
    found = Started(f"http://localhost:{port}", f"http://localhost:{page_port}", {**env, "PYTHONUNBUFFERED": "1"})
    found.env["NOTIFIER_URL"] = found.url
    assert serve.endswith("notifier serve")
    command = found.here(serve).replace("notifier serve", f"exec notifier serve --port {port}")
    process = Process(["env", "-i", *_pairs(found.env), "bash", "-euc", command], cwd=tmp_path_factory.mktemp("shell"))

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{found.url}/readyz").status_code == 200
        return False

    process.wait_until(ready, "the service")
    yield found
    process.stop()


def _pairs(env: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in env.items()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


# Django, in five steps


@pytest.fixture(scope="module")
def mysite(started: Started, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `django-admin startproject mysite` makes, with the README's blocks pasted in."""
    folder = tmp_path_factory.mktemp("project")
    subprocess.run([BIN / "django-admin", "startproject", "mysite"], cwd=folder, check=True)
    project = folder / "mysite"
    (project / "mysite" / "templates").mkdir()
    with (project / "mysite" / "settings.py").open("a") as settings:
        settings.write(started.here(file_block("mysite/settings.py, at the end")))
    for name in ("mysite/views.py", "mysite/urls.py", "mysite/templates/report.html"):
        (project / name).write_text(started.here(file_block(name)))

    steps = block("sh", "createsuperuser").splitlines()
    assert steps == ["python manage.py migrate", "python manage.py createsuperuser", "python manage.py runserver 8080"]
    env = {**started.env, "DJANGO_SUPERUSER_PASSWORD": "a long password"}
    migrate, create = steps[0], f"{steps[1]} --noinput --username ann --email ann@example.org"
    for step in (migrate, create):
        subprocess.run(["bash", "-euc", step], cwd=project, env=env, check=True, capture_output=True, timeout=60)
    port = started.pages.rpartition(":")[2]
    command = steps[2].replace("8080", f"--noreload {port}")
    process = Process(["env", "-i", *_pairs(env), "bash", "-euc", f"exec {command}"], cwd=project)

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{started.pages}/admin/login/").status_code == 200
        return False

    process.wait_until(ready, "the project")
    yield project
    process.stop()


def test_the_checks_of_the_fresh_project_find_nothing(mysite: Path, started: Started) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "INFO"],
        cwd=mysite,
        env=started.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_button_moves_the_bar_in_every_tab(mysite: Path, started: Started, browser: Browser) -> None:
    context = browser.new_context()
    first, second = context.new_page(), context.new_page()
    first.goto(started.pages)
    first.fill("input[name=username]", "ann")
    first.fill("input[name=password]", "a long password")
    first.click("input[type=submit]")
    second.goto(started.pages)
    for page in (first, second):
        page.wait_for_function("window.notifier?.state === 'live'")
    first.click("#start")
    for page in (first, second):
        page.wait_for_function("(value => value > 0 && value < 100)(document.getElementById('bar').value)")
    for page in (first, second):
        expect(page.locator("#state")).to_have_text("The report is ready", timeout=20_000)
        assert page.locator("#bar").evaluate("bar => bar.value") == 100
        expect(page.locator("#inbox li")).to_have_text("Your report")
    context.close()


# The shell


def test_curl_publishes_and_listens(started: Started) -> None:
    message, task = block("sh", "/v1/messages"), block("sh", "/v1/tasks")
    answer = json.loads(started.shell(message))
    assert set(answer) == {"id", "cursor", "watched"}
    assert answer["watched"] is False

    command = f"exec {started.here(block('sh', 'curl -N'))}"
    stream = Process(["env", "-i", *_pairs(started.env), "bash", "-euc", command])
    try:
        stream.wait_until(lambda: "event: hello" in stream.output(), "curl -N")
        assert json.loads(started.shell(message))["watched"] is True
        states = [json.loads(one)["percent"] for one in re.findall(r"\{.*?\}", started.shell(task))]
        assert states == [0, 20, 100]
        stream.wait_until(lambda: '"status":"succeeded"' in stream.output(), "the end of the task")
        assert '"subject":"Hello"' in stream.output()
    finally:
        stream.stop()


def test_the_command_sends_and_listens(started: Started) -> None:
    send, listen = re.findall(r"`(notifier (?:send|listen) [^`]+)`", README)
    listener = Process(["env", "-i", *_pairs(started.env), "bash", "-euc", f"exec {listen}"])
    try:
        listener.wait_until(lambda: "\thello\t" in listener.output(), "notifier listen")
        started.shell(send)
        listener.wait_until(lambda: '"subject":"Hello"' in listener.output(), "the message")
    finally:
        listener.stop()


# The browser


@pytest.fixture
def page(started: Started, browser: Browser, mysite: Path) -> Iterator[Page]:
    """Some page of an origin that the service allows; its backend has a token for user 42."""
    found = browser.new_page()
    token = started.shell("notifier token 42").strip()
    answer = json.dumps({"token": token, "expires_in": 3600})
    found.route("**/my-token", lambda route: route.fulfill(body=answer, content_type="application/json"))
    # A page that came from a server on this machine: one that was made up here could not reach the service without the
    # browser asking a person.
    found.goto(f"{started.pages}/admin/login/")
    found.evaluate("token => { window.token = token }", token)
    yield found
    found.close()


def _lines(page: Page) -> list[str]:
    lines: list[str] = []
    page.on("console", lambda line: lines.append(line.text))
    return lines


def _wait_for_line(page: Page, lines: list[str], wanted: str) -> None:
    wait_for(lambda: page.wait_for_timeout(20) or wanted in lines, what=f"{wanted!r} in {lines}")


def test_the_client_module_tells_of_everything(page: Page, started: Started) -> None:
    lines = _lines(page)
    page.add_script_tag(content=started.here(block("js", "import { connect }")), type="module")
    _wait_for_line(page, lines, "state live")
    started.shell(block("sh", "/v1/messages"))
    order = {"to": ["user:42"], "type": "order.paid", "data": {"number": 17}}
    key = {"Authorization": f"Bearer {started.env['NOTIFIER_API_KEYS']}"}
    assert httpx.post(f"{started.url}/v1/events", json=order, headers=key).status_code == 200
    task = {"to": ["user:42"], "name": "Import", "total": 4}
    assert httpx.post(f"{started.url}/v1/tasks", json=task, headers=key).status_code == 200
    for line in ("message Hello", "order 17", "task Import 0"):
        _wait_for_line(page, lines, line)


def test_the_browsers_own_eventsource_is_enough(page: Page, started: Started) -> None:
    lines = _lines(page)
    page.add_script_tag(content=started.here(block("js", "new EventSource")))
    page.wait_for_function("stream.readyState === EventSource.OPEN")
    started.shell(block("sh", "/v1/messages"))
    _wait_for_line(page, lines, "message Hello")


# The words


def test_the_two_commands_exist() -> None:
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
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


def test_the_protocol_page_shows_what_the_service_says(service: Service) -> None:
    message, task, batch = map(json.loads, blocks((REPOSITORY / "docs" / "protocol.md").read_text(), "json"))
    sent = {name: message[name] for name in ("from", "subject", "text", "sent_at", "level", "url", "data", "id")}
    with service.client() as api, service.user("42") as user:
        bodies = [{"kind": "message", "to": ["user:42"], **sent}, {"kind": "message", "to": ["user:42"]}]
        good, bad = api.post("/v1/batch", json=bodies).json()["results"]
        assert bad == batch["results"][1]
        assert {**good["body"], "cursor": "", "watched": True} == {**batch["results"][0]["body"], "cursor": ""}
        found = user.get("/v1/inbox").json()["messages"]
        [listed] = [one for one in found if one["id"] == good["body"]["id"]]  # others may have told everybody
        assert listed == {**message, "read": False}
        known = api.post("/v1/tasks", json={"id": task["id"], "to": ["user:42"], "name": task["name"]}).json()
        assert set(known) == {*task, "cancel_requested"}


def test_the_picture_is_there_and_not_large() -> None:
    picture = REPOSITORY / "docs" / "images" / "demo.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000
