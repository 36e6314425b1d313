"""`@progress`: whose task it is, what it says, and on what it works."""

from __future__ import annotations

import inspect
import types
from io import StringIO
from typing import Any

import asgiref.sync
import pytest
from django.contrib.auth.models import User
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


def owner_of(row: int, *, task: Any = None) -> User:
    return User.objects.get(username=f"user{row}")


# Without arguments


def test_without_arguments_the_task_is_named_after_the_function(user: User) -> None:
    @progress
    def import_all_rows(request: Any, factor: int, *, task: Task | None = None) -> int:
        """Imports."""
        return factor * 2

    assert import_all_rows(types.SimpleNamespace(user=user), 21) == 42
    assert shown("name", "state") == [("Import all rows", "Started"), ("Import all rows", "Finished")]
    assert (import_all_rows.__name__, import_all_rows.__doc__) == ("import_all_rows", "Imports.")
    assert list(inspect.signature(import_all_rows).parameters) == ["request", "factor", "task"]


def test_empty_brackets_are_the_same(user: User) -> None:
    @progress()
    def _tidy_up(request: Any, task: Task | None = None) -> None: ...

    _tidy_up(types.SimpleNamespace(user=user))
    assert shown("name")[0] == ("Tidy up",)


async def test_a_coroutine_function_needs_no_arguments_either(user: User) -> None:
    @progress
    async def tidy_up(request: Any, task: Task | None = None) -> str:
        return "done"

    assert await tidy_up(types.SimpleNamespace(user=user)) == "done"
    assert shown("name", "status") == [("Tidy up", "running"), ("Tidy up", "succeeded")]


# Texts


def test_texts_may_use_the_arguments_of_the_call(user: User) -> None:
    @progress("Import of {path}", "{path}: {rows} rows, {request.user.username}", "{path} is in, {more}")
    def run(request: Any, path: str, rows: int = 5, task: Task | None = None, **options: Any) -> None: ...

    run(types.SimpleNamespace(user=user), "a.csv", more="and more")
    assert shown("name", "state") == [
        ("Import of a.csv", "a.csv: 5 rows, ann"),
        ("Import of a.csv", "a.csv is in, and more"),
    ]


def test_lazy_translations_stay_lazy_until_the_call(user: User) -> None:
    @progress(gettext_lazy("Yes"), gettext_lazy("No"))
    def run(request: Any, task: Task | None = None) -> None: ...

    with translation.override("de"):
        run(types.SimpleNamespace(user=user))
    assert shown("name", "state")[0] == ("Ja", "Nein")


@pytest.mark.parametrize("text", ["{nothing}", "{", "{0}", "{request.nothing}"])
def test_a_text_that_does_not_fit_the_call_is_refused_before_the_work(user: User, text: str) -> None:
    @progress(text)
    def run(request: Any, task: Task | None = None) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match="does not fit"):
        run(types.SimpleNamespace(user=user))
    assert not outbox.task_updates


# Whose task it is


def test_the_user_may_be_a_named_argument(user: User) -> None:
    @progress("Import", user="owner")
    def run(owner: Any, task: Task | None = None, **options: Any) -> None: ...

    @progress("Import", user="owner")
    def with_options(task: Task | None = None, **options: Any) -> None: ...

    run(user)
    run(owner=user.pk)
    with_options(owner=str(user.pk))
    assert [row.user for row in TaskRecord.objects.all()] == [user] * 3


def test_the_user_may_be_found_by_a_function_of_the_arguments() -> None:
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


# On what it works


def test_it_works_on_the_methods_of_a_class_based_view(user: User) -> None:
    class Export(View):
        @progress
        def get(self, request: HttpRequest, task: Any = None) -> HttpResponse:
            task.set_state("in it")
            return HttpResponse("done")

    assert Export.as_view()(request_of(user)).content == b"done"
    assert shown("state") == [("Started",), ("in it",), ("Finished",)]


def test_it_works_on_a_management_command(user: User) -> None:
    class Command(BaseCommand):
        @progress("Tidy up", user="user")
        def handle(self, *args: Any, task: Any = None, **options: Any) -> None:
            task.set_state("in it")
            self.stdout.write("tidy")

    said = StringIO()
    command = Command(stdout=said)
    command.execute(user=user.pk, force_color=False, no_color=True, skip_checks=True)
    assert (said.getvalue(), TaskRecord.objects.get().user) == ("tidy\n", user)


def test_it_works_on_an_admin_action(user: User) -> None:
    @progress("Publish")
    def publish(modeladmin: Any, request: HttpRequest, queryset: Any, task: Any = None) -> None:
        task.set_state(f"{len(queryset)} rows")

    publish(object(), request_of(user), [1, 2])
    assert shown("state")[1] == ("2 rows",)


async def test_it_works_on_an_asynchronous_view_and_on_the_methods_of_one(user: User) -> None:
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
    for one in (view, Export.as_view()):
        assert asgiref.sync.iscoroutinefunction(one)
        assert (await one(request)).content == b"done"
    assert [(one["name"], one["status"], one["done"]) for one in outbox.tasks] == [
        ("Function", "succeeded", 1),
        ("Method of export", "succeeded", 1),
    ]
