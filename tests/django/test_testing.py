"""`django_bridge.testing` inside Django's `TestCase`, as a project's tests use it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import TestCase, override_settings

from django_bridge import Message, Task
from django_bridge.models import TaskRecord
from django_bridge.testing import NotificationAssertions, capture_notifications, outbox
from notifier.errors import InvalidInput
from tests.django.conftest import http_settings


@override_settings(NOTIFIER={"TRANSPORT": "memory"})
class TestOneDatabase(TestCase):
    def setUp(self) -> None:
        outbox.clear()

    def test_messages_are_captured_when_commit_callbacks_run(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            Message(subject="Paid", to_users=1).send()
            with transaction.atomic():
                Message(subject="Sent", to_users=1).send()
            assert not outbox.messages
        assert [message["subject"] for message in outbox.messages] == ["Paid", "Sent"]

    def test_tasks_are_captured_at_once(self) -> None:
        user = User.objects.create_user("ann")
        Task(from_user=user, task_name="Print").begin()
        assert [task["name"] for task in outbox.tasks] == ["Print"]
        outbox.clear()
        assert (outbox.tasks, outbox.task_updates) == ([], [])


class TestSeveralDatabases(TestOneDatabase):
    databases = ("default", "other")  # type: ignore[assignment]  # Django takes any container


# Blocks


@override_settings(NOTIFIER=http_settings("http://127.0.0.1:1", TIMEOUT_S=0.1))
class TestABlock(NotificationAssertions, TestCase):
    def test_everything_is_captured_and_nothing_leaves_the_process(self) -> None:
        with capture_notifications() as sent:
            Message(subject="Paid", to_users=1).send()
            task = Task(from_user=User.objects.create_user("ann"), task_name="Print")
            task.begin()
            assert not sent.messages
        task.end()
        assert [message["subject"] for message in sent.messages] == ["Paid"]
        assert [update["status"] for update in sent.task_updates] == ["running"]
        assert not outbox.messages

    @override_settings(NOTIFIER={"TRANSPORT": "memory"})
    def test_the_innermost_of_nested_blocks_captures_and_tasks_continue(self) -> None:
        task = Task(from_user=User.objects.create_user("ann"), task_name="Print")
        task.begin()
        with capture_notifications() as outer:
            task.advance(1)
            with capture_notifications() as inner:
                Message(subject="Paid", to_users=1).send()
                task.advance(2)
                inner.request_cancel(task.id)
                task.set_state("on it")
        assert (len(outer.messages), len(inner.messages)) == (0, 1)
        assert [update["done"] for update in outer.task_updates] == [1]
        assert inner.tasks[0]["done"] == 3
        assert TaskRecord.objects.get().status == "cancelling"

    def test_recipients_and_fields_can_be_asserted(self) -> None:
        ann, staff = User.objects.create_user("ann"), Group.objects.create(name="staff")
        with self.assertNotified(ann, subject="Paid", data={"order": [7]}) as sent:
            Message(subject="Paid", to_users=[ann, staff], data={"order": [7]}).send()
        assert len(sent.messages) == 1
        with self.assertNotified([ann, staff]):
            Message(subject="Paid", to_users=[ann, staff]).send()
        with self.assertNotNotified():
            pass

    def test_a_failed_assertion_shows_the_sent_messages(self) -> None:
        wrong: list[tuple[int, dict[str, str]]] = [(2, {}), (1, {"subject": "Sent"}), (1, {"colour": "red"})]
        for to, fields in wrong:
            with pytest.raises(AssertionError, match="Paid"), self.assertNotified(to, **fields):
                Message(subject="Paid", to_users=1).send()
        with pytest.raises(AssertionError, match="Paid"), self.assertNotNotified():
            Message(subject="Paid", to_users=1).send()

    def test_an_exception_of_the_block_is_not_replaced_by_the_assertion(self) -> None:
        with pytest.raises(InvalidInput), self.assertNotified(1):
            Message(subject="", to_users=1).send()
        assert not outbox.captures


def test_a_block_works_outside_a_test_case(user: User) -> None:
    with capture_notifications() as sent, transaction.atomic():
        Message(subject="Paid", to_users=user).send()
    assert len(sent.messages) == 1
