"""`Progress` with a task: what the task reports of its loops."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from django_bridge import Progress, Task
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from tests.django.sample.models import SimpleModel


def shown(*fields: str) -> list[Any]:
    """These fields of every update that browsers would receive."""
    return [tuple(update[field] for field in fields) for update in outbox.task_updates]


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="A long task")


def test_a_loop_reports_to_its_task_and_the_row(user: User, task: Task, rows: int) -> None:
    task.begin(state="begins")
    percents: list[int | None] = []

    def note() -> None:
        percents.append(TaskRecord.objects.get().percent)

    for _ in Progress(SimpleModel.objects.all(), parts=5, task=task, callback=note):
        pass
    task.end()
    assert shown("status", "done", "total", "percent") == [
        ("running", 0, None, None),
        *[("running", done, rows, done * 100 // rows) for done in (4, 8, 12, 16, 20)],
        ("succeeded", 20, 20, 100),
    ]
    assert percents == [20, 40, 60, 80, 100]


def test_a_loop_begins_a_task_that_has_not_begun(task: Task) -> None:
    list(Progress(range(4), parts=2, task=task))
    assert shown("done", "total") == [(0, 4), (2, 4), (4, 4)]


def test_an_empty_loop_is_at_100_percent(task: Task) -> None:
    task.begin()
    list(Progress([], task=task))
    assert shown("done", "total", "percent") == [(0, None, None), (0, 0, 100)]


def test_a_loop_that_is_left_early_reports_the_items_done(task: Task) -> None:
    for i in Progress(range(100), parts=10, task=task):
        if i == 25:
            break
    task.end(state="found it")
    assert shown("status", "done", "percent")[-2:] == [("running", 25, 25), ("succeeded", 25, 100)]
    row = TaskRecord.objects.get()
    assert (row.done, row.total, row.percent) == (25, 100, 100)


def test_an_overlong_iterable_never_shows_100_percent_before_its_end(task: Task) -> None:
    for i in Progress(iter(range(20)), total=10, parts=2, task=task):
        if i == 12:
            break
    assert shown("done", "total", "percent")[-1] == (12, 13, 92)


def test_of_nested_loops_the_task_shows_the_outermost(task: Task) -> None:
    seen = []
    for _ in Progress(range(2), parts=2, task=task):
        for _ in Progress(range(3), parts=3, task=task, callback=lambda: seen.append("inner")):
            pass
    assert shown("done", "total") == [(0, 2), (1, 2), (2, 2)]
    assert len(seen) == 6


def test_of_two_successive_loops_the_task_shows_both(task: Task) -> None:
    for _ in Progress(range(10), parts=1, task=task):
        break
    list(Progress(range(4), parts=2, task=task))
    assert shown("done", "total") == [(0, 10), (0, 10), (2, 4), (4, 4)]


def test_a_task_that_ended_inside_the_loop_is_not_changed(task: Task) -> None:
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
