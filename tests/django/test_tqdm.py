"""`django_bridge.tqdm`: bars of other packages' loops report to the task."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_bridge import Progress, Task, TaskCancelled, current_task, progress
from django_bridge.testing import outbox
from django_bridge.tqdm import tqdm, trange
from tests.django.test_decorator import plain_request


def reports() -> list[tuple[Any, ...]]:
    return [(update["state"], update["done"], update["total"]) for update in outbox.task_updates]


def run(user: User, work: Any) -> None:
    @progress("Import", "", "over")
    def decorated(request: Any, task: Task | None = None) -> None:
        work()

    decorated(plain_request(user))


def test_a_loop_reports_its_numbers_and_its_description_to_the_current_task(user: User) -> None:
    def work() -> None:
        for _ in tqdm([1, 2, 3], desc="Reading", mininterval=0):
            pass

    run(user, work)
    assert [report for n, report in enumerate(reports()) if report not in reports()[:n]] == [
        ("", 0, None),
        *(("Reading", done, 3) for done in range(4)),
        ("over", 3, 3),
    ]


def test_a_bar_that_is_updated_by_hand_reports(user: User) -> None:
    def work() -> None:
        with tqdm(total=10, mininterval=0) as bar:
            bar.update(4)
            bar.set_description("Writing")
            bar.update(8)  # more than the total

    run(user, work)
    assert ("", 4, 10) in reports()
    assert ("Writing", 12, 12) in reports()


def test_of_nested_bars_the_task_shows_the_outermost(user: User) -> None:
    def work() -> None:
        for _ in trange(2, mininterval=0):
            list(trange(50, mininterval=0))
            list(Progress(range(70)))
        for _ in Progress(range(3)):
            list(trange(90, mininterval=0))

    run(user, work)
    assert {total for _, _, total in reports()} == {None, 2, 3}


def test_a_cancel_ends_the_loop_and_leaves_tqdm_usable(user: User) -> None:
    done: list[int] = []

    def work() -> None:
        task = current_task()
        for n in trange(100, mininterval=0):
            done.append(n)
            if n == 3:
                outbox.request_cancel(task.id)
            time.sleep(0)

    run(user, work)
    assert outbox.tasks[0]["status"] == "cancelled"
    assert 4 <= len(done) < 100
    assert list(trange(3, file=io.StringIO())) == [0, 1, 2]


def test_a_given_task_begins_with_the_bar(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    bar = tqdm(total=2, task=task, mininterval=0)
    bar.update()
    assert (task.status, task.done, task.total) == ("running", 1, 2)
    outbox.request_cancel(task.id)
    with pytest.raises(TaskCancelled):
        bar.update()
    bar.close()


def test_without_a_task_it_draws_as_tqdm_does() -> None:
    drawn = io.StringIO()
    assert list(tqdm([1, 2], file=drawn)) == [1, 2]
    assert "2/2" in drawn.getvalue()


def test_with_a_task_it_draws_only_where_it_is_asked_to(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = io.StringIO()
    run(user, lambda: (list(trange(2)), list(trange(2, file=drawn))))
    assert "2/2" in drawn.getvalue()
    assert capsys.readouterr().err == ""
