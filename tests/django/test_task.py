"""`Task`: what is sent to the browser and written to the row, and when."""

from __future__ import annotations

import types
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import IntegrityError, connection, transaction
from django.utils import translation
from django.utils.translation import gettext_lazy

from django_bridge import ALL, Task, group, progress
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from notifier.errors import Conflict, InvalidInput, NotFound, PayloadTooLarge
from tests.django.sample.models import SimpleModel


def shown(*fields: str) -> list[Any]:
    """These fields of every update that browsers would receive."""
    return [tuple(update[field] for field in fields) for update in outbox.task_updates]


def request_of(user: object) -> Any:
    return types.SimpleNamespace(user=user)


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="A long task")


def test_a_task_begins_changes_and_ends(user: User, task: Task) -> None:
    assert (task.begun, task.status) == (False, "pending")
    task.begin(state="begins", total=4)
    task.set_state("half", done=2)
    task.end(state="over")
    assert shown("id", "name", "status", "state", "done", "total", "percent") == [
        (task.id, "A long task", "running", "begins", 0, 4, 0),
        (task.id, "A long task", "running", "half", 2, 4, 50),
        (task.id, "A long task", "succeeded", "over", 2, 4, 100),
    ]
    assert task.ended


def test_the_row_has_each_state(user: User, task: Task) -> None:
    assert not TaskRecord.objects.exists()
    task.begin(state="begins", total=4)
    row = TaskRecord.objects.get()
    assert (row.pk, row.name, row.user, row.status, row.state) == (task.id, "A long task", user, "running", "begins")
    assert row.to == [f"user:{user.pk}"]
    task.set_state("half", done=2)
    row.refresh_from_db()
    assert (row.state, row.done, row.total, row.percent, row.ended_at) == ("half", 2, 4, 50, None)
    task.end()
    row.refresh_from_db()
    assert (row.status, row.state) == ("succeeded", "half")
    # `updated_at` is from the service's clock, `ended_at` from this one.
    assert row.ended_at is not None
    assert abs(row.updated_at - row.ended_at) < timedelta(seconds=5)


def test_a_task_may_fail_or_be_cancelled(user: User) -> None:
    for finish in (lambda task: task.fail("no paper"), lambda task: task.cancelled(state="given up")):
        task = Task(from_user=user, task_name="Print")
        task.begin()
        finish(task)
        row = TaskRecord.objects.get(pk=task.id)
        assert row.status == task.status
    assert shown("status", "state", "error")[1::2] == [("failed", "", "no paper"), ("cancelled", "given up", None)]


def test_the_first_change_begins_the_task(user: User) -> None:
    for first in (lambda t: t.set_state("now"), lambda t: t.advance(), lambda t: t.end(), lambda t: t.fail("x")):
        outbox.clear()
        first(Task(from_user=user, task_name="Print"))
        assert [status for (status,) in shown("status")][:-1] == ["running"]


def test_a_second_begin_only_changes_the_state(task: Task) -> None:
    task.begin(state="first")
    task.begin(state="second", total=3)
    task.begin()
    assert shown("state", "total") == [("first", None), ("second", 3)]


def test_advance_adds_up(task: Task) -> None:
    task.begin(total=10)
    task.advance()
    task.advance(4)
    assert (task.done, task.percent) == (5, 50)
    assert TaskRecord.objects.get().done == 5


def test_a_change_after_the_end_is_refused(task: Task) -> None:
    task.begin()
    task.end()
    for change in (task.end, task.advance, lambda: task.set_state("more"), lambda: task.fail("late")):
        with pytest.raises(Conflict):
            change()
    assert len(outbox.task_updates) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda task: task.begin(state="\ud800"),
        lambda task: task.begin(total=-1),
        lambda task: task.set_state("x" * 2001),
        lambda task: task.set_state(done=1.5),
        lambda task: task.set_state(done=5, total=4),
        lambda task: task.advance(-1),
        lambda task: task.end(state="a\x00b"),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(user: User, change: Any) -> None:
    task = Task(from_user=user, task_name="Print")
    task.begin(state="good", total=4)
    with pytest.raises(InvalidInput):
        change(task)
    assert len(outbox.task_updates) == 1
    assert TaskRecord.objects.get().state == "good"
    task.end()


@pytest.mark.parametrize("name", ["", " ", 7, "x" * 256, "a\x00b"])
def test_a_bad_name_is_refused_at_the_begin(user: User, name: Any) -> None:
    with pytest.raises(InvalidInput, match="name"):
        Task(from_user=user, task_name=name).begin()
    assert not TaskRecord.objects.exists()


def test_invalid_characters_of_an_error_are_replaced_and_a_long_one_is_cut(task: Task) -> None:
    task.begin()
    task.fail("bad \x00 \ud800 " + "x" * 3000)
    error = TaskRecord.objects.get().error
    assert error.startswith("bad \ufffd \ufffd xxx")
    assert len(error) == 2000


def test_to_users_may_be_others_than_from_user(user: User, other_user: User) -> None:
    staff = Group.objects.create(name="staff")
    Task(from_user=user, task_name="a", to_users=[other_user, staff]).begin()
    Task(from_user=None, task_name="b", to_users=ALL).begin()
    Task(from_user=user.pk, task_name="c").begin()
    Task(task_name="d", to_users=group("x")).begin()
    rows = {row.name: (row.user, row.to) for row in TaskRecord.objects.all()}
    assert rows == {
        "a": (user, ["group:staff", f"user:{other_user.pk}"]),
        "b": (None, ["all"]),
        "c": (user, [f"user:{user.pk}"]),
        "d": (None, ["group:x"]),
    }


def test_a_task_without_recipients_is_refused(user: User) -> None:
    with pytest.raises(InvalidInput, match="to_users"):
        Task(task_name="Print")
    with pytest.raises(InvalidInput, match="to_users"):
        Task(from_user=user, task_name="Print", to_users=[]).begin()


def test_a_task_with_too_many_recipients_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="use a group"):
        Task(task_name="Print", to_users=range(1_000_000, 1_010_000)).begin()
    Task(task_name="Print", to_users=range(1_000_000, 1_003_000)).begin()


def test_the_task_of_an_anonymous_user_has_a_row_and_is_not_shown() -> None:
    task = Task(from_user=AnonymousUser(), task_name="Print")
    task.begin(total=2)
    task.advance()
    task.end(state="over")
    row = TaskRecord.objects.get()
    assert (row.user, row.to, row.status, row.done, row.state) == (None, [], "succeeded", 1, "over")
    assert not outbox.task_updates


def test_a_cancel_request_is_known_after_the_next_change(task: Task) -> None:
    task.begin()
    outbox.request_cancel(task.id)
    assert not task.cancel_requested
    task.set_state("on it")
    assert task.cancel_requested
    assert task.status == "cancelling"
    row = TaskRecord.objects.get()
    assert (row.status, row.cancel_requested) == ("cancelling", True)
    task.cancelled()
    assert TaskRecord.objects.get().status == "cancelled"


def test_lazy_translations_are_text(user: User) -> None:
    lazy = gettext_lazy("Yes")
    with translation.override("de"):
        task = Task(from_user=user, task_name=lazy)
        task.begin(state=lazy)
        task.end(state=lazy)
    assert shown("name", "state") == [("Ja", "Ja")] * 2


def test_another_process_resumes_a_task(user: User, task: Task) -> None:
    task.begin(state="begins", total=4)
    other = Task.resume(task.id)
    other.advance(3)
    other.end()
    assert shown("id", "name", "status", "done", "total")[-1] == (task.id, "A long task", "succeeded", 3, 4)
    assert TaskRecord.objects.get().user == user
    with pytest.raises(Conflict):
        Task.resume(task.id).end()
    with pytest.raises(NotFound):
        Task.resume("none")


def test_in_a_transaction_changes_are_sent_at_once_and_a_rollback_undoes_the_row(task: Task) -> None:
    task.begin(total=4)
    with transaction.atomic():
        task.set_state("half", done=2)
        assert shown("done") == [(0,), (2,)]
        transaction.set_rollback(True)
    assert TaskRecord.objects.get().done == 0
    task.set_state("more")
    assert TaskRecord.objects.get().done == 2


def test_a_row_that_was_rolled_back_is_written_again_by_the_next_change(user: User, task: Task) -> None:
    with transaction.atomic():
        task.begin(state="begins", total=4)
        transaction.set_rollback(True)
    assert not TaskRecord.objects.exists()
    task.end()
    row = TaskRecord.objects.get()
    assert (row.status, row.user, row.total) == ("succeeded", user, 4)


def test_a_broken_transaction_does_not_hide_its_exception(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        User.objects.create_user("ann")  # breaks the transaction: the name is taken

    with pytest.raises(IntegrityError), transaction.atomic():
        run(request_of(user))
    assert shown("status") == [("running",), ("failed",)]


def test_a_missing_table_breaks_neither_the_caller_nor_its_transaction(user: User, task: Task) -> None:
    with connection.schema_editor() as editor:
        editor.delete_model(TaskRecord)
    try:
        with transaction.atomic():
            task.begin()
            SimpleModel.objects.create(title="kept")
            task.end()
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(TaskRecord)
    assert SimpleModel.objects.count() == 1
    assert shown("status") == [("running",), ("succeeded",)]
