"""What users see of an exception, and what staff sees."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import translation
from django.utils.translation import gettext_lazy

from django_bridge import Task, progress
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from tests.django.settings import NOTIFIER

SECRET = "postgres://admin:hunter2@db/orders"


def own_text(exc: BaseException) -> Any:
    return gettext_lazy("Yes") if isinstance(exc, LookupError) else None


def broken(exc: BaseException) -> str:
    raise ZeroDivisionError("in the function itself")


def fail(user: User, exc: Exception) -> TaskRecord:
    @progress("Import", user="user")
    def run(user: User, task: Task | None = None) -> None:
        raise exc

    with pytest.raises(type(exc)):
        run(user)
    return TaskRecord.objects.get()


def shown() -> Any:
    return outbox.task_updates[-1]["error"]


def test_users_see_a_generic_text_and_staff_the_traceback(user: User) -> None:
    row = fail(user, ValueError(f"cannot connect to {SECRET}"))
    assert (shown(), row.error) == ("Something went wrong.",) * 2
    assert SECRET not in repr([outbox.task_updates, row.error, row.state])
    assert row.traceback
    assert "Traceback (most recent call last)" in row.traceback
    assert f"ValueError: cannot connect to {SECRET}" in row.traceback

    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    page = client.get(f"/admin/django_bridge/taskrecord/{row.pk}/change/").content.decode()
    assert f"ValueError: cannot connect to {SECRET}" in page
    client.force_login(user)
    assert SECRET not in client.get("/notifier/history/").content.decode()


@pytest.mark.parametrize("function", [own_text, f"{__name__}.own_text"])
def test_a_function_of_the_project_says_more_in_the_users_language(user: User, function: Any) -> None:
    with override_settings(NOTIFIER={**NOTIFIER, "ERROR_TEXT": function}), translation.override("de"):
        fail(user, LookupError("row 5"))
        assert shown() == "Ja"
        TaskRecord.objects.all().delete()
        fail(user, ValueError("row 6"))
        assert shown() == "Etwas ist schiefgegangen."


def test_a_function_that_fails_is_logged_and_the_generic_text_is_shown(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(NOTIFIER={**NOTIFIER, "ERROR_TEXT": broken}):
        fail(user, LookupError("row 5"))
    assert shown() == "Something went wrong."
    assert "NOTIFIER['ERROR_TEXT'] failed for LookupError" in caplog.text


def test_the_text_before_this_setting_is_one_of_its_values(user: User) -> None:
    with override_settings(NOTIFIER={**NOTIFIER, "ERROR_TEXT": "django_bridge.texts.error_text"}):
        fail(user, LookupError("row 5"))
    assert shown() == "LookupError: row 5"


def test_a_text_is_shown_as_it_is(user: User) -> None:
    Task(from_user=user, task_name="Import").fail("The file has no rows")
    assert shown() == "The file has no rows"
    assert not TaskRecord.objects.get().traceback


def test_a_long_traceback_keeps_its_end(user: User) -> None:
    row = fail(user, ValueError("x" * 50_000 + "the end"))
    assert row.traceback is not None
    assert len(row.traceback) == 20_000
    assert row.traceback.rstrip().endswith("the end")
