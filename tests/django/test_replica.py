"""A router that reads from a replica: what the bridge decides by, it reads from the database that it writes to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import Model
from django.test import Client, override_settings
from django.utils import timezone
from django.utils.translation import gettext_lazy

from django_bridge import Message, Task, changed, delivery, history, outbox
from django_bridge.models import MessageRecord, OutboxMessage, TaskRecord, TaskShare
from django_bridge.testing import outbox as sent
from tests.credentials import JWT_SECRET
from tests.django.outbox_rows import MEMORY, put, subjects
from tests.django.sample.models import SimpleModel

REPLICA = "other"
REPLICATED = {"django_bridge", "sample"}


class LaggingReplica:
    """Reads go to a database that has nothing of what was written, but for what a test puts there."""

    def db_for_read(self, model: type[Model], **_: Any) -> str | None:
        return REPLICA if model._meta.app_label in REPLICATED else None

    def db_for_write(self, model: type[Model], **_: Any) -> str:
        return "default"

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True


@pytest.fixture(autouse=True)
def _replica(outbox_process: None) -> Iterator[None]:
    with override_settings(DATABASE_ROUTERS=["tests.django.test_replica.LaggingReplica"]):
        yield
    for model in (OutboxMessage, TaskShare, TaskRecord, MessageRecord):
        for alias in ("default", REPLICA):
            model._default_manager.using(alias).all().delete()


@pytest.fixture
def task(user: User) -> Task:
    task = Task(from_user=user, task_name="Import")
    task.begin(total=20)
    return task


def test_messages_of_one_process_do_not_overtake_its_waiting_ones(no_service: dict[str, Any]) -> None:
    for subject in ("first", "second"):
        Message(to_users=1, subject=subject).send()
    with override_settings(NOTIFIER=MEMORY):
        for subject in ("third", "fourth"):
            Message(to_users=1, subject=subject).send()
    assert subjects() == ["first", "second", "third", "fourth"]


def test_a_deliverer_and_the_counts_see_what_is_committed() -> None:
    put("first")
    assert outbox.waiting()["waiting"] == 1
    assert delivery.deliver_all().delivered == 1


def test_a_retraction_waits_for_its_message_in_the_outbox() -> None:
    (message_id,) = put("first")
    OutboxMessage.objects.using("default").update(due_at=timezone.now() + timedelta(hours=1))
    Message.retract_by_id(message_id, to_users=1)
    assert OutboxMessage.objects.using("default").count() == 2
    assert not sent.retracted


def test_a_task_is_resumed_and_counted_where_it_is_written(task: Task) -> None:
    with Task.resume(task.id).share("a") as share:
        for _ in range(3):
            share.advance()
    with Task.resume(task.id).share("a") as share:
        for _ in range(5):
            share.advance()
    task.end("over")
    row = TaskRecord.objects.using("default").get()
    assert (sent.tasks[0]["done"], row.done, row.status) == (5, 5, "succeeded")


def test_a_user_who_has_just_registered_is_known(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[LaggingReplica.__module__], "REPLICATED", {"auth"})
    own = {"USER_ID": f"{__name__}.name_of", "USER_LANGUAGE": f"{__name__}.german"}
    with override_settings(NOTIFIER={"TRANSPORT": "memory", **own}):
        Message(from_user=user.pk, to_users=user.pk, subject=gettext_lazy("Yes")).send()
    (message,) = sent.messages
    assert (message["to"], message["subject"]) == ([f"user:{user.username}"], "Ja")
    assert message["from"] == {"id": user.username, "name": user.get_full_name()}


def name_of(user: User) -> str:
    return user.username


def german(user: User) -> str:
    return "de"


def test_silent_tasks_are_found(task: Task) -> None:
    long_ago = timezone.now() - timedelta(days=30)
    TaskRecord.objects.using("default").update(updated_at=long_ago)
    sent.clear()
    call_command("notifier_tasks", verbosity=0)
    assert TaskRecord.objects.using("default").get().error == "Lost"


def test_the_page_of_a_task_exists_when_its_row_does(task: Task, boss: Client) -> None:
    with override_settings(NOTIFIER={**MEMORY, "JWT_SECRET": JWT_SECRET}):
        assert boss.get(f"/admin/django_bridge/taskrecord/bar/{task.id}/").status_code == 200


def test_pruning_ends_while_the_replica_still_has_the_rows() -> None:
    fields = {"pk": "m", "subject": "old", "sent_at": timezone.now() - timedelta(days=90)}
    for alias in ("default", REPLICA):
        MessageRecord.objects.using(alias).create(**fields)
    removing = history.remove_in_batches(history.old_messages(timedelta(days=30)))
    assert [n for n, _ in zip(removing, range(3), strict=False)] == [1]


def test_each_row_of_a_queryset_is_changed() -> None:
    row = SimpleModel.objects.create(title="new")
    changed(SimpleModel.objects.all())
    changed(SimpleModel.objects.using("default"))
    assert [event["to"] for event in sent.events] == [[f"topic:sample.simplemodel:{row.pk}"]] * 2
