"""Quick advances: how often they are sent, that none is lost, and that several processes may send them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from django_bridge import Progress, Task, TaskCancelled, publisher
from django_bridge.models import TaskRecord
from django_bridge.task import reconcile, reporter, scheduler
from django_bridge.task.reporter import PACE_S
from django_bridge.testing import outbox
from tests.django.conftest import FOLDER
from tests.support import REPOSITORY, Service, wait_for


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="Import")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The times at which this process changed a task in the service, by the monotonic clock."""
    times: list[float] = []
    real = publisher.Publisher.change_task

    def change_task(self: Any, task_id: str, change: Any, key: str) -> Any:
        times.append(time.monotonic())
        return real(self, task_id, change, key)

    monkeypatch.setattr(publisher.Publisher, "change_task", change_task)
    return times


def shown(service: Service, user: User, task: Task | str) -> dict[str, Any]:
    task_id = task if isinstance(task, str) else task.id
    with service.user(str(user.pk)) as client:
        (kept,) = [kept for kept in client.get("/v1/tasks").json()["tasks"] if kept["id"] == task_id]
    return dict(kept)


@pytest.mark.slow
def test_a_tight_loop_sends_ten_times_a_second(
    live: Service,
    user: User,
    task: Task,
    calls: list[float],
) -> None:
    task.begin(total=10_000_000)
    started = time.monotonic()
    n = 0
    while n < 1000 or time.monotonic() < started + 1.2:
        task.advance()
        n += 1
        assert n > 1 or len(calls) == 1, "the first is sent at once"
    wait_for(lambda: shown(live, user, task)["done"] == n, what="the last advance")
    assert n > 3 * len(calls)
    # Since the start, not between two: one that a busy machine starts late is followed by one in time.
    assert all(at - started > n * PACE_S - 0.001 for n, at in enumerate(calls))
    task.set_state("all in")
    assert (task.done, TaskRecord.objects.get().done) == (n, n)


def test_an_advance_that_waited_for_anothers_call_is_not_sent_right_behind_it(
    live: Service, user: User, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two advances wait for a call. One sends both; what is added meanwhile waits for the pace, not for the other."""
    monkeypatch.setattr(reporter, "PACE_S", 60.0)  # longer than the test on any machine
    monkeypatch.setattr(reporter, "SLOW_S", 60.0)
    real = publisher.Publisher.change_task
    advances: list[int] = []
    is_calling, both_wait = threading.Event(), threading.Event()

    def change_task(self: Any, task_id: str, change: Any, key: str) -> Any:
        if "state" in change:
            is_calling.set()
            assert both_wait.wait(60)
        else:
            advances.append(change["advance"])
            task.advance()  # as a loop in another thread does while the service answers
        return real(self, task_id, change, key)

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        finally:
            connection.close()

    task.begin(total=1000)
    with monkeypatch.context() as patch, ThreadPoolExecutor(3) as pool:
        patch.setattr(publisher.Publisher, "change_task", change_task)
        calls = [pool.submit(run, partial(task.set_state, "on it"))]
        assert is_calling.wait(60)
        calls += [pool.submit(run, task.advance) for _ in range(2)]
        wait_for(lambda: task.done == 2, what="two advances that wait")
        both_wait.set()
        for call in calls:
            call.result(60)
    assert (advances, task.done) == ([2], 3)
    task.end()
    assert shown(live, user, task)["done"] == 3


class Marker:
    """An action of the scheduler: what was due before it has run."""

    def __init__(self) -> None:
        self.has_run = threading.Event()

    def run(self) -> None:
        self.has_run.set()


def test_an_action_of_the_scheduler_for_what_was_sent_since_sends_no_advances_early(
    live: Service, user: User, task: Task, calls: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "PACE_S", 60.0)  # longer than the test on any machine
    task.begin(total=1000)
    for _ in range(2):
        task.advance()
    task.set_state("sends what is scheduled")
    assert len(calls) == 3
    task.advance()
    assert task._reporter is not None
    marker = Marker()
    for action in (task._reporter._send_scheduled, marker.run):  # as if the action of the second advance were due now
        scheduler.current().run_after(0, action)
    assert marker.has_run.wait(60)
    assert (len(calls), task.done) == (3, 3)
    task.end()
    assert shown(live, user, task)["done"] == 3


def test_advances_during_a_call_wait_for_the_pace(
    live: Service, user: User, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher.Publisher.change_task
    calls = 0

    def change_task(self: Any, task_id: str, change: Any, key: str) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 20:
            task.advance()  # as a loop in another thread does while the service answers
        return real(self, task_id, change, key)

    task.begin(total=1000)
    monkeypatch.setattr(publisher.Publisher, "change_task", change_task)
    started = time.monotonic()
    task.advance()
    assert 1 <= calls <= 1 + (time.monotonic() - started) / PACE_S
    wait_for(lambda: shown(live, user, task)["done"] >= 2, what="the advance that came during the call")
    monkeypatch.undo()
    task.end()  # after the call in flight, which would write its row into the next test


def test_the_advance_that_reaches_the_total_is_sent_at_once(
    live: Service,
    user: User,
    task: Task,
    calls: list[float],
) -> None:
    task.begin(total=50)
    for _ in range(50):
        task.advance()
    assert shown(live, user, task)["percent"] == 100
    assert TaskRecord.objects.get().percent == 100


def test_an_end_sends_the_scheduled_advances(live: Service, user: User, task: Task) -> None:
    task.begin(total=50)
    for _ in range(7):
        task.advance()
    task.end("seven are enough")
    wait_for(lambda: shown(live, user, task)["status"] == "succeeded", what="the end")
    assert shown(live, user, task)["done"] == 7
    assert TaskRecord.objects.get().done == 7


def test_the_last_advances_of_a_collected_task_are_sent_and_its_row_is_reconciled(
    live: Service,
    user: User,
) -> None:
    def work(task: Task) -> str:
        for _ in range(7):
            task.advance()
        return task.id

    task_id = work(Task(from_user=user, task_name="Import"))
    wait_for(lambda: shown(live, user, task_id)["done"] == 7, what="the last advance")
    reconcile.check_tasks(quiet_s=0)
    assert TaskRecord.objects.get().done == 7


@pytest.mark.parametrize("kept", ["task = ", ""], ids=["kept", "dropped"])
def test_a_process_that_exits_after_the_loop_sends_the_last_advances(kept: str, user: User, over_http: Service) -> None:
    program = f"""
import os
import django
django.setup()
from django_bridge import Task
def work(task):
    for _ in range(7):
        task.advance()
    return task
{kept}work(Task(from_user={user.pk}, task_name="Import"))
"""
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.django.settings",
        "NOTIFIER_TEST_FOLDER": FOLDER,
        "NOTIFIER_TEST_SERVICE_URL": over_http.url,
    }
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=env, check=True, timeout=60)
    with over_http.user(str(user.pk)) as client:
        (task,) = client.get("/v1/tasks").json()["tasks"]
    assert task["done"] == 7
    if not kept:  # a collected task does not write its row
        reconcile.check_tasks(quiet_s=0)
    assert TaskRecord.objects.get().done == 7


def test_in_the_memory_transport_each_advance_is_sent_at_once(task: Task) -> None:
    task.begin(total=5)
    for _ in range(5):
        task.advance()
    assert [update["done"] for update in outbox.task_updates] == [0, 1, 2, 3, 4, 5]


def test_advances_that_failed_are_sent_with_the_next_and_counted_once(
    live: Service,
    user: User,
    task: Task,
) -> None:
    task.begin(total=1000)
    breaker = publisher.current().breaker
    task.advance()
    for _ in range(3):
        breaker.failed()
    for _ in range(20):
        task.advance(2)
        time.sleep(0.01)
    breaker.succeeded()
    task.advance()
    wait_for(lambda: shown(live, user, task)["done"] == 42, what="all of them")


def test_threads_may_share_a_task(live: Service, user: User, task: Task) -> None:
    task.begin(total=800)

    def work(_: int) -> None:
        try:
            for _ in range(100):
                task.advance()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    wait_for(lambda: shown(live, user, task)["done"] == 800, what="all of them")


def test_an_older_state_of_another_process_does_not_overwrite_a_newer_row(user: User, task: Task) -> None:
    task.begin(total=10)
    late = Task.resume(task.id)
    first, second = Task.resume(task.id), Task.resume(task.id)
    first.advance(4)
    second.advance(3)
    assert TaskRecord.objects.get().done == 7
    second.end("over")
    late.advance(1)  # refused by the service: the task has ended
    late.set_state("still at it")
    row = TaskRecord.objects.get()
    assert (row.status, row.state, row.done) == ("succeeded", "over", 7)
    assert (late.status, late.ended) == ("succeeded", True)


def test_a_cancel_that_another_process_carried_out_stops_this_one_too(user: User, task: Task) -> None:
    task.begin(total=10)
    other = Task.resume(task.id)
    outbox.request_cancel(task.id)
    task.set_state("on it")
    with pytest.raises(TaskCancelled):
        task.raise_if_cancelled()

    with pytest.raises(TaskCancelled):
        list(Progress(range(10), parts=5, task=other))
    assert other.ended
    assert TaskRecord.objects.get().status == "cancelled"


def test_a_rollback_undoes_the_row_until_the_next_change(live: Service, user: User, task: Task) -> None:
    task.begin(total=100)
    with transaction.atomic():
        for _ in range(7):
            task.advance()
        task.set_state("seven")
        transaction.set_rollback(True)
    assert TaskRecord.objects.get().done == 0
    task.end()
    assert TaskRecord.objects.get().done == 7
