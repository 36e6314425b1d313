"""Several at once on one database: rows of tasks, kept messages, removal. For deliverers see test_outbox."""

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

T = TypeVar("T")
WORKERS = 8


@pytest.fixture(autouse=True)
def _keeping() -> Iterator[None]:
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "KEEP_MESSAGES": True, "RAISE": True}):
        yield
    MessageRecord.objects.all().delete()


def at_once(action: Callable[[int], T]) -> list[T]:
    """What it answers in each of some threads, which begin together, each with connections of its own."""
    start = threading.Barrier(WORKERS)

    def run(number: int) -> T:
        try:
            start.wait(10)
            return action(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(run, range(WORKERS)))


def test_of_many_who_write_one_row_the_newest_state_stays(user: User) -> None:
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


def test_of_many_who_make_one_row_there_is_one_and_the_others_change_it(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=1000)
    known, key = records.read(task.id)
    for _ in range(10):
        TaskRecord.objects.all().delete()
        # A loser of the race may say so; the state is told again with the next change.
        with override_settings(NOTIFIER={"TRANSPORT": "memory"}):
            at_once(lambda number: records.write(known.changed({"done": 7}, now_ms=known.updated_at_ms + 1), key))
        assert TaskRecord.objects.get().done == 7


def test_a_message_that_many_keep_is_kept_once_with_all_of_its_recipients() -> None:
    payload = Message(to_users=range(1, 201), subject="Everybody").payload()
    at_once(lambda number: history.keep(payload))
    assert MessageRecord.objects.count() == 1
    assert MessageRecipient.objects.count() == 200


def test_many_who_send_at_once_keep_everything_in_their_own_transactions() -> None:
    def send(number: int) -> None:
        for step in range(10):
            with transaction.atomic():
                Message(to_users=[number + 1, 99], subject=f"{number}.{step}").send()
                transaction.set_rollback(step % 2 == 1)

    at_once(send)
    assert MessageRecord.objects.count() == len(outbox.messages) == WORKERS * 5
    assert {one["id"] for one in outbox.messages} == set(MessageRecord.objects.values_list("pk", flat=True))


def test_many_who_remove_at_once_remove_each_row_once_and_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "BATCH", 7)
    old, new = timezone.now() - timedelta(days=9), timezone.now()
    fields: dict[str, Any] = {"name": "x", "status": "succeeded", "started_at": old}
    TaskRecord.objects.bulk_create(
        TaskRecord(pk=f"{kind}{n}", updated_at=moment, **fields)
        for kind, moment in (("old", old), ("new", new))
        for n in range(100)
    )
    counts = at_once(lambda number: sum(history.removed(history.old_tasks(timedelta(days=1)))))
    assert sum(counts) == 100
    assert TaskRecord.objects.count() == 100
    assert not TaskRecord.objects.filter(pk__startswith="old").exists()
