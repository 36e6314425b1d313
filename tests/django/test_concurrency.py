"""Threads that write to one database at the same time: task rows, kept messages, pruning. Deliverers: test_outbox."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from django_bridge import Message, Task, history
from django_bridge.models import MessageRecipient, MessageRecord, TaskRecord
from django_bridge.task import records
from django_bridge.testing import outbox

pytestmark = pytest.mark.slow

T = TypeVar("T")
WORKERS = 8


@pytest.fixture(autouse=True)
def _keeping() -> Iterator[None]:
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "KEEP_MESSAGES": True, "RAISE": True}):
        yield


def at_once(action: Callable[[int], T]) -> list[T]:
    """Run an action in `WORKERS` threads that start together, each with its own connections. Returns the results."""
    start = threading.Barrier(WORKERS)

    def run(number: int) -> T:
        try:
            start.wait(10)
            return action(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(run, range(WORKERS)))


def test_of_concurrent_writes_of_a_row_the_newest_state_stays(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=1000)
    known, key = records.read(task.id)

    def write(number: int) -> None:
        for step in range(20):
            done = step * WORKERS + number
            moment = known.updated_at_ms + 1 + done
            records.write(known.changed({"done": done}, now_ms=moment), key)

    at_once(write)
    row = TaskRecord.objects.get()
    assert row.done == 20 * WORKERS - 1
    assert (row.user, row.status) == (user, "running")


def test_a_row_that_is_created_concurrently_is_created_once(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=1000)
    known, key = records.read(task.id)
    for _ in range(10):
        TaskRecord.objects.all().delete()
        # Without RAISE: a thread that loses the race may log an error; the next change repairs the row.
        with override_settings(NOTIFIER={"TRANSPORT": "memory"}):
            at_once(lambda number: records.write(known.changed({"done": 7}, now_ms=known.updated_at_ms + 1), key))
        assert TaskRecord.objects.get().done == 7


def test_a_message_that_is_kept_concurrently_is_kept_once_with_all_recipients() -> None:
    payload = Message(to_users=range(1, 201), subject="Everybody").payload()
    at_once(lambda number: history.keep(payload))
    assert MessageRecord.objects.count() == 1
    assert MessageRecipient.objects.count() == 200


def test_concurrent_sends_keep_their_messages_in_their_own_transactions() -> None:
    def send(number: int) -> None:
        for step in range(10):
            with transaction.atomic():
                Message(to_users=[number + 1, 99], subject=f"{number}.{step}").send()
                transaction.set_rollback(step % 2 == 1)

    at_once(send)
    assert MessageRecord.objects.count() == len(outbox.messages) == WORKERS * 5
    assert {message["id"] for message in outbox.messages} == set(MessageRecord.objects.values_list("pk", flat=True))


def test_concurrent_pruning_removes_each_old_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "BATCH", 7)
    old, new = timezone.now() - timedelta(days=9), timezone.now()
    fields: dict[str, Any] = {"name": "x", "status": "succeeded", "started_at": old}
    TaskRecord.objects.bulk_create(
        TaskRecord(pk=f"{kind}{n}", updated_at=moment, **fields)
        for kind, moment in (("old", old), ("new", new))
        for n in range(100)
    )
    counts = at_once(lambda number: sum(history.remove_in_batches(history.old_tasks(timedelta(days=1)))))
    assert sum(counts) == 100
    assert TaskRecord.objects.count() == 100
    assert not TaskRecord.objects.filter(pk__startswith="old").exists()
