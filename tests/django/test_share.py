"""Several workers advance one task; work that runs again is not counted twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings

from django_bridge import Progress, Task, publisher
from django_bridge.models import TaskRecord, TaskShare
from django_bridge.testing import outbox
from notifier.errors import InvalidInput
from tests.django.answering import AnsweringService, answering
from tests.django.celery_worker import Worker, working
from tests.django.conftest import http_settings
from tests.support import RedisServer, Service, wait_for


@pytest.fixture
def task(user: User) -> Task:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=20)
    return task


def shown() -> int:
    return int(outbox.tasks[0]["done"])


def run(task: Task, key: object, items: int) -> None:
    with Task.resume(task.id).share(key) as share:
        for _ in range(items):
            share.advance()


def test_a_share_that_runs_again_adds_only_new_items(task: Task) -> None:
    run(task, "a", 4)
    run(task, "b", 3)
    assert shown() == 7
    run(task, "a", 2)
    assert shown() == 7
    run(task, "a", 10)
    assert shown() == 13
    assert sorted(TaskShare.objects.values_list("key", "counted", "told")) == [("a", 10, 10), ("b", 3, 3)]


def test_a_loop_may_have_a_share_as_its_task(task: Task) -> None:
    for _ in range(2):
        list(Progress(range(8), parts=4, task=task.share("a")))
    assert (shown(), outbox.tasks[0]["total"]) == (8, 20)


def test_counts_that_were_not_sent_are_sent_by_the_next_run(task: Task) -> None:
    TaskShare.objects.create(task_id=task.id, key="a", counted=5, told=2)
    run(task, "a", 0)
    assert shown() == 3
    run(task, "a", 6)
    assert shown() == 4
    assert TaskShare.objects.get().told == 6


def test_counts_that_were_sent_and_not_noted_are_not_added_twice(task: Task, over_http: Service, user: User) -> None:
    share = task.share("a")
    for share.done in (3, 5):
        share.count()
    TaskShare.objects.update(told=3)  # as if the process died before it noted the second count
    list(Progress(range(12), parts=2, task=task.share("a")))
    with over_http.user(str(user.pk)) as client:
        assert client.get("/v1/tasks").json()["tasks"][0]["done"] == 12
    assert TaskShare.objects.get().told == 12


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_in_a_transaction_only_committed_items_are_counted(task: Task, outcome: str) -> None:
    with transaction.atomic():
        run(task, "a", 5)
        assert shown() == 0
        if outcome == "rollback":
            transaction.set_rollback(True)
    assert shown() == (5 if outcome == "commit" else 0)
    run(task, "a", 6)
    assert shown() == 6


AWAY = (503, {"Retry-After": "60"}, b"{}")
LOST = "lost"
"""The service takes the call, and its answer does not arrive."""


class Counting:
    """A stand-in that adds each advance once for its key. Heartbeats may come at any time."""

    def __init__(self) -> None:
        self.answer: Any = None
        """Instead of the usual one."""
        self.taken: dict[str, int] = {}
        self.server: AnsweringService

    def __call__(self, body: Any) -> Any:
        if "advance" in body and self.answer != AWAY:
            (key,) = [headers["Idempotency-Key"] for *_, headers, sent in self.server.requests if sent is body]
            self.taken[key] = body["advance"]
        if self.answer is not None:
            return AWAY
        return 200, {}, b'{"done": 0, "total": 20, "updated_at": "2026-11-30T12:00:00Z"}'

    @property
    def done(self) -> int:
        return sum(self.taken.values())


@pytest.fixture
def counting() -> Iterator[Counting]:
    counting = Counting()
    with answering(counting) as counting.server:
        yield counting


def test_counts_that_the_service_did_not_take_are_sent_once(task: Task, counting: Counting) -> None:
    with task.share("a") as share:
        for share.done, counting.answer in ((5, AWAY), (6, None), (8, None), (9, AWAY)):
            share.count()
        counting.answer = None
    assert counting.done == 9
    run(task, "a", 12)
    assert counting.done == 12
    assert TaskShare.objects.get().told == 12


@pytest.mark.parametrize("block", [contextlib.nullcontext, transaction.atomic])
def test_counts_whose_answer_was_lost_are_sent_alone_also_by_the_next_run(
    task: Task, counting: Counting, block: Any
) -> None:
    share = task.share("a")
    counting.answer = LOST
    share.done = 5
    share.count()
    with block():
        share.done = 9
        share.count()
    counting.answer = None
    run(task, "a", 12)
    assert counting.done == 12


def test_counts_of_a_transaction_that_follow_a_lost_answer_are_sent_on_its_commit(
    task: Task, counting: Counting
) -> None:
    share = task.share("a")
    counting.answer = LOST
    share.done = 5
    share.count()
    with transaction.atomic():
        for share.done in (6, 7):
            share.count()
        with transaction.atomic():
            share.done = 9
            share.count()
            transaction.set_rollback(True)
        counting.answer = None
        assert counting.done == 5
    assert counting.done == 7


def test_a_transaction_that_is_not_that_of_the_counts_and_rolls_back_costs_none(task: Task) -> None:
    share = task.share("a")
    with transaction.atomic(using="other"):
        share.done = 3
        share.count()
        transaction.set_rollback(True, using="other")
    assert shown() == 3
    share.done = 5
    share.count()
    assert shown() == 5


def test_a_commit_hook_of_the_project_that_raises_costs_no_later_count(task: Task) -> None:
    def broken() -> None:
        raise LookupError

    share = task.share("a")
    with contextlib.suppress(LookupError), transaction.atomic():
        transaction.on_commit(broken)
        share.done = 3
        share.count()
    share.done = 5
    share.count()
    assert shown() == 5


@pytest.mark.parametrize("is_caught", [True, False])
def test_a_commit_hook_of_the_project_that_raises_costs_no_count_at_the_end(task: Task, is_caught: bool) -> None:
    def broken() -> None:
        raise LookupError

    caught = contextlib.suppress(LookupError) if is_caught else contextlib.nullcontext()
    with contextlib.suppress(LookupError), task.share("a") as share, caught, transaction.atomic():
        transaction.on_commit(broken)
        share.advance(3)
    assert shown() == 3
    assert TaskShare.objects.get().told == 3


def test_a_tight_loop_counts_ten_times_a_second_and_at_its_end(
    task: Task, over_http: Service, django_assert_at_most: Any
) -> None:
    with django_assert_at_most(40):
        run(task, "a", 15)
    assert TaskShare.objects.get().counted == 15


@pytest.fixture
def django_assert_at_most() -> Any:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    class AtMost(CaptureQueriesContext):
        def __init__(self, limit: int) -> None:
            super().__init__(connection)
            self.limit = limit

        def __exit__(self, kind: Any, exc: Any, trace: Any) -> None:
            super().__exit__(kind, exc, trace)
            assert kind or len(self) <= self.limit, f"{len(self)} queries"

    return AtMost


def test_after_the_end_of_the_task_a_share_changes_nothing(task: Task) -> None:
    task.end("enough")
    run(task, "late", 3)
    assert (shown(), TaskRecord.objects.get().status) == (0, "succeeded")


def test_a_cancel_stops_the_loop_of_a_share(task: Task) -> None:
    from django_bridge import TaskCancelled

    outbox.request_cancel(task.id)
    with pytest.raises(TaskCancelled):
        list(Progress(range(10), parts=5, task=Task.resume(task.id).share("a")))
    assert (shown(), outbox.tasks[0]["status"]) == (2, "cancelled")


def test_shares_are_deleted_with_the_row_of_their_task(task: Task) -> None:
    run(task, "a", 1)
    TaskRecord.objects.all().delete()
    assert not TaskShare.objects.exists()


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_an_empty_or_long_key_is_refused(task: Task, key: str) -> None:
    with pytest.raises(InvalidInput, match="key"):
        task.share(key)


# Celery


@pytest.fixture(scope="module")
def worker(redis_server: RedisServer, bridge_service: Service) -> Iterator[Worker]:
    with working(redis_server, bridge_service, concurrency=3) as started:
        yield started


def test_a_chord_advances_one_task_and_its_callback_ends_it(
    worker: Worker, over_http: Service, user: User, tmp_path: Path
) -> None:
    from celery import chord

    from tests.django.sample.tasks import finish_import, import_chunk

    task = Task(from_user=user, task_name="Import")
    task.begin(total=300)
    killed_once = tmp_path / "killed"
    chunks = [import_chunk.s(task, 50, fail_at, None) for fail_at in (None, 10, 49, None, 0)]
    killed = import_chunk.s(task, 50, None, str(killed_once))
    chord([*chunks, killed])(finish_import.s(task))
    row = wait_for(lambda: TaskRecord.objects.filter(status="succeeded").first(), timeout_s=60, what="the end")
    assert killed_once.exists(), "a process was killed in the middle of a chunk"
    assert (row.done, row.state) == (300, "300 rows are in")
    with over_http.user(str(user.pk)) as client:
        (kept,) = [kept for kept in client.get("/v1/tasks").json()["tasks"] if kept["id"] == task.id]
    assert (kept["done"], kept["status"]) == (300, "succeeded")
    assert set(TaskShare.objects.values_list("counted", "told")) == {(50, 50)}


def test_the_loops_of_a_group_advance_one_task(worker: Worker, over_http: Service, user: User) -> None:
    from celery import group

    from tests.django.sample.tasks import walk_chunk

    task = Task(from_user=user, task_name="Walk")
    task.begin(total=60)
    group(walk_chunk.s(task, n) for n in (10, 20, 30))().get(timeout=30)
    task.set_state("all in")
    assert task.done == 60
    assert publisher.current().counts.failed == 0


@pytest.mark.parametrize("is_known", [True, False])
def test_the_row_has_the_error_although_a_late_process_wrote_the_end_first(
    over_http: Service, user: User, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """As a retry that fails before the report of the attempt before it. A service that does not know the task, since it
    was away or has lost it, gets it with its end."""
    task = Task(from_user=user, task_name="Import")
    away = http_settings("http://127.0.0.1:1", TIMEOUT_S=0.4)
    with contextlib.nullcontext() if is_known else override_settings(NOTIFIER=away):
        task.begin()
    late = Task.resume(task.id)
    name = "change_task" if is_known else "create_task"
    real = getattr(publisher.Publisher, name)
    outcomes: list[Any] = []

    def ends(self: Any, *args: Any) -> Any:
        outcomes.append(real(self, *args))
        if len(outcomes) == 1:
            late.wait("Retry 1")
        return outcomes[0]

    monkeypatch.setattr(publisher.Publisher, name, ends)
    task.fail(LookupError("row 5"))
    row = TaskRecord.objects.get()
    assert outcomes
    assert (row.status, row.error) == ("failed", "Something went wrong.")
    assert "row 5" in row.traceback
