"""`manage.py notifier` and `notifier_send`, as a developer runs them."""

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
    """A project in a folder of its own, and `manage.py notifier` running in it."""

    def __init__(self, folder: Path, **notifier: Any) -> None:
        self.folder, self.port, self.page = folder, free_port(), free_port()
        self.notifier = notifier or http_settings(f"http://127.0.0.1:{self.port}")
        self.notifier["URL"] = f"http://127.0.0.1:{self.port}"
        (folder / "settings.py").write_text(PROJECT.format(folder=str(folder), notifier=self.notifier))
        self.say("hello")
        self.process: Process | None = None

    def say(self, word: str) -> None:
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


@pytest.fixture
def developer(tmp_path: Path) -> Iterator[Developer]:
    found = Developer(tmp_path)
    # A shell's background job ignores Ctrl-C, and so would our child.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield found
    signal.signal(signal.SIGINT, before)
    if found.process is not None:
        found.process.stop()
        wait_for(lambda: not found.notifies(), what="the end of the service")


# manage.py notifier


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("options", [["--noreload"], []], ids=["one process", "with the reloader"])
def test_the_service_runs_beside_runserver_and_ends_with_it(
    developer: Developer, options: list[str], number: signal.Signals
) -> None:
    if options == [] and number == signal.SIGKILL:
        options = ["--alone"]  # of runserver's two processes, Django itself leaves the inner one behind
    process = developer.run(*options)
    process.wait_until(lambda: developer.notifies() and (options == ["--alone"] or developer.serves()), "both")
    process.signal(number)
    process.child.wait(15)
    wait_for(lambda: not developer.notifies() and not developer.serves(), what="the end of both")


def test_the_pages_of_runserver_may_listen_and_the_project_may_publish(developer: Developer) -> None:
    developer.run("--noreload").wait_until(developer.serves, "runserver")
    service = f"http://127.0.0.1:{developer.port}"
    with override_settings(NOTIFIER=developer.notifier):
        said = StringIO()
        call_command("notifier_send", "--all", "--subject", "Hello", stdout=said)
        token = subscriber_token(User.objects.create_user("ann"))
    for name in ("127.0.0.1", "localhost"):
        origin = f"http://{name}:{developer.page}"
        found = httpx.get(f"{service}/v1/inbox", headers={"Authorization": f"Bearer {token}", "Origin": origin})
        assert [one["id"] for one in found.json()["messages"]] == [said.getvalue().strip()]
        assert found.headers["Access-Control-Allow-Origin"] == origin


def test_with_the_transport_redis_the_service_is_on_the_projects_redis(
    tmp_path: Path, redis_server: RedisServer, user: User
) -> None:
    developer = Developer(tmp_path, **redis_settings(redis_server, PREFIX="beside:"))
    process = developer.run("--alone")
    try:
        process.wait_until(developer.notifies, "the service")
        with override_settings(NOTIFIER=developer.notifier):
            call_command("notifier_send", "ann", "--subject", "By Redis", stdout=StringIO())
            token = subscriber_token(user)
        found = httpx.get(f"{developer.notifier['URL']}/v1/inbox", headers={"Authorization": f"Bearer {token}"})
        assert [one["subject"] for one in found.json()["messages"]] == ["By Redis"]
    finally:
        process.stop()


def test_a_reload_of_the_code_leaves_the_service_and_its_streams_alone(developer: Developer) -> None:
    developer.run().wait_until(developer.serves, "runserver")
    with override_settings(NOTIFIER=developer.notifier):
        call_command("notifier_send", "--all", "--subject", "Before", stdout=StringIO())
        token = subscriber_token(User.objects.create_user("ann"))
    time.sleep(1.1)  # the reloader compares whole seconds of a file's time on some file systems
    developer.say("reloaded")
    wait_for(lambda: developer.serves("reloaded"), what="the reload")
    headers = {"Authorization": f"Bearer {token}"}
    found = httpx.get(f"http://127.0.0.1:{developer.port}/v1/inbox", headers=headers)
    assert [one["subject"] for one in found.json()["messages"]] == ["Before"]


def test_a_service_that_dies_is_told_of_and_runserver_goes_on(developer: Developer) -> None:
    process = developer.run("--noreload")
    process.wait_until(developer.serves, "runserver")
    (child,) = [
        int(pid)
        for task in Path(f"/proc/{process.child.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: "The notifier ended with -9" in process.output(), what="the word of it")
    assert developer.serves()


def test_a_port_that_is_taken_is_said_and_nothing_is_left_running(developer: Developer) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", developer.port))
        other.listen()
        process = developer.run("--noreload")
        assert process.child.wait(20) == 1
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
def test_what_cannot_work_is_said_before_anything_is_started(change: dict[str, Any], words: str) -> None:
    value = {**http_settings("http://127.0.0.1:8001"), **change}
    with (
        override_settings(NOTIFIER={key: one for key, one in value.items() if one is not None}),
        pytest.raises(CommandError, match=words),
    ):
        call_command("notifier")


def test_without_the_services_packages_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
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
        found: list[dict[str, Any]] = client.get("/v1/inbox").json()["messages"]
        return found


def test_a_message_is_sent_with_everything_that_was_said(
    over_http: Service, user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    said = StringIO()
    options = ["--text", "-", "--level", "warning", "--url", "/x/", "--data", '{"n": 1}', "--from", "bob"]
    call_command("notifier_send", "ann", "--subject", "Deploy", *options, stdout=said)
    (found,) = [one for one in inbox(over_http, user) if one["subject"] == "Deploy"]
    assert found["id"] == said.getvalue().strip()
    assert [found[key] for key in ("text", "level", "url", "data")] == ["from a pipe", "warning", "/x/", {"n": 1}]
    assert found["from"] == {"id": str(other_user.pk), "name": "bob"}


def test_keys_and_groups_are_reached_too(over_http: Service, user: User, other_user: User) -> None:
    other_user.groups.add(Group.objects.create(name="staff"))
    call_command("notifier_send", "--pk", str(user.pk), "--group", "staff", "--subject", "Both ways", stdout=StringIO())
    for one in (user, other_user):
        assert "Both ways" in [message["subject"] for message in inbox(over_http, one)]


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
def test_what_cannot_be_sent_is_said(over_http: Service, args: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("notifier_send", *args, "--subject", "x", stdout=StringIO())


def test_a_service_that_is_away_is_an_error() -> None:
    with (
        override_settings(NOTIFIER=http_settings("http://127.0.0.1:1", TIMEOUT_S=0.1)),
        pytest.raises(CommandError, match="ConnectError"),
    ):
        call_command("notifier_send", "--all", "--subject", "x")


def test_the_memory_transport_is_refused() -> None:
    with pytest.raises(CommandError, match="reach no browser"):
        call_command("notifier_send", "--all", "--subject", "x")
