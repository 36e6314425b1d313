"""`@progress`: calls as tasks, their users and texts, and the kinds of functions it decorates."""

from __future__ import annotations

import asyncio
import inspect
import types
from io import StringIO
from typing import Any

import asgiref.sync
import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.management.base import BaseCommand
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils import translation
from django.utils.translation import gettext_lazy
from django.views import View

from django_bridge import Progress, Task, progress
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox


def shown(*fields: str) -> list[Any]:
    return [tuple(update[field] for field in fields) for update in outbox.task_updates]


def request_of(user: User) -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = user
    return request


def plain_request(user: object) -> Any:
    """An object with a `user` that is no `HttpRequest`."""
    return types.SimpleNamespace(user=user)


def owner_of(row: int, *, task: Any = None) -> User:
    return User.objects.get(username=f"user{row}")


# A call is a task


def test_begin_and_end_are_reported_with_the_texts_of_the_decorator(user: User) -> None:
    @progress("Import", "Begins", "Over")
    def run(request: Any, factor: int, *, task: Task | None = None) -> int:
        """Imports."""
        assert task is not None
        task.set_state("in the middle")
        return factor * 2

    assert run(plain_request(user), 21) == 42
    assert shown("name", "status", "state") == [
        ("Import", "running", "Begins"),
        ("Import", "running", "in the middle"),
        ("Import", "succeeded", "Over"),
    ]
    assert TaskRecord.objects.get().user == user
    assert (run.__name__, run.__doc__) == ("run", "Imports.")
    assert list(inspect.signature(run).parameters) == ["request", "factor", "task"]


def test_an_exception_fails_the_task_and_propagates(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        for i in Progress(range(10), parts=5, task=task):
            if i == 5:
                raise LookupError("row 5")

    with pytest.raises(LookupError, match="row 5"):
        run(plain_request(user))
    assert shown("status", "done", "error")[-2:] == [("running", 5, None), ("failed", 5, "Something went wrong.")]
    assert TaskRecord.objects.get().status == "failed"


def test_a_task_that_the_function_ended_is_not_changed(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Any = None) -> None:
        task.fail("no file")

    run(plain_request(user))
    assert shown("status", "error")[-1] == ("failed", "no file")


def test_nested_decorated_functions_have_separate_tasks(user: User) -> None:
    @progress("inner")
    def inner(request: Any, task: Task | None = None) -> None:
        list(Progress(range(2), parts=2, task=task))

    @progress("outer")
    def outer(request: Any, task: Task | None = None) -> None:
        for _ in Progress(range(2), parts=2, task=task):
            inner(request)
        inner(request, task=task)

    outer(plain_request(user))
    assert sorted(row.name for row in TaskRecord.objects.all()) == ["inner", "inner", "outer"]
    assert all(row.percent == 100 and row.status == "succeeded" for row in TaskRecord.objects.all())


def test_a_function_without_a_task_argument_is_refused_at_its_definition() -> None:
    with pytest.raises(TypeError, match="must take the keyword argument 'task'"):

        @progress("Import")
        def run(request: Any) -> None: ...


async def test_a_coroutine_function_can_be_decorated(user: User) -> None:
    @progress("Import", "begins", "over")
    async def run(request: Any, fails: bool, task: Task | None = None) -> str:
        await asyncio.sleep(0)
        if fails:
            raise LookupError("no")
        return "done"

    assert await run(plain_request(user), False) == "done"
    with pytest.raises(LookupError):
        await run(plain_request(user), True)
    assert shown("status", "state") == [
        ("running", "begins"),
        ("succeeded", "over"),
        ("running", "begins"),
        ("failed", "begins"),
    ]


# Without arguments


def test_without_arguments_the_task_is_named_after_the_function(user: User) -> None:
    @progress
    def import_all_rows(request: Any, factor: int, *, task: Task | None = None) -> int:
        """Imports."""
        return factor * 2

    assert import_all_rows(plain_request(user), 21) == 42
    assert shown("name", "state") == [("Import all rows", "Started"), ("Import all rows", "Finished")]
    assert (import_all_rows.__name__, import_all_rows.__doc__) == ("import_all_rows", "Imports.")
    assert list(inspect.signature(import_all_rows).parameters) == ["request", "factor", "task"]


def test_empty_parentheses_are_the_same(user: User) -> None:
    @progress()
    def _tidy_up(request: Any, task: Task | None = None) -> None: ...

    _tidy_up(plain_request(user))
    assert shown("name")[0] == ("Tidy up",)


async def test_a_coroutine_function_needs_no_arguments_either(user: User) -> None:
    @progress
    async def tidy_up(request: Any, task: Task | None = None) -> str:
        return "done"

    assert await tidy_up(plain_request(user)) == "done"
    assert shown("name", "status") == [("Tidy up", "running"), ("Tidy up", "succeeded")]


# Texts


def test_the_default_texts_are_started_and_finished(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None: ...

    run(plain_request(user))
    assert shown("state") == [("Started",), ("Finished",)]


def test_texts_may_use_the_arguments_of_the_call(user: User) -> None:
    @progress("Import of {path}", "{path}: {rows} rows, {request.user.username}", "{path} is in, {more}")
    def run(request: Any, path: str, rows: int = 5, task: Task | None = None, **options: Any) -> None: ...

    run(plain_request(user), "a.csv", more="and more")
    assert shown("name", "state") == [
        ("Import of a.csv", "a.csv: 5 rows, ann"),
        ("Import of a.csv", "a.csv is in, and more"),
    ]


def test_lazy_translations_stay_lazy_until_the_call(user: User) -> None:
    @progress(gettext_lazy("Yes"), gettext_lazy("No"))
    def run(request: Any, task: Task | None = None) -> None: ...

    with translation.override("de"):
        run(plain_request(user))
    assert shown("name", "state")[0] == ("Ja", "Nein")


@pytest.mark.parametrize("text", ["{nothing}", "{", "{0}", "{request.nothing}"])
def test_a_text_that_does_not_fit_the_arguments_is_refused_before_the_call(user: User, text: str) -> None:
    @progress(text)
    def run(request: Any, task: Task | None = None) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match="does not fit"):
        run(plain_request(user))
    assert not outbox.task_updates


# The user


def test_the_user_is_that_of_the_request_at_any_position(user: User, other_user: User) -> None:
    class View:
        @progress("a")
        def method(self, request: Any, task: Task | None = None) -> None: ...

        @progress("b")
        def owner_first(self, profile: Any, request: Any, task: Task | None = None) -> None: ...

        @progress("c")
        def other_name(self, req: Any, task: Task | None = None) -> None: ...

        @progress("d")
        def by_keyword(self, *, request: Any, **kwargs: Any) -> None: ...

    view, request = View(), plain_request(user)
    view.method(request)
    view.owner_first(plain_request(other_user), request)
    view.other_name(request)
    view.by_keyword(request=request)
    assert {row.name: row.user for row in TaskRecord.objects.all()} == dict.fromkeys("abcd", user)


def test_a_call_without_a_user_is_a_type_error() -> None:
    @progress("Import")
    def run(count: int, task: Task | None = None) -> None: ...

    with pytest.raises(TypeError, match="request"):
        run(3)


def test_the_call_of_an_anonymous_user_runs_without_notifications() -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> str:
        list(Progress(range(3), task=task))
        return "done"

    assert run(plain_request(AnonymousUser())) == "done"
    assert not outbox.task_updates


def test_the_user_may_be_a_named_argument(user: User) -> None:
    @progress("Import", user="owner")
    def run(owner: Any, task: Task | None = None, **options: Any) -> None: ...

    @progress("Import", user="owner")
    def with_options(task: Task | None = None, **options: Any) -> None: ...

    run(user)
    run(owner=user.pk)
    with_options(owner=str(user.pk))
    assert [row.user for row in TaskRecord.objects.all()] == [user] * 3


def test_a_function_of_the_arguments_may_return_the_user() -> None:
    wanted = User.objects.create_user("user7")

    @progress("Import", user=owner_of)
    def run(row: int, *, task: Task | None = None) -> None: ...

    run(7)
    assert TaskRecord.objects.get().user == wanted


def test_a_call_that_names_no_user_is_refused(user: User) -> None:
    @progress("Import", user="owner")
    def run(owner: Any = None, task: Task | None = None) -> None: ...

    with pytest.raises(TypeError, match="'owner' is None"):
        run()


def test_without_a_user_a_call_has_its_row_and_no_user_sees_it() -> None:
    @progress("Nightly", user=None)
    def run(task: Task | None = None) -> int:
        return sum(Progress(range(4), task=task))

    assert run() == 6
    assert (TaskRecord.objects.get().status, TaskRecord.objects.get().to) == ("succeeded", [])
    assert outbox.task_updates == []


# Kinds of functions


def test_it_works_on_the_methods_of_a_class_based_view(user: User) -> None:
    class Export(View):
        @progress
        def get(self, request: HttpRequest, task: Any = None) -> HttpResponse:
            task.set_state("in the middle")
            return HttpResponse("done")

    assert Export.as_view()(request_of(user)).content == b"done"
    assert shown("state") == [("Started",), ("in the middle",), ("Finished",)]


def test_it_works_on_a_management_command(user: User) -> None:
    class Command(BaseCommand):
        @progress("Tidy up", user="user")
        def handle(self, *args: Any, task: Any = None, **options: Any) -> None:
            task.set_state("in the middle")
            self.stdout.write("tidy")

    output = StringIO()
    command = Command(stdout=output)
    command.execute(user=user.pk, force_color=False, no_color=True, skip_checks=True)
    assert (output.getvalue(), TaskRecord.objects.get().user) == ("tidy\n", user)


def test_it_works_on_an_admin_action(user: User) -> None:
    @progress("Publish")
    def publish(modeladmin: Any, request: HttpRequest, queryset: Any, task: Any = None) -> None:
        task.set_state(f"{len(queryset)} rows")

    publish(object(), request_of(user), [1, 2])
    assert shown("state")[1] == ("2 rows",)


async def test_it_works_on_asynchronous_views_and_their_methods(user: User) -> None:
    @progress("Function")
    async def view(request: HttpRequest, task: Task | None = None) -> HttpResponse:
        async for _ in Progress(User.objects.all(), parts=1, task=task):
            pass
        return HttpResponse("done")

    class Export(View):
        @progress("Method of {self.kind}")
        async def get(self, request: HttpRequest, task: Task | None = None) -> HttpResponse:
            assert task is not None
            await task.aset_state("half", done=1, total=2)
            return HttpResponse("done")

        kind = "export"

    request = AsyncRequestFactory().get("/")
    request.user = user
    for function in (view, Export.as_view()):
        assert asgiref.sync.iscoroutinefunction(function)
        assert (await function(request)).content == b"done"
    assert [(task["name"], task["status"], task["done"]) for task in outbox.tasks] == [
        ("Function", "succeeded", 1),
        ("Method of export", "succeeded", 1),
    ]
