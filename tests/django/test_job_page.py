"""`progress_page`, the current task, and a project that has no `NOTIFIER` while it is developed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path, re_path

from django_bridge import Progress, Task, current_task, progress, progress_page, thread_runs
from django_bridge.checks import check_settings, check_urls
from django_bridge.conf import DEVELOPMENT_URL, settings
from django_bridge.models import TaskRecord
from django_bridge.page import config_of
from django_bridge.testing import outbox
from tests.django.checking import no_live_use
from tests.django.test_decorator import plain_request
from tests.support import wait_for


def report(request: HttpRequest) -> None:
    for _ in Progress(range(4), parts=2):
        pass


async def later(request: HttpRequest) -> None:
    async for _ in Progress(range(4), parts=2):
        pass


@progress("Own name", end="Own end")
def decorated(request: HttpRequest, task: Task | None = None) -> None:
    report(request)


def broken(request: HttpRequest) -> None:
    raise LookupError("no")


may_end = threading.Event()


def waiting(request: HttpRequest) -> None:
    may_end.wait()


def serve_page(request: HttpRequest, page: str = "") -> HttpResponse:
    raise Http404


urlpatterns = [
    path("admin/", admin.site.urls),
    path("report/", progress_page(report)),
    path("later/", progress_page(later, "Asynchronous")),
    path("decorated/", progress_page(decorated)),
    path("broken/", progress_page(broken)),
    path("waiting/", progress_page(waiting)),
]


@pytest.fixture
def here() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__):
        yield


@pytest.fixture
def visitor(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def ended() -> list[tuple[Any, ...]]:
    return [(task["name"], task["status"], task["done"]) for task in outbox.tasks if task["ended_at"]]


# The page


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("report", ("Report", "succeeded", 4)),
        ("later", ("Asynchronous", "succeeded", 4)),
        ("decorated", ("Own name", "succeeded", 4)),
        ("broken", ("Broken", "failed", 0)),
    ],
)
def test_the_button_runs_the_function_as_a_task_of_the_user(visitor: Client, name: str, task: Any) -> None:
    answer = visitor.post(f"/{name}/")
    assert (answer.status_code, answer["Location"]) == (302, f"/{name}/")
    rows = TaskRecord.objects.filter(status=task[1])
    wait_for(lambda: ended() == [task] and rows.exists(), what="the end of the task")


@pytest.mark.usefixtures("here")
def test_the_runs_of_a_user_and_of_a_process_are_bounded(
    visitor: Client, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Client()
    other.force_login(other_user)
    monkeypatch.setattr(thread_runs, "MAX_USER_RUNS", 2)
    monkeypatch.setattr(thread_runs, "MAX_RUNS", 3)
    may_end.clear()
    try:
        assert [visitor.post("/waiting/").status_code for _ in range(3)] == [302, 302, 429]
        assert [other.post("/waiting/").status_code for _ in range(2)] == [302, 429]
        refused = visitor.post("/report/").content.decode()
        assert "Too many runs at once" in refused
        assert "csrfmiddlewaretoken" in refused
        threads = [thread for thread in threading.enumerate() if thread.name == "progress_page Waiting"]
        assert [thread.daemon for thread in threads] == [True] * 3, "the process ends without them"
    finally:
        may_end.set()
    for thread in threads:
        thread.join()
    assert visitor.post("/report/").status_code == 302
    wait_for(lambda: ended()[-1] == ("Report", "succeeded", 4), what="the end of the task")


@pytest.mark.usefixtures("here")
def test_the_page_shows_the_button_and_the_widgets_and_starts_nothing(visitor: Client) -> None:
    text = visitor.get("/report/").content.decode()
    scheme = '<meta name="color-scheme" content="light dark">'
    for part in ("<title>Report</title>", scheme, "csrfmiddlewaretoken", "notifier/django.js", "<notifier-tasks>"):
        assert part in text
    assert outbox.tasks == []


@pytest.mark.usefixtures("here")
def test_a_post_without_the_csrf_token_starts_nothing(user: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    assert strict.post("/report/").status_code == 403
    assert outbox.tasks == []


@pytest.mark.usefixtures("here")
def test_a_visitor_logs_in_first_in_the_admin_where_the_project_has_no_other_page() -> None:
    client = Client()
    for call in (client.get, client.post):
        assert call("/report/")["Location"] == "/admin/login/?next=/report/"
    # As Wagtail's pattern for pages, which takes every path and answers 404 for this one.
    everything = re_path(r"^((?:[\w\-]+/)*)$", serve_page)
    with override_settings(ROOT_URLCONF=(*urlpatterns, everything)):
        assert client.get("/report/")["Location"] == "/admin/login/?next=/report/"
    with override_settings(ROOT_URLCONF=(*urlpatterns, path("accounts/login/", serve_page), everything)):
        assert client.get("/report/")["Location"] == "/accounts/login/?next=/report/"
    with override_settings(LOGIN_URL="/later/"):
        assert client.get("/report/")["Location"] == "/later/?next=/report/"
    elsewhere = "https://sso.example.org/login"
    with override_settings(LOGIN_URL=elsewhere):
        assert client.get("/report/")["Location"] == f"{elsewhere}?next=/report/"


@pytest.mark.usefixtures("here")
def test_a_page_renews_its_token_where_the_project_includes_no_urls_of_the_package(
    visitor: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_live_use(monkeypatch)
    assert check_urls(None) == []
    config = config_of(user)
    assert config is not None
    answer = visitor.get(config["tokenUrl"])
    assert set(answer.json()) == {"token", "expires_in"}
    assert Client().get(config["tokenUrl"]).status_code == 401


# The current task


def test_a_progress_without_a_task_reports_to_that_of_the_function(user: User) -> None:
    seen: list[Any] = []

    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        seen.extend([current_task() is task, task is not None])
        report(request)
        for _ in Progress(range(2), callback=lambda: None):  # reports to its callback
            pass

    run(plain_request(user))
    assert seen == [True, True]
    assert current_task() is None
    assert ended() == [("Import", "succeeded", 4)]


def test_a_task_that_the_caller_passes_is_the_current_one(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> object:
        return current_task()

    given = Task(from_user=user, task_name="Given")
    assert run(plain_request(user), task=given) is given


# Without NOTIFIER


@contextmanager
def without_notifier(**more: Any) -> Iterator[None]:
    with override_settings(**more):
        del django_settings.NOTIFIER
        yield


def test_under_debug_a_project_without_settings_has_the_service_beside_it() -> None:
    with without_notifier(DEBUG=True):
        current = settings()
        assert current.url == current.public_url == DEVELOPMENT_URL
        assert check_settings(None) == []
        assert len({current.api_key, current.jwt_secret, django_settings.SECRET_KEY}) == 3
        with override_settings(SECRET_KEY="of another project"):
            assert settings().jwt_secret != current.jwt_secret


def test_the_environment_may_name_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_URL", "http://127.0.0.1:9001")
    with without_notifier(DEBUG=True):
        assert settings().url == "http://127.0.0.1:9001"


@pytest.mark.parametrize("named", [{}, {"OUTBOX": True}])
def test_under_debug_settings_that_name_no_service_leave_it_as_it_is(named: dict[str, Any]) -> None:
    with without_notifier(DEBUG=True):
        secrets = settings().api_key, settings().jwt_secret
    with override_settings(DEBUG=True, NOTIFIER=named):
        current = settings()
        assert check_settings(None) == []
        assert (current.url, current.api_key, current.jwt_secret) == (DEVELOPMENT_URL, *secrets)
        assert current.outbox is ("OUTBOX" in named)


@pytest.mark.parametrize("named", [{"URL": "http://notifier:8000"}, {"JWT_SECRET": "x" * 32}, {"TRANSPORT": "redis"}])
def test_settings_that_name_a_service_are_not_completed(named: dict[str, Any]) -> None:
    with override_settings(DEBUG=True, NOTIFIER=named), pytest.raises(ImproperlyConfigured, match="is missing"):
        settings()


def test_in_production_settings_that_name_no_service_are_refused() -> None:
    with override_settings(DEBUG=False, NOTIFIER={"OUTBOX": True}), pytest.raises(ImproperlyConfigured, match="'URL'"):
        settings()


def test_in_production_a_project_without_settings_is_refused() -> None:
    with without_notifier(DEBUG=False):
        with pytest.raises(ImproperlyConfigured, match="NOTIFIER is missing"):
            settings()
        assert [message.id for message in check_settings(None)] == ["notifier.E001"]
