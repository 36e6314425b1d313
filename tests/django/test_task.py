"""`Task` and `@progress`: what the browser is told, what the model keeps, and when."""

from __future__ import annotations

import asyncio
import inspect
import types
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import IntegrityError, connection, transaction
from django.utils import translation
from django.utils.translation import gettext_lazy

from django_bridge import ALL, Progress, Task, group, progress
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from notifier.errors import Conflict, InvalidInput, NotFound, PayloadTooLarge
from tests.django.sample.models import SimpleModel


def shown(*fields: str) -> list[Any]:
    """These fields of every update that browsers would have got."""
    return [tuple(update[field] for field in fields) for update in outbox.task_updates]


def request_of(user: object) -> Any:
    return types.SimpleNamespace(user=user)


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="A long task")


# A task by hand


def test_a_task_is_announced_changed_and_ended(user: User, task: Task) -> None:
    assert (task.begun, task.status) == (False, "pending")
    task.begin(state="begins", total=4)
    task.set_state("half", done=2)
    task.end(state="over")
    assert shown("id", "name", "status", "state", "done", "total", "percent") == [
        (task.id, "A long task", "running", "begins", 0, 4, 0),
        (task.id, "A long task", "running", "half", 2, 4, 50),
        (task.id, "A long task", "succeeded", "over", 2, 4, 50),
    ]
    assert task.ended


def test_the_model_keeps_each_state(user: User, task: Task) -> None:
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
    # When it was brought up to date is said by whoever keeps the task, after it ended here.
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


def test_what_is_called_first_begins_the_task(user: User) -> None:
    for first in (lambda t: t.set_state("now"), lambda t: t.advance(), lambda t: t.end(), lambda t: t.fail("x")):
        outbox.clear()
        first(Task(from_user=user, task_name="Print"))
        assert [status for (status,) in shown("status")][:-1] == ["running"]


def test_a_second_begin_changes_the_state_and_announces_nothing_new(task: Task) -> None:
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


def test_after_the_end_nothing_changes(task: Task) -> None:
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


def test_a_failure_is_told_whatever_characters_it_holds(task: Task) -> None:
    task.begin()
    task.fail(ValueError("bad \x00 \ud800 " + "x" * 3000))
    error = TaskRecord.objects.get().error
    assert error.startswith("ValueError: bad \ufffd \ufffd xxx")
    assert len(error) == 2000


def test_the_watchers_may_be_others_than_the_sender(user: User, other_user: User) -> None:
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


def test_a_task_that_nobody_could_see_is_refused(user: User) -> None:
    with pytest.raises(InvalidInput, match="to_users"):
        Task(task_name="Print")
    with pytest.raises(InvalidInput, match="to_users"):
        Task(from_user=user, task_name="Print", to_users=[]).begin()


def test_a_task_for_more_people_than_a_call_can_name_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="use a group"):
        Task(task_name="Print", to_users=range(1_000_000, 1_010_000)).begin()
    Task(task_name="Print", to_users=range(1_000_000, 1_003_000)).begin()


def test_the_task_of_an_anonymous_user_is_kept_and_shown_to_nobody() -> None:
    task = Task(from_user=AnonymousUser(), task_name="Print")
    task.begin(total=2)
    task.advance()
    task.end(state="over")
    row = TaskRecord.objects.get()
    assert (row.user, row.to, row.status, row.done, row.state) == (None, [], "succeeded", 1, "over")
    assert not outbox.task_updates


def test_a_users_wish_to_cancel_is_known_after_the_next_change(task: Task) -> None:
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


def test_another_process_goes_on_with_a_task(user: User, task: Task) -> None:
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


def test_progress_goes_out_at_once_inside_a_transaction_and_the_row_follows_its_fate(task: Task) -> None:
    task.begin(total=4)
    with transaction.atomic():
        task.set_state("half", done=2)
        assert shown("done") == [(0,), (2,)]
        transaction.set_rollback(True)
    assert TaskRecord.objects.get().done == 0
    task.set_state("more")
    assert TaskRecord.objects.get().done == 2


def test_a_row_that_was_rolled_back_comes_again_with_the_next_change(user: User, task: Task) -> None:
    with transaction.atomic():
        task.begin(state="begins", total=4)
        transaction.set_rollback(True)
    assert not TaskRecord.objects.exists()
    task.end()
    row = TaskRecord.objects.get()
    assert (row.status, row.user, row.total) == ("succeeded", user, 4)


def test_a_broken_transaction_does_not_hide_the_exception_behind_it(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        User.objects.create_user("ann")  # breaks the transaction: the name is taken

    with pytest.raises(IntegrityError), transaction.atomic():
        run(request_of(user))
    assert shown("status") == [("running",), ("failed",)]


def test_a_table_that_is_missing_breaks_neither_the_caller_nor_its_transaction(user: User, task: Task) -> None:
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


# Progress with a task


def test_a_pass_reports_to_its_task_and_the_model(user: User, task: Task, rows: int) -> None:
    task.begin(state="begins")
    kept = []
    for _ in Progress(
        SimpleModel.objects.all(), parts=5, task=task, callback=lambda: kept.append(TaskRecord.objects.get().percent)
    ):
        pass
    task.end()
    assert shown("status", "done", "total", "percent") == [
        ("running", 0, None, None),
        *[("running", done, rows, done * 100 // rows) for done in (4, 8, 12, 16, 20)],
        ("succeeded", 20, 20, 100),
    ]
    assert kept == [20, 40, 60, 80, 100]


def test_a_pass_begins_a_task_that_has_not_begun(task: Task) -> None:
    list(Progress(range(4), parts=2, task=task))
    assert shown("done", "total") == [(0, 4), (2, 4), (4, 4)]


def test_a_pass_over_nothing_is_at_100_percent(task: Task) -> None:
    task.begin()
    list(Progress([], task=task))
    assert shown("done", "total", "percent") == [(0, None, None), (0, 0, 100)]


def test_a_pass_that_is_left_early_tells_its_task_how_far_it_came(task: Task) -> None:
    for i in Progress(range(100), parts=10, task=task):
        if i == 25:
            break
    task.end(state="found it")
    assert shown("status", "done", "percent")[-2:] == [("running", 25, 25), ("succeeded", 25, 25)]


def test_an_overlong_iterable_never_shows_100_percent_before_its_end(task: Task) -> None:
    for i in Progress(iter(range(20)), total=10, parts=2, task=task):
        if i == 12:
            break
    assert shown("done", "total", "percent")[-1] == (12, 13, 92)


def test_of_nested_passes_the_task_shows_the_outermost(task: Task) -> None:
    seen = []
    for _ in Progress(range(2), parts=2, task=task):
        for _ in Progress(range(3), parts=3, task=task, callback=lambda: seen.append("inner")):
            pass
    assert shown("done", "total") == [(0, 2), (1, 2), (2, 2)]
    assert len(seen) == 6


def test_of_two_passes_one_after_the_other_the_task_shows_both(task: Task) -> None:
    for _ in Progress(range(10), parts=1, task=task):
        break
    list(Progress(range(4), parts=2, task=task))
    assert shown("done", "total") == [(0, 10), (0, 10), (2, 4), (4, 4)]


def test_a_task_that_ended_inside_the_loop_is_left_alone(task: Task) -> None:
    for i in Progress(range(10), parts=5, task=task):
        if i == 4:
            task.end(state="enough")
    assert shown("status", "done")[-1] == ("succeeded", 4)


async def test_an_async_for_reports_to_its_task(user: User, task: Task, rows: int) -> None:
    async for _ in Progress(SimpleModel.objects.all(), parts=5, task=task):
        pass
    assert shown("done", "total") == [(0, 20), (4, 20), (8, 20), (12, 20), (16, 20), (20, 20)]
    async for _ in Progress(SimpleModel.objects.all(), parts=1, task=task):
        break
    async for _ in Progress(SimpleModel.objects.all(), parts=1, task=task):
        pass
    assert shown("done", "total")[6:] == [(20, 20)]


# The decorator


def test_the_decorator_announces_the_begin_and_the_end_with_its_texts(user: User) -> None:
    @progress("Import", "It begins", "It is over")
    def run(request: Any, factor: int, *, task: Task | None = None) -> int:
        """Imports."""
        assert task is not None
        task.set_state("in it")
        return factor * 2

    assert run(request_of(user), 21) == 42
    assert shown("name", "status", "state") == [
        ("Import", "running", "It begins"),
        ("Import", "running", "in it"),
        ("Import", "succeeded", "It is over"),
    ]
    assert TaskRecord.objects.get().user == user
    assert (run.__name__, run.__doc__) == ("run", "Imports.")
    assert list(inspect.signature(run).parameters) == ["request", "factor", "task"]


def test_without_texts_there_are_plain_ones(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None: ...

    run(request_of(user))
    assert shown("state") == [("Started",), ("Finished",)]


def test_an_exception_fails_the_task_and_goes_on(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        for i in Progress(range(10), parts=5, task=task):
            if i == 5:
                raise LookupError("row 5")

    with pytest.raises(LookupError, match="row 5"):
        run(request_of(user))
    assert shown("status", "done", "error")[-2:] == [("running", 5, None), ("failed", 5, "LookupError: row 5")]
    assert TaskRecord.objects.get().status == "failed"


def test_a_task_that_the_function_ended_by_itself_stays_as_it_is(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Any = None) -> None:
        task.fail("no file")

    run(request_of(user))
    assert shown("status", "error")[-1] == ("failed", "no file")


def test_the_user_is_that_of_the_request_wherever_it_stands(user: User, other_user: User) -> None:
    class View:
        @progress("a")
        def method(self, request: Any, task: Task | None = None) -> None: ...

        @progress("b")
        def owner_first(self, profile: Any, request: Any, task: Task | None = None) -> None: ...

        @progress("c")
        def other_name(self, req: Any, task: Task | None = None) -> None: ...

        @progress("d")
        def by_keyword(self, *, request: Any, **kwargs: Any) -> None: ...

    view, request = View(), request_of(user)
    view.method(request)
    view.owner_first(request_of(other_user), request)
    view.other_name(request)
    view.by_keyword(request=request)
    assert {row.name: row.user for row in TaskRecord.objects.all()} == dict.fromkeys("abcd", user)


def test_a_call_without_a_user_is_a_type_error() -> None:
    @progress("Import")
    def run(count: int, task: Task | None = None) -> None: ...

    with pytest.raises(TypeError, match="request"):
        run(3)


def test_a_function_that_takes_no_task_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="must take the keyword argument 'task'"):

        @progress("Import")
        def run(request: Any) -> None: ...


def test_an_anonymous_user_gets_the_work_done_without_notifications() -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> str:
        list(Progress(range(3), task=task))
        return "done"

    assert run(request_of(AnonymousUser())) == "done"
    assert not outbox.task_updates


def test_decorated_functions_inside_one_another_are_tasks_of_their_own(user: User) -> None:
    @progress("inner")
    def inner(request: Any, task: Task | None = None) -> None:
        list(Progress(range(2), parts=2, task=task))

    @progress("outer")
    def outer(request: Any, task: Task | None = None) -> None:
        for _ in Progress(range(2), parts=2, task=task):
            inner(request)
        inner(request, task=task)

    outer(request_of(user))
    assert sorted(row.name for row in TaskRecord.objects.all()) == ["inner", "inner", "outer"]
    assert all(row.percent == 100 and row.status == "succeeded" for row in TaskRecord.objects.all())


async def test_a_coroutine_function_is_decorated_too(user: User) -> None:
    @progress("Import", "begins", "over")
    async def run(request: Any, fails: bool, task: Task | None = None) -> str:
        await asyncio.sleep(0)
        if fails:
            raise LookupError("no")
        return "done"

    assert await run(request_of(user), False) == "done"
    with pytest.raises(LookupError):
        await run(request_of(user), True)
    assert shown("status", "state") == [
        ("running", "begins"),
        ("succeeded", "over"),
        ("running", "begins"),
        ("failed", "begins"),
    ]
