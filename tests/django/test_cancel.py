"""Cancelling: where it interrupts the work, where it does not, and how the task ends."""

from __future__ import annotations

import pickle
import time
import types
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from django_bridge import Progress, Task, TaskCancelled, progress, publisher
from django_bridge.models import TaskRecord
from django_bridge.task import reporter
from django_bridge.testing import outbox
from django_bridge.tokens import subscriber_token
from tests.django.conftest import http_settings
from tests.support import Service, free_port


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="Import")


def ended() -> tuple[str, str, int]:
    row = TaskRecord.objects.get()
    return row.status, row.state, row.done


def walk(task: Task, cancel_at: int, seen: list[int] | None = None, click: Any = outbox.request_cancel) -> list[int]:
    """Loop over ten items in five parts; a user cancels during item `cancel_at`. Returns the items whose body ran."""
    seen = [] if seen is None else seen
    for i in Progress(range(10), parts=5, task=task):
        seen.append(i)
        if i == cancel_at:
            click(task.id)
    return seen


def test_the_loop_ends_after_the_part_in_which_a_user_cancels(task: Task) -> None:
    seen: list[int] = []
    with pytest.raises(TaskCancelled, match=f"the task {task.id} was cancelled by a user"):
        walk(task, 2, seen)
    assert seen == [0, 1, 2, 3]
    assert ended() == ("cancelled", "", 4)
    assert (task.ended, outbox.tasks[0]["status"], task.active_loop) == (True, "cancelled", None)


@pytest.mark.parametrize("is_decorated", [True, False])
def test_a_cancel_that_rolls_back_a_transaction_is_in_the_row(user: User, is_decorated: bool) -> None:
    def work(task: Task) -> None:
        with transaction.atomic():
            walk(task, 2)

    if is_decorated:
        progress("Import", user="user")(lambda user, task=None: work(task))(user)
    else:
        with pytest.raises(TaskCancelled), Task(from_user=user, task_name="Import") as task:
            work(task)
    assert ended()[::2] == ("cancelled", 4)


def test_the_exception_can_be_pickled(task: Task) -> None:
    copy = pickle.loads(pickle.dumps(TaskCancelled(task.id)))
    assert (copy.task_id, str(copy)) == (task.id, str(TaskCancelled(task.id)))


def test_the_state_is_the_cancelled_text_of_the_task(task: Task) -> None:
    task.cancelled_text = "Stopped on your request"
    task.begin("On it")
    with pytest.raises(TaskCancelled):
        walk(task, 0)
    assert ended()[:2] == ("cancelled", "Stopped on your request")


def test_a_cancel_during_the_last_part_is_ignored(task: Task) -> None:
    assert walk(task, 9) == list(range(10))
    task.end("All in")
    assert ended() == ("succeeded", "All in", 10)


def test_the_next_loop_of_the_task_is_cancelled(task: Task) -> None:
    walk(task, 9)
    with pytest.raises(TaskCancelled):
        walk(task, -1)
    assert ended()[0] == "cancelled"


def test_a_nested_loop_is_cancelled_too(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "REFRESH_S", 0)
    inner: list[int] = []

    def nested() -> None:
        for _ in Progress(range(2), parts=1, task=task):
            walk(task, 4, inner)

    with pytest.raises(TaskCancelled):
        nested()
    assert inner == [0, 1, 2, 3, 4, 5]
    assert ended() == ("cancelled", "", 0)


def test_a_shielded_part_is_not_interrupted_and_the_part_after_it_is(task: Task) -> None:
    outer: list[int] = []
    inner: list[int] = []

    def click(task_id: str) -> None:
        if len(outer) == 2:
            outbox.request_cancel(task_id)
            task.set_state("in the middle")

    def nested() -> None:
        for i in Progress(range(4), parts=4, task=task):
            outer.append(i)
            with task.shield(), task.shield():
                walk(task, 0, inner, click)

    with pytest.raises(TaskCancelled):
        nested()
    assert (outer, len(inner)) == ([0, 1], 20)
    assert ended() == ("cancelled", "in the middle", 2)


def test_code_without_progress_may_check(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    task.raise_if_cancelled()
    task.begin()
    outbox.request_cancel(task.id)
    task.raise_if_cancelled()  # not asked: the last answer is younger than a second
    monkeypatch.setattr(reporter, "REFRESH_S", 0)
    with pytest.raises(TaskCancelled):
        task.raise_if_cancelled()
    task.raise_if_cancelled()  # it has ended


def test_the_service_is_asked_once_a_second_at_most(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reporter.REFRESH_S == 1
    monkeypatch.setattr(reporter, "REFRESH_S", 0.1)
    started = time.monotonic()
    task.begin()
    begun = len(outbox.task_updates)
    while len(outbox.task_updates) < begun + 3:
        task.raise_if_cancelled()
    assert time.monotonic() - started >= 0.3
    assert {update["done"] for update in outbox.task_updates} == {0}


def test_an_unreachable_service_is_not_asked_more_often(task: Task) -> None:
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)):
        task.begin(total=3)
        failed = publisher.current().counts.failed
        for _ in range(1000):
            task.raise_if_cancelled()
        assert publisher.current().counts.failed == failed


def test_changes_that_failed_are_sent_when_the_service_is_asked(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    task.begin(total=9)
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)):
        task.set_state("half", done=4)
        task.advance(2)
    monkeypatch.setattr(reporter, "REFRESH_S", 0)
    task.raise_if_cancelled()
    assert (outbox.tasks[0]["state"], outbox.tasks[0]["done"], task.done) == ("half", 6, 6)


def test_failing_the_task_with_its_cancel_ends_it_as_cancelled(user: User) -> None:
    for ending in (lambda task, exc: task.fail(exc), lambda task, exc: task.cancelled("again")):
        TaskRecord.objects.all().delete()
        task = Task(from_user=user, task_name="Import")
        try:
            walk(task, 0)
        except TaskCancelled as exc:
            ending(task, exc)
        assert (ended()[0], TaskRecord.objects.get().error) == ("cancelled", "")


async def test_an_async_for_ends_after_the_part_in_which_a_user_cancels(task: Task) -> None:
    seen: list[int] = []

    async def numbers() -> Any:
        for n in range(10):
            yield n

    async def run() -> None:
        async for i in Progress(numbers(), parts=5, task=task, total=10):
            seen.append(i)
            if i == 2:
                outbox.request_cancel(task.id)

    with pytest.raises(TaskCancelled):
        await run()
    assert seen == [0, 1, 2, 3]
    assert task.active_loop is None
    assert [task["status"] for task in outbox.tasks] == ["cancelled"]


# The decorator


def request_of(user: User) -> Any:
    return types.SimpleNamespace(user=user)


def test_a_decorated_function_returns_none(user: User) -> None:
    @progress("Import", cancelled="Stopped")
    def run(request: Any, task: Any = None) -> Any:
        return walk(task, 0)

    assert run(request_of(user)) is None
    assert ended() == ("cancelled", "Stopped", 2)


def test_the_default_text_is_cancelled(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Any = None) -> None:
        walk(task, 0)

    run(request_of(user))
    assert ended()[1] == "Cancelled"


async def test_a_decorated_coroutine_returns_none(user: User) -> None:
    @progress("Import")
    async def run(request: Any, task: Any = None) -> Any:
        async def numbers() -> Any:
            yield 1
            outbox.request_cancel(task.id)
            yield 2
            yield 3

        return [i async for i in Progress(numbers(), parts=3, task=task, total=3)]

    assert await run(request_of(user)) is None
    assert [(task["status"], task["done"]) for task in outbox.tasks] == [("cancelled", 2)]


def test_a_decorated_view_answers_without_content(user: User) -> None:
    @progress("Import")
    def view(request: HttpRequest, task: Any = None) -> HttpResponse:
        walk(task, 0)
        return HttpResponse("done")

    request = RequestFactory().get("/")
    request.user = user
    assert view(request).status_code == 204


def test_with_raise_cancelled_the_exception_propagates(user: User) -> None:
    @progress("Import", raise_cancelled=True)
    def run(request: Any, task: Any = None) -> None:
        walk(task, 0)

    with pytest.raises(TaskCancelled):
        run(request_of(user))
    assert ended()[:2] == ("cancelled", "Cancelled")


def test_the_cancel_of_another_task_fails_this_one(user: User) -> None:
    @progress("Outer")
    def run(request: Any, task: Any = None) -> None:
        walk(Task(from_user=user, task_name="Inner"), 0)

    with pytest.raises(TaskCancelled):
        run(request_of(user))
    assert dict(TaskRecord.objects.values_list("name", "status")) == {"Outer": "failed", "Inner": "cancelled"}


# The service


def test_a_click_in_the_browser_ends_the_loop(live: Service, user: User, task: Task) -> None:
    def click(task_id: str) -> None:
        with live.user(str(user.pk)) as client:
            client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()

    seen: list[int] = []
    with pytest.raises(TaskCancelled):
        walk(task, 2, seen, click)
    assert seen == [0, 1, 2, 3]
    assert ended()[0] == "cancelled"
    with live.user(str(user.pk)) as client:
        (shown,) = [kept for kept in client.get("/v1/tasks").json()["tasks"] if kept["id"] == task.id]
    assert (shown["status"], shown["done"]) == ("cancelled", 4)


def is_staff(user: User) -> bool:
    return user.is_staff


@pytest.mark.parametrize("allowed", [True, False])
def test_a_setting_says_who_may_cancel_the_tasks_of_groups(allowed: bool) -> None:
    chief = User.objects.create_user("chief", is_staff=allowed)
    with override_settings(
        NOTIFIER={**http_settings("http://unused"), "MAY_CANCEL": "tests.django.test_cancel.is_staff"}
    ):
        claims = jwt.decode(subscriber_token(chief), options={"verify_signature": False})
    assert claims.get("cancel", False) is allowed
