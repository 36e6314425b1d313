"""A task as a context manager, in asynchronous code, and as an argument of a Celery task."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from kombu.utils import json

from django_bridge import Progress, Task, TaskCancelled
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from notifier.errors import Conflict
from tests.django.conftest import http_settings
from tests.support import free_port


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="Import")


def shown(*fields: str) -> list[Any]:
    return [tuple(update[field] for field in fields) for update in outbox.task_updates]


# A context manager


def test_a_block_begins_and_ends_its_task(user: User) -> None:
    with Task(from_user=user, task_name="Import") as task:
        assert shown("status") == [("running",)]
        for _ in Progress(range(4), parts=2, task=task):
            pass
    assert shown("status", "done")[-1] == ("succeeded", 4)
    assert TaskRecord.objects.get().status == "succeeded"


def test_an_exception_fails_the_task_and_propagates(task: Task) -> None:
    with pytest.raises(LookupError, match="row 5"), task:
        raise LookupError("row 5")
    assert shown("status", "error")[-1] == ("failed", "Something went wrong.")


def test_a_cancel_ends_the_task_as_cancelled_and_propagates(task: Task) -> None:
    def click() -> None:
        outbox.request_cancel(task.id)

    with pytest.raises(TaskCancelled), task:
        list(Progress(range(4), parts=4, task=task, callback=click))
    assert TaskRecord.objects.get().status == "cancelled"


def test_a_task_that_was_ended_inside_is_not_changed(task: Task) -> None:
    with task:
        task.end("Nothing to do")
    assert shown("status", "state")[1:] == [("succeeded", "Nothing to do")]


def test_a_task_that_has_begun_is_continued(task: Task) -> None:
    task.begin("Waiting")
    with Task.resume(task.id) as other:
        other.set_state("On it")
    assert shown("status", "state") == [("running", "Waiting"), ("running", "On it"), ("succeeded", "On it")]


def test_an_unreachable_service_does_not_replace_the_exception_of_the_block(task: Task) -> None:
    unreachable = http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, RAISE=True)

    def work() -> None:
        with task, override_settings(NOTIFIER=unreachable):
            task.shield()
            raise LookupError("row 5")

    with pytest.raises(LookupError, match="row 5"):
        work()


def test_a_task_that_has_ended_is_not_begun_again(task: Task) -> None:
    task.end()
    with task:
        pass
    with pytest.raises(Conflict):
        task.advance()
    assert [status for (status,) in shown("status")] == ["running", "succeeded"]


# Asynchronous code


async def test_every_call_can_be_awaited(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    await task.abegin("begins", total=4)
    await task.aset_state("half", done=2)
    await task.aadvance()
    await task.araise_if_cancelled()
    await task.aend("over")
    assert shown("status", "state", "done", "total") == [
        ("running", "begins", 0, 4),
        ("running", "half", 2, 4),
        ("running", "half", 3, 4),
        ("succeeded", "over", 3, 4),
    ]
    failed, given_up = (Task(from_user=user, task_name="Import") for _ in range(2))
    await failed.afail(ValueError("no"), "bad")
    await given_up.acancelled("enough")
    assert shown("status", "state", "error")[-3:] == [
        ("failed", "bad", "Something went wrong."),
        ("running", "", None),
        ("cancelled", "enough", None),
    ]


async def test_an_asynchronous_block_begins_and_ends_its_task(user: User) -> None:
    async with Task(from_user=user, task_name="Import") as task:
        await task.aadvance(2)
    assert shown("status", "done") == [("running", 0), ("running", 2), ("succeeded", 2)]


async def test_an_exception_fails_the_task_of_an_asynchronous_block(user: User) -> None:
    with pytest.raises(LookupError):
        async with Task(from_user=user, task_name="Import"):
            raise LookupError("row 5")
    assert shown("status", "error")[-1] == ("failed", "Something went wrong.")


# Celery


def test_as_an_argument_a_task_is_its_id(task: Task) -> None:
    task.begin()
    (task_id,) = json.loads(json.dumps([task]))
    assert task_id == task.id
    Task.resume(task_id).end()
