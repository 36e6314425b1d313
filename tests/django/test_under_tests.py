"""A project under tests: the default transport and fixtures, with Django's test runner and with pytest-django."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment

from django_bridge import Message, conf, publisher
from django_bridge.testing import outbox
from tests.django.conftest import http_settings
from tests.support import REPOSITORY

NOWHERE = http_settings("http://127.0.0.1:1", TIMEOUT_S=0.1, RAISE=True)

SETTINGS = f"""
SECRET_KEY = "for tests"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "django_bridge"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "static/"
ROOT_URLCONF = "urls"
NOTIFIER = {NOWHERE!r}
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("hello"))]
"""
UNITTESTS = """
from pathlib import Path

import httpx
from django.contrib.auth.models import User
from django.test import LiveServerTestCase, TestCase, TransactionTestCase

from django_bridge import Message
from django_bridge.testing import LiveNotifierMixin, NotificationAssertions, outbox
from django_bridge.tokens import subscriber_token


class Automatic(NotificationAssertions, TransactionTestCase):
    def test_one(self):
        Message(to_users=1, subject="One").send()
        self.assertEqual([message["subject"] for message in outbox.messages], ["One"])

    def test_two(self):
        self.assertEqual(outbox.messages, [])


class Asserting(NotificationAssertions, TestCase):
    def test_it(self):
        with self.assertNotified(1, subject="One"):
            Message(to_users=1, subject="One").send()


class Live(LiveNotifierMixin, LiveServerTestCase):
    def test_the_service_gets_the_projects_messages_and_its_pages_may_connect(self):
        Path("address").write_text(self.notifier_url)
        self.assertEqual(httpx.get(self.live_server_url).text, "hello")
        user = User.objects.create(username="ann")
        Message(to_users=user, subject="One").send()
        answer = httpx.get(
            f"{self.notifier_url}/v1/inbox",
            headers={"Authorization": f"Bearer {subscriber_token(user)}", "Origin": self.live_server_url},
        )
        self.assertEqual([message["subject"] for message in answer.json()["messages"]], ["One"])
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], self.live_server_url)
        self.assertEqual(outbox.messages, [])
"""
PYTESTS = """
from pathlib import Path

import httpx
import pytest

from django_bridge import Event, Message, Task


def test_nothing_leaves(transactional_db, notification_outbox):
    Message(to_users=1, subject="One").send()
    assert [message["subject"] for message in notification_outbox.messages] == ["One"]


def test_each_test_begins_with_an_empty_outbox(notification_outbox):
    assert notification_outbox.messages == []


def test_blocks(db, assert_notified, assert_not_notified, capture_notifications):
    with assert_notified(1, subject="One"):
        Message(to_users=1, subject="One").send()
    with assert_not_notified():
        pass
    with pytest.raises(AssertionError), assert_not_notified():
        Message(to_users=1, subject="One").send()
    with capture_notifications() as sent:
        Message(to_users=1, subject="One").send()
        assert sent.messages == []
    assert len(sent.messages) == 1


def test_tasks_and_events(db, notifier):
    with Task(from_user=1, task_name="Import") as task:
        task.set_state(done=3, total=4)
        notifier.assert_task("Import", status="running", progress=75)
        with pytest.raises(AssertionError, match="no task 'Import' with"):
            notifier.assert_task("Import", status="succeeded")
    assert notifier.assert_task("Import", status="succeeded", progress=100)["id"] == task.id
    with notifier.capture() as sent:
        Event(type="paid", to_users=1).send()
        other = Task(from_user=1, task_name="Other")
        other.begin()
        notifier.request_cancel(other)
        notifier.assert_task("Other", status="cancelling")
    assert [event["type"] for event in sent.events] == ["paid"]
    assert [task["name"] for task in notifier.tasks] == ["Import"]


def test_the_real_service(transactional_db, live_server, live_notifier, notification_outbox, admin_user):
    Message(to_users=admin_user, subject="One").send()
    Path("address").write_text(live_notifier.url)
    assert httpx.get(f"{live_notifier.url}/readyz").status_code == 200
    assert notification_outbox.messages == []
"""

PARALLEL = """
import pytest
from django_bridge import Task
from django_bridge.models import TaskRecord


@pytest.mark.parametrize("n", range(12))
def test_each_sees_only_its_own(db, notifier, n):
    assert not TaskRecord.objects.exists()
    with Task(from_user=n + 1, task_name=f"Import {n}"):
        pass
    notifier.assert_task(f"Import {n}", status="succeeded")
    assert len(notifier.tasks) == 1
"""
PARALLEL_UNITTESTS = "".join(
    f"""
from django.test import TestCase
from django_bridge import Task
from django_bridge.testing import NotificationAssertions, outbox


class Case{n}(NotificationAssertions, TestCase):
    def setUp(self):
        super().setUp()
        with Task(from_user={n + 1}, task_name="Import"):
            pass

    def test_first(self):
        self.assertTask("Import", status="succeeded")
        self.assertEqual(len(outbox.tasks), 1)

    test_second = test_first
"""
    for n in range(4)
)

OTHERS = ("asyncio", "schemathesis", "hypothesispytest", "valkey", "anyio", "cacheprovider")
"""Plugins that are installed here: loading them costs more than the tests."""
PYTEST = ["pytest", "-q", *(f"-pno:{other}" for other in OTHERS)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "urls.py").write_text(URLS)
    return tmp_path


def run(project: Path, *command: str) -> str:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", *command],
        cwd=project,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{project}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    output = process.stdout + process.stderr
    assert process.returncode == 0, output
    return output


def is_gone(url: str) -> bool:
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    return True


@pytest.mark.slow
def test_under_djangos_runner_nothing_leaves_and_the_mixins_work(project: Path) -> None:
    (project / "test_it.py").write_text(UNITTESTS)
    assert "Ran 4 tests" in run(project, "django", "test")
    assert is_gone((project / "address").read_text())


@pytest.mark.slow
def test_under_pytest_django_nothing_leaves_and_the_fixtures_work(project: Path) -> None:
    (project / "test_it.py").write_text(PYTESTS)
    assert "5 passed" in run(project, *PYTEST)
    assert is_gone((project / "address").read_text())


@pytest.mark.slow
def test_parallel_runs_on_a_kept_database_share_nothing(project: Path) -> None:
    database = "{'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db', 'TEST': {'NAME': 'test_db'}}"
    (project / "settings.py").write_text(f"{SETTINGS}\nDATABASES = {{'default': {database}}}")
    (project / "test_it.py").write_text(PARALLEL)
    for processes in ("1", "2"):  # the second run keeps the database of the first, and adds another
        assert "12 passed" in run(project, *PYTEST, "-n", processes, "--reuse-db")


@pytest.mark.slow
def test_parallel_processes_of_djangos_runner_share_nothing(project: Path) -> None:
    (project / "test_it.py").write_text(PARALLEL_UNITTESTS)
    assert "Ran 8 tests" in run(project, "django", "test", "--parallel", "2")


@pytest.mark.slow
def test_without_a_django_project_the_plugin_does_not_load_django(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert 'django_bridge.testing.pytest_plugin' in sys.modules\n"
        "    assert 'django' not in sys.modules\n    assert 'httpx' not in sys.modules\n"
    )
    assert "1 passed" in run(tmp_path, *PYTEST, "-p", "no:django")


# The transport


@pytest.fixture
def tested() -> Iterator[None]:
    setup_test_environment()
    try:
        yield
    finally:
        teardown_test_environment()


@override_settings(NOTIFIER=NOWHERE)
def test_the_transport_is_memory_from_the_setup_of_the_test_environment_to_its_end() -> None:
    assert conf.settings().transport == "http"
    setup_test_environment()
    try:
        assert conf.settings().transport == "memory"
        Message(to_users=1, subject="One").send()
        assert len(outbox.messages) == 1
    finally:
        teardown_test_environment()
    assert conf.settings().transport == "http"


def test_a_project_can_choose_another_transport(tested: None) -> None:
    with override_settings(NOTIFIER={**NOWHERE, "TEST_TRANSPORT": "http"}):
        assert conf.settings().transport == "http"
        assert type(publisher.current().transport).__name__ == "HttpTransport"


def test_the_locmem_e_mail_backend_alone_is_no_test_environment() -> None:
    from django.core import mail
    from django.core.mail.backends import locmem

    locmem.EmailBackend()
    assert hasattr(mail, "outbox")
    with override_settings(NOTIFIER=NOWHERE):
        assert conf.settings().transport == "http"
    del mail.outbox
