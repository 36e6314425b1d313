"""`ReportedBackend` around each backend: what users see of a task to which nothing was added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory, override_settings
from django.utils.translation import gettext_lazy

from django_bridge import TaskCancelled
from django_bridge.middleware import current_user
from django_bridge.models import TaskRecord
from django_bridge.tasks_backend import ReportedBackend
from django_bridge.testing import outbox
from tests.django import background_tasks as tasks

IMMEDIATE = f"{tasks.PACKAGE}.backends.immediate.ImmediateBackend"
DUMMY = f"{tasks.PACKAGE}.backends.dummy.DummyBackend"


@contextmanager
def backend(path: str = IMMEDIATE, **options: Any) -> Iterator[None]:
    options = {"BACKEND": path, **options}
    value = {"default": {"BACKEND": "django_bridge.tasks_backend.ReportedBackend", "OPTIONS": options}}
    with override_settings(TASKS=value):
        yield


def rows() -> dict[str, tuple[str, int]]:
    return {row.name: (row.status, row.done) for row in TaskRecord.objects.all()}


def test_a_task_is_queued_runs_and_ends_under_the_id_of_its_result(user: User) -> None:
    with backend():
        result = tasks.import_rows.enqueue(user.pk, 10)
    row = TaskRecord.objects.get()
    assert (row.pk, row.user, row.name, row.status, row.done) == (result.id, user, "Import rows", "succeeded", 10)
    assert (result.status, result.return_value) == ("SUCCESSFUL", 10)
    statuses = list(dict.fromkeys(update["status"] for update in outbox.task_updates))
    assert statuses == ["pending", "running", "succeeded"]


def test_a_backend_without_a_worker_leaves_the_task_pending(user: User) -> None:
    with backend(DUMMY):
        tasks.import_rows.enqueue(user.pk, 10)
    assert rows() == {"Import rows": ("pending", 0)}
    assert outbox.tasks[0]["status"] == "pending"


def test_a_failure_is_that_of_the_task(user: User) -> None:
    with backend():
        result = tasks.import_rows.enqueue(user.pk, 10, broken_at=4)
    row = TaskRecord.objects.get()
    assert (result.status, row.status, row.done, row.error) == ("FAILED", "failed", 4, "Something went wrong.")
    assert "LookupError: row 4" in str(row.traceback)


@pytest.mark.parametrize("is_caught", [False, True], ids=["raised", "caught by the function"])
def test_a_cancelled_task_is_not_successful(user: User, is_caught: bool) -> None:
    with backend():
        result = tasks.cancelled_by_user.enqueue(user.pk, is_caught)
    assert (result.status, TaskRecord.objects.get().status) == ("FAILED", "cancelled")
    assert result.errors[0].exception_class_path == "django_bridge.task.cancel.TaskCancelled"


def test_a_task_that_was_cancelled_while_it_was_queued_does_not_run(user: User) -> None:
    with backend(DUMMY):
        queued = tasks.export_rows.enqueue(user.pk, "/admin/")
    outbox.request_cancel(queued.id)
    with backend():
        job = tasks.export_rows.get_backend().job(queued)
        with pytest.raises(TaskCancelled):
            job.started()
    assert (TaskRecord.objects.get().status, outbox.output_of(queued.id)) == ("cancelled", "")


@pytest.mark.parametrize(
    ("value", "is_link"),
    [
        ("https://example.org/export.csv", True),
        ("/admin/?year=2026", True),
        ("/tmp/export.csv", False),
        ("312 rows", False),
        ("javascript:alert(1)", False),
    ],
)
def test_a_returned_url_is_the_link(user: User, value: str, is_link: bool) -> None:
    with backend():
        tasks.export_rows.enqueue(user.pk, value)
    row = TaskRecord.objects.get()
    assert (row.status, row.url) == ("succeeded", value if is_link else "")
    assert outbox.output_of(row.pk) == "Half of it\n"


def test_the_option_result_makes_the_link(user: User) -> None:
    with backend(RESULT={"tests.django.background_tasks.import_rows": lambda value: (f"/rows/{value}/", "Show")}):
        tasks.import_rows.enqueue(user.pk, 3)
    row = TaskRecord.objects.get()
    assert (row.url, row.url_text) == ("/rows/3/", "Show")


def test_a_result_that_is_no_link_does_not_keep_the_task_from_its_end(user: User) -> None:
    with backend(RESULT=lambda value: "javascript:alert(1)"):
        tasks.import_rows.enqueue(user.pk, 3)
    with backend(RESULT=lambda value: 1 // 0):
        tasks.import_rows.enqueue(user.pk, 3)
    assert [(row.status, row.url) for row in TaskRecord.objects.all()] == [("succeeded", "")] * 2


def german(user: User) -> str:
    return "de"


def test_the_option_name_is_in_the_language_of_the_user(user: User) -> None:
    names = {"tests.django.background_tasks.import_rows": gettext_lazy("Yes")}
    settings = {"TRANSPORT": "memory", "USER_LANGUAGE": f"{__name__}.german"}
    with backend(NAME=names), override_settings(NOTIFIER=settings):
        tasks.import_rows.enqueue(user.pk, 3)
    assert list(rows()) == ["Ja"]


def test_names_may_use_the_arguments(user: User) -> None:
    with backend(NAME="{items} rows"):
        tasks.import_rows.enqueue(user.pk, items=3)
    assert rows() == {"3 rows": ("succeeded", 3)}


def owner(*args: Any, **kwargs: Any) -> Any:
    return User.objects.get(username="bob")


@pytest.mark.parametrize("option", [owner, f"{__name__}.owner"], ids=["a function", "its path"])
def test_the_option_user_names_the_owner(user: User, other_user: User, option: Any) -> None:
    with backend(USER=option):
        tasks.import_rows.enqueue(user.pk, 3)
    assert TaskRecord.objects.get().user == other_user


def test_the_user_of_the_request_owns_what_it_queues(user: User, other_user: User) -> None:
    def view(request: Any) -> Any:
        tasks.report.enqueue("Sales")
        tasks.import_rows.enqueue(other_user.pk, 1)
        return SimpleNamespace()

    request = RequestFactory().get("/")
    request.user = user
    with backend():
        current_user(view)(request)
    assert {row.name: row.user for row in TaskRecord.objects.all()} == {"Report": user, "Import rows": other_user}


async def test_an_asynchronous_view_owns_what_it_queues(user: User) -> None:
    async def view(request: Any) -> Any:
        return await tasks.report.aenqueue("Sales")

    request = RequestFactory().get("/")
    request.user = user
    with backend():
        result: Any = await current_user(view)(request)  # type: ignore[misc]  # a coroutine, as the view
    row = await TaskRecord.objects.select_related("user").aget(pk=result.id)
    assert (row.user, row.status) == (user, "succeeded")


def test_a_task_without_an_owner_runs_unreported(user: User) -> None:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    with backend(SKIP=["tests.django.background_tasks.import_rows"]):
        assert tasks.import_rows.enqueue(user.pk, 3).status == "SUCCESSFUL"
        current_user(lambda request: tasks.report.enqueue("Sales"))(request)
    assert rows() == {}


def test_an_error_of_the_report_is_logged_and_the_task_runs(user: User, caplog: pytest.LogCaptureFixture) -> None:
    with backend(USER="no.such.function"):
        assert tasks.import_rows.enqueue(user.pk, 3).status == "SUCCESSFUL"
    assert "a job could not be reported" in caplog.text


def test_tasks_within_tasks_coroutines_contexts_and_decorated_tasks(user: User) -> None:
    with backend():
        result = tasks.outer.enqueue(user.pk)
        tasks.wait_for_rows.enqueue(user.pk, 4)
        assert tasks.with_context.enqueue(user.pk).return_value == 1
        tasks.decorated.enqueue(user.pk)
    assert result.return_value == result.id
    assert sorted(TaskRecord.objects.values_list("name", "status", "done")) == [
        ("By the decorator", "succeeded", 0),
        ("Import rows", "succeeded", 3),
        ("Outer", "succeeded", 0),
        ("Wait for rows", "succeeded", 4),
        ("With context", "succeeded", 0),
    ]


def test_the_wrapped_backend_keeps_its_class_its_options_and_its_methods() -> None:
    from django.utils.module_loading import import_string

    with backend(DUMMY, own_option=1):
        wrapped = tasks.import_rows.get_backend()
        assert isinstance(wrapped, import_string(DUMMY))
        assert isinstance(wrapped, ReportedBackend)
        assert wrapped.options == {"own_option": 1}
        wrapped.clear()


@pytest.mark.parametrize("options", [{}, {"BACKEND": "django.forms.Form"}], ids=["missing", "no backend"])
def test_a_wrong_option_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"BACKEND|no backend"):
        ReportedBackend("default", {"OPTIONS": options})
