"""`manage.py notifier` and `notifier_send`, run as a developer runs them."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_bridge.tokens import subscriber_token
from tests.django.conftest import http_settings, redis_settings
from tests.support import REPOSITORY, Process, RedisServer, Service, free_port, wait_for

pytestmark = pytest.mark.slow

PROJECT = """
SECRET_KEY = "for tests"
DEBUG = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "django_bridge"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {folder!r} + "/db.sqlite3"}}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
ROOT_URLCONF = "urls"
NOTIFIER = {notifier!r}
"""
URLS = "from django.http import HttpResponse\nfrom django.urls import path\n"


class Developer:
    """A project in its own folder, with `manage.py notifier` running in it."""

    def __init__(self, folder: Path, **notifier: Any) -> None:
        self.folder, self.port, self.page = folder, free_port(), free_port()
        self.notifier = notifier or http_settings(f"http://127.0.0.1:{self.port}")
        self.notifier["URL"] = f"http://127.0.0.1:{self.port}"
        (folder / "settings.py").write_text(PROJECT.format(folder=str(folder), notifier=self.notifier))
        self.write_page("hello")
        self.process: Process | None = None

    def write_page(self, word: str) -> None:
        (self.folder / "urls.py").write_text(f'{URLS}urlpatterns = [path("", lambda request: HttpResponse("{word}"))]')

    def run(self, *options: str) -> Process:
        self.process = Process(
            [sys.executable, "-m", "django", "notifier", f"127.0.0.1:{self.page}", *options],
            cwd=self.folder,
            env={"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{self.folder}:{REPOSITORY}"},
        )
        return self.process

    def serves(self, word: str = "hello") -> bool:
        return answer(f"http://127.0.0.1:{self.page}/") == word

    def notifies(self) -> bool:
        return answer(f"http://127.0.0.1:{self.port}/healthz") is not None


def answer(url: str) -> str | None:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=1).text
    return None


@contextlib.contextmanager
def developing(folder: Path) -> Iterator[Developer]:
    project = Developer(folder)
    # A background job of a shell ignores SIGINT, and its children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield project
    signal.signal(signal.SIGINT, before)
    if project.process is not None:
        project.process.stop()
        wait_for(lambda: not project.notifies(), what="the end of the service")


@pytest.fixture
def developer(tmp_path: Path) -> Iterator[Developer]:
    with developing(tmp_path) as project:
        yield project


@pytest.fixture(scope="module")
def running_developer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developer]:
    """With runserver and the service, for tests that start neither; the last of them ends the service."""
    with developing(tmp_path_factory.mktemp("project")) as project:
        process = project.run("--noreload")
        process.wait_until(lambda: project.serves() and project.notifies(), "both")
        yield project


# manage.py notifier


@pytest.mark.parametrize(
    ("options", "number"),
    [
        pytest.param(["--noreload"], signal.SIGINT, marks=pytest.mark.full),
        (["--noreload"], signal.SIGTERM),
        pytest.param(["--noreload"], signal.SIGKILL, marks=pytest.mark.full),
        ([], signal.SIGINT),
        pytest.param([], signal.SIGTERM, marks=pytest.mark.full),
        (["--alone"], signal.SIGKILL),  # with SIGKILL, runserver's inner process survives its outer one
    ],
)
def test_the_service_runs_beside_runserver_and_ends_with_it(
    developer: Developer, options: list[str], number: signal.Signals
) -> None:
    process = developer.run(*options)
    process.wait_until(lambda: developer.notifies() and (options == ["--alone"] or developer.serves()), "both")
    process.signal(number)
    process.child.wait(60)
    wait_for(lambda: not developer.notifies() and not developer.serves(), what="the end of both")


def test_pages_of_runserver_may_connect_and_the_project_may_publish(running_developer: Developer) -> None:
    developer = running_developer
    service = f"http://127.0.0.1:{developer.port}"
    with override_settings(NOTIFIER=developer.notifier):
        output = StringIO()
        call_command("notifier_send", "--all", "--subject", "Hello", stdout=output)
        token = subscriber_token(User.objects.create_user("ann"))
    for name in ("127.0.0.1", "localhost"):
        origin = f"http://{name}:{developer.page}"
        answer = httpx.get(f"{service}/v1/inbox", headers={"Authorization": f"Bearer {token}", "Origin": origin})
        assert [message["id"] for message in answer.json()["messages"]] == [output.getvalue().strip()]
        assert answer.headers["Access-Control-Allow-Origin"] == origin


def test_a_crash_of_the_service_is_reported_and_runserver_continues(running_developer: Developer) -> None:
    process = running_developer.process
    assert process is not None
    (child,) = [
        int(pid)
        for task in Path(f"/proc/{process.child.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: "The notifier ended with -9" in process.output(), what="the report")
    wait_for(running_developer.serves, what="runserver, which goes on")


def test_with_the_transport_redis_the_service_uses_the_projects_redis(
    tmp_path: Path, redis_server: RedisServer, user: User
) -> None:
    developer = Developer(tmp_path, **redis_settings(redis_server, PREFIX="beside:"))
    process = developer.run("--alone")
    try:
        process.wait_until(developer.notifies, "the service")
        with override_settings(NOTIFIER=developer.notifier):
            call_command("notifier_send", "ann", "--subject", "By Redis", stdout=StringIO())
            token = subscriber_token(user)
        answer = httpx.get(f"{developer.notifier['URL']}/v1/inbox", headers={"Authorization": f"Bearer {token}"})
        assert [message["subject"] for message in answer.json()["messages"]] == ["By Redis"]
    finally:
        process.stop()


def test_the_service_survives_a_code_reload(developer: Developer) -> None:
    developer.run().wait_until(developer.serves, "runserver")
    with override_settings(NOTIFIER=developer.notifier):
        call_command("notifier_send", "--all", "--subject", "Before", stdout=StringIO())
        token = subscriber_token(User.objects.create_user("ann"))
    time.sleep(1.1)  # on some file systems the reloader compares modification times in whole seconds
    developer.write_page("reloaded")
    wait_for(lambda: developer.serves("reloaded"), what="the reload")
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"http://127.0.0.1:{developer.port}/v1/inbox", headers=headers)
    assert [message["subject"] for message in answer.json()["messages"]] == ["Before"]


def test_a_taken_port_is_an_error_and_no_process_is_left(developer: Developer) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", developer.port))
        other.listen()
        process = developer.run("--noreload")
        assert process.child.wait(60) == 1
        assert "cannot listen on" in process.output()
        assert not developer.serves()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"TRANSPORT": "memory"}, "so nothing is sent to the service"),
        ({"URL": "http://notifier:8000"}, "'http://127.0.0.1:8001'"),
        ({"URL": "https://127.0.0.1:8001"}, "'http://127.0.0.1:8001'"),
        ({"URL": "http://127.0.0.1:8000"}, "the same port, 8000"),
        ({"URL": "http://localhost:8000"}, "the same port, 8000"),
        ({"JWT_SECRET": None}, "JWT_SECRET.* is missing"),
    ],
)
def test_unsuitable_settings_are_an_error_before_anything_is_started(change: dict[str, Any], words: str) -> None:
    value = {**http_settings("http://127.0.0.1:8001"), **change}
    with (
        override_settings(NOTIFIER={key: setting for key, setting in value.items() if setting is not None}),
        pytest.raises(CommandError, match=words),
    ):
        call_command("notifier")


def test_without_the_services_packages_the_error_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with (
        override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}")),
        pytest.raises(CommandError, match=r"pip install 'sse-notifier\[server\]'"),
    ):
        call_command("notifier")


# manage.py notifier_send


def inbox(service: Service, user: User) -> list[dict[str, Any]]:
    groups = list(user.groups.values_list("name", flat=True))
    with service.user(str(user.pk), groups=groups) as client:
        messages: list[dict[str, Any]] = client.get("/v1/inbox").json()["messages"]
        return messages


def test_a_message_has_the_values_of_all_options(
    over_http: Service, user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    output = StringIO()
    options = ["--text", "-", "--level", "warning", "--url", "/x/", "--data", '{"n": 1}', "--from", "bob"]
    call_command("notifier_send", "ann", "--subject", "Deploy", *options, stdout=output)
    (sent,) = [message for message in inbox(over_http, user) if message["subject"] == "Deploy"]
    assert sent["id"] == output.getvalue().strip()
    assert [sent[key] for key in ("text", "level", "url", "data")] == ["from a pipe", "warning", "/x/", {"n": 1}]
    assert sent["from"] == {"id": str(other_user.pk), "name": "bob"}


def test_recipients_can_be_keys_and_groups(over_http: Service, user: User, other_user: User) -> None:
    other_user.groups.add(Group.objects.create(name="staff"))
    call_command("notifier_send", "--pk", str(user.pk), "--group", "staff", "--subject", "Both ways", stdout=StringIO())
    for recipient in (user, other_user):
        assert "Both ways" in [message["subject"] for message in inbox(over_http, recipient)]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "No recipients"),
        (["nobody"], "There is no user 'nobody'"),
        (["--pk", "x"], "primary key"),
        (["--all", "--data", "{"], "--data is not JSON"),
        (["--all", "--url", "javascript:alert(1)"], "url"),
    ],
)
def test_invalid_options_are_an_error(over_http: Service, args: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("notifier_send", *args, "--subject", "x", stdout=StringIO())


def test_an_unreachable_service_is_an_error() -> None:
    with (
        override_settings(NOTIFIER=http_settings("http://127.0.0.1:1", TIMEOUT_S=0.1)),
        pytest.raises(CommandError, match="ConnectError"),
    ):
        call_command("notifier_send", "--all", "--subject", "x")


def test_the_memory_transport_is_refused() -> None:
    with pytest.raises(CommandError, match="reach no browser"):
        call_command("notifier_send", "--all", "--subject", "x")
