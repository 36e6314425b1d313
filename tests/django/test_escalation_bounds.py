"""`notifier_escalate`: rows in portions, receivers that keep failing are given up, presence is one question."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis.connection import Connection

from django_bridge import Message, escalation, publisher
from django_bridge.escalation import escalate
from django_bridge.models import MessageOutcome, MessageRecord
from django_bridge.publisher.transport import Seen
from django_bridge.signals import message_read, message_unread_for
from django_bridge.testing import outbox
from tests.support import RedisServer


@pytest.fixture
def kept() -> Iterator[None]:
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "KEEP_MESSAGES": True}):
        yield


def sent(*users: User) -> str:
    message_id = Message(to_users=users, subject="Paid").send()
    MessageRecord.objects.filter(pk=message_id).update(created_at=timezone.now() - timedelta(hours=1))
    return message_id


@pytest.mark.usefixtures("kept")
def test_rows_are_read_in_portions_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    users = [User.objects.create_user(f"user{number}") for number in range(7)]
    for number in range(3):
        sent(*users[number:])
    told: Counter[tuple[str, str]] = Counter()

    def unread(message: MessageRecord, user_id: str, **_: Any) -> None:
        told[message.pk, user_id] += 1

    monkeypatch.setattr(escalation, "BATCH", 4)
    message_unread_for.connect(unread)
    try:
        with CaptureQueriesContext(connection) as queries:
            run = escalate()
    finally:
        message_unread_for.disconnect(unread)
    assert (run.checked, run.unread) == (18, 18)
    assert set(told.values()) == {1}
    reading = [each["sql"] for each in queries.captured_queries if 'LEFT OUTER JOIN "django_bridge_m' in each["sql"]]
    assert len(reading) == 6, "five portions, and an empty one"
    assert all(sql.endswith("LIMIT 4") for sql in reading)


@pytest.mark.usefixtures("kept")
def test_a_receiver_that_keeps_failing_is_given_up(
    user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def fails(message: MessageRecord, **_: Any) -> None:
        calls.append(message.pk)
        raise ValueError("no mail server")

    monkeypatch.setattr(escalation, "ATTEMPTS", 3)
    message_id = sent(user)
    message_unread_for.connect(fails)
    try:
        with caplog.at_level(logging.ERROR, "django_bridge"):
            runs = [escalate() for _ in range(5)]
    finally:
        message_unread_for.disconnect(fails)
    assert calls == [message_id] * 3
    assert [run.failed for run in runs] == [1, 1, 1, 0, 0]
    assert [record.message.endswith("in 3 runs; the message is left") for record in caplog.records] == [
        False,
        False,
        True,
    ]
    assert MessageOutcome.objects.get().state == "failed"
    assert escalate().checked == 0


@pytest.mark.usefixtures("kept")
def test_the_failures_of_one_signal_do_not_count_for_the_next(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([True, True, False, True, True, False])

    def fails(**_: Any) -> None:
        if next(failures):
            raise ValueError("no mail server")

    monkeypatch.setattr(escalation, "ATTEMPTS", 3)
    message_id = sent(user)
    for signal in (message_unread_for, message_read):
        signal.connect(fails)
    try:
        runs = [escalate() for _ in range(3)]
        assert MessageOutcome.objects.get().attempts == 0
        outbox.mark_read(message_id, user)
        runs += [escalate() for _ in range(3)]
    finally:
        for signal in (message_unread_for, message_read):
            signal.disconnect(fails)
    assert [(run.unread, run.read, run.failed) for run in runs] == [
        (0, 0, 1),
        (0, 0, 1),
        (1, 0, 0),
        *[(0, 0, 1)] * 2,
        (0, 1, 0),
    ]


def test_the_presence_of_many_users_is_one_round_trip_on_redis(
    over_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with over_redis.client() as client:
        client.set("notifier:{0}:seen:user 7", 7000)
        client.set("notifier:{0}:seen:user 8", "foreign")
    users = [f"user {number}" for number in range(100)]
    publisher.current().presence(["warm"])
    written: list[Any] = []
    send = Connection.send_packed_command

    def noted(self: Connection, command: Any, *args: Any, **options: Any) -> Any:
        written.append(command)
        return send(self, command, *args, **options)

    monkeypatch.setattr(Connection, "send_packed_command", noted)
    seen = publisher.current().presence(users)
    assert seen == {user: Seen(False, 7000 if user == "user 7" else None) for user in users}
    assert len(written) == 1


@pytest.mark.usefixtures("kept")
def test_a_receiver_that_breaks_its_transaction_and_goes_on_is_called_once(user: User) -> None:
    heard: list[str] = []

    def receiver(message: MessageRecord, **_: Any) -> None:
        heard.append(message.subject)
        with contextlib.suppress(IntegrityError):
            User.objects.create(username=user.username)

    message_unread_for.connect(receiver)
    try:
        sent(user)
        assert [escalate().unread for _ in range(2)] == [1, 0]
    finally:
        message_unread_for.disconnect(receiver)
    assert heard == ["Paid"]
