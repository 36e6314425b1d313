"""`django_bridge.testing`, as a project's own tests use it: inside Django's `TestCase`."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase, override_settings

from django_bridge import Message, Task
from django_bridge.testing import outbox


@override_settings(NOTIFIER={"TRANSPORT": "memory"})
class TestOneDatabase(TestCase):
    def setUp(self) -> None:
        outbox.clear()

    def test_messages_are_seen_when_its_commit_callbacks_run(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            Message(subject="Paid", to_users=1).send()
            with transaction.atomic():
                Message(subject="Sent", to_users=1).send()
            assert not outbox.messages
        assert [message["subject"] for message in outbox.messages] == ["Paid", "Sent"]

    def test_tasks_are_seen_at_once(self) -> None:
        user = User.objects.create_user("ann")
        Task(from_user=user, task_name="Print").begin()
        assert [task["name"] for task in outbox.tasks] == ["Print"]
        outbox.clear()
        assert (outbox.tasks, outbox.task_updates) == ([], [])


class TestSeveralDatabases(TestOneDatabase):
    databases = ("default", "other")  # type: ignore[assignment]  # Django takes any container
