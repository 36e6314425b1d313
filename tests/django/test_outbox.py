"""The outbox: a committed message is delivered once, in time; a rolled-back one is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test import Client, TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_bridge import Message, delivery
from django_bridge.celery import deliver_outbox, send_message
from django_bridge.models import MessageRecord, OutboxMessage
from django_bridge.testing import outbox as sent
from notifier.errors import InvalidInput
from tests.django.outbox_rows import MEMORY, put, subjects, waiting
from tests.django.sample.models import SimpleModel

pytestmark = pytest.mark.usefixtures("outbox_process")


# Writing


def test_a_message_is_a_row_of_the_callers_transaction_and_is_delivered_on_commit() -> None:
    with transaction.atomic():
        SimpleModel.objects.create(title="order")
        message_id = Message(to_users=1, subject="Paid").send()
        row = OutboxMessage.objects.get()
        assert (row.message_id, row.state) == (message_id, "sending")
        assert not sent.messages
    assert [message["id"] for message in sent.messages] == [message_id]
    assert not OutboxMessage.objects.exists()


def test_a_rolled_back_message_is_neither_kept_nor_sent() -> None:
    with transaction.atomic():
        Message(to_users=1, subject="kept").send()
        with transaction.atomic():
            Message(to_users=1, subject="dropped").send()
            transaction.set_rollback(True)
    with transaction.atomic():
        Message(to_users=1, subject="dropped too").send()
        transaction.set_rollback(True)
    assert subjects() == ["kept"]
    assert not OutboxMessage.objects.exists()


def test_without_a_transaction_a_message_is_kept_and_sent_at_once(no_service: dict[str, Any]) -> None:
    Message(to_users=1, subject="kept").send()
    assert waiting() == ["kept"]
    with override_settings(NOTIFIER=MEMORY):
        Message(to_users=1, subject="sent").send()
    assert subjects() == ["kept", "sent"]


def test_in_a_transaction_of_another_database_a_message_is_kept_on_its_commit() -> None:
    with transaction.atomic(using="other"):
        Message(to_users=1, subject="after it").send()
        assert not OutboxMessage.objects.exists()
        with transaction.atomic(using="other"):
            Message(to_users=1, subject="never").send()
            transaction.set_rollback(True, using="other")
    assert subjects() == ["after it"]


def test_a_message_is_delivered_after_its_commit_although_another_database_rolled_back() -> None:
    with transaction.atomic():
        with transaction.atomic(using="other"):
            Message(to_users=1, subject="first").send()
            transaction.set_rollback(True, using="other")
        assert not sent.messages
    Message(to_users=1, subject="second").send()
    assert subjects() == ["first", "second"]
    with transaction.atomic(using="other"):
        with transaction.atomic():
            Message(to_users=1, subject="third").send()
        assert subjects() == ["first", "second"]
    assert subjects() == ["first", "second", "third"]
    assert waiting() == []


def test_with_autocommit_off_a_message_waits_for_a_deliverer() -> None:
    connection.set_autocommit(False)
    try:
        Message(to_users=1, subject="rolled back").send()
        connection.rollback()
        Message(to_users=1, subject="committed").send()
        assert not sent.messages
        connection.commit()
    finally:
        connection.set_autocommit(True)
    delivery.deliver_all()
    assert subjects() == ["committed"]


def test_values_that_break_a_rule_are_refused_at_the_call() -> None:
    with pytest.raises(InvalidInput):
        Message(to_users=1, subject="").send()
    assert not OutboxMessage.objects.exists()


def test_a_failure_to_write_the_row_raises() -> None:
    with connection.schema_editor() as editor:
        editor.delete_model(OutboxMessage)
    try:
        with pytest.raises(DatabaseError):
            Message(to_users=1, subject="Paid").send()
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(OutboxMessage)
    assert not sent.messages


def test_the_shown_time_is_that_of_the_call(no_service: dict[str, Any]) -> None:
    before = timezone.now()
    Message(to_users=1, subject="Paid").send()
    after = timezone.now()
    with override_settings(NOTIFIER=MEMORY):
        delivery.deliver_all()
    shown = timezone.datetime.fromisoformat(str(sent.messages[0]["sent_at"]))
    assert before - timedelta(milliseconds=1) <= shown <= after


def test_a_celery_task_that_runs_twice_writes_one_row(no_service: dict[str, Any]) -> None:
    payload = Message(to_users=1, subject="Paid").payload()
    assert send_message(payload) == send_message(payload)
    assert waiting() == ["Paid"]


# With KEEP_MESSAGES


@pytest.fixture
def kept(outbox_process: None, no_service: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """As `no_service`, with kept messages."""
    value = {**no_service, "KEEP_MESSAGES": True}
    with override_settings(NOTIFIER=value):
        yield value


@pytest.mark.usefixtures("kept")
def test_a_kept_message_its_correction_and_its_retraction_are_one_commit_each() -> None:
    message = Message(to_users=[1, 2], subject="Paid")
    for call in (message.send, lambda: Message.correct(str(message.id), subject="Paid twice"), message.retract):
        with CaptureQueriesContext(connection) as queries:
            call()
        ends = [query["sql"] for query in queries if query["sql"] in ("COMMIT", "ROLLBACK")]
        assert ends == ["COMMIT"]
    assert OutboxMessage.objects.count() == 3
    assert not MessageRecord.objects.exists()


@pytest.mark.usefixtures("kept")
def test_a_transaction_that_fails_as_a_whole_is_written_in_parts(caplog: pytest.LogCaptureFixture) -> None:
    failures = [OperationalError("the connection was lost")]

    def fail_once(execute: Any, sql: str, *more: Any) -> Any:
        if failures and "outbox" in sql:
            raise failures.pop()
        return execute(sql, *more)

    with connection.execute_wrapper(fail_once):
        message_id = Message(to_users=1, subject="Paid").send()
    assert not failures
    assert waiting() == ["Paid"]
    assert MessageRecord.objects.get().pk == message_id
    assert "could not be kept" not in caplog.text


def test_a_message_that_cannot_be_kept_is_sent_unless_the_caller_wants_the_error(
    kept: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(MessageRecord, "django_bridge_messagerecord", "renamed")
    try:
        Message(to_users=1, subject="Paid").send()
        with override_settings(NOTIFIER={**kept, "RAISE": True}), pytest.raises(DatabaseError):
            Message(to_users=1, subject="Raised").send()
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(MessageRecord, "renamed", "django_bridge_messagerecord")
    assert waiting() == ["Paid"]
    assert caplog.text.count("could not be kept") == 1


class TestInsideATestCase(TestCase):
    def test_messages_are_sent_when_its_commit_callbacks_run(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            Message(to_users=1, subject="Paid").send()
            assert waiting() == ["Paid"]
        assert subjects() == ["Paid"]
        assert waiting() == []


# Command and Celery task


def command(*args: str) -> str:
    output = StringIO()
    call_command("notifier_outbox", *args, stdout=output, stderr=output)
    return output.getvalue()


def test_the_command_delivers_the_outbox_and_prints_counts() -> None:
    put("first", "second")
    assert re.match(r"2 waiting, 0 failed; oldest \d+\.\d", command("--count"))
    assert command() == "2 delivered, 0 expired, 0 failed\n"
    assert command() == ""
    assert subjects() == ["first", "second"]


def test_the_command_fails_while_the_service_is_away(no_service: dict[str, Any]) -> None:
    put("first")
    with pytest.raises(CommandError, match="1 messages wait: Unreachable"):
        command()


def test_the_celery_task_delivers_the_outbox() -> None:
    put("first", "second")
    assert deliver_outbox() == {"delivered": 2, "expired": 0, "failed": 0}
    assert subjects() == ["first", "second"]


# The admin


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


ADMIN = "/admin/django_bridge/outboxmessage/"


def test_the_admin_lists_filters_and_retries_messages(admin: Client) -> None:
    put("Refused", "Broken")
    put("Patient")
    OutboxMessage.objects.filter(payload__contains="Patient").update(error="the service is away")
    refused, broken, _ = OutboxMessage.objects.order_by("pk")
    OutboxMessage.objects.filter(pk__in=[refused.pk, broken.pk]).update(state="failed", attempts=1, error="too bad")
    OutboxMessage.objects.filter(pk=broken.pk).update(payload="?")
    page = admin.get(ADMIN).content.decode()
    assert all(text in page for text in ("Refused", "Patient", "too bad", "the service is away"))
    page = admin.get(f"{ADMIN}?state__exact=failed").content.decode()
    assert "Refused" in page
    assert "Patient" not in page
    assert "Refused" in admin.get(f"{ADMIN}{refused.pk}/change/").content.decode()

    answer = admin.post(ADMIN, {"action": "try_again", "_selected_action": [refused.pk]}, follow=True)
    assert "1 messages will be tried again" in answer.content.decode()
    delivery.deliver_all()
    assert subjects() == ["Refused", "Patient"]
    admin.post(ADMIN, {"action": "delete_selected", "_selected_action": [broken.pk], "post": "yes"})
    assert not OutboxMessage.objects.exists()


def test_a_viewer_cannot_retry_messages() -> None:
    from django.contrib.auth.models import Permission

    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_outboxmessage"))
    client = Client()
    client.force_login(viewer)
    (message_id,) = put("Refused")
    OutboxMessage.objects.update(state="failed")
    page = client.get(ADMIN).content.decode()
    assert message_id in page
    assert "try_again" not in page
    client.post(ADMIN, {"action": "try_again", "_selected_action": [OutboxMessage.objects.get().pk]})
    assert OutboxMessage.objects.get().state == "failed"
    assert client.get(f"{ADMIN}add/").status_code == 403


# Without USE_TZ, times are those of the project's zone, whose clock goes back at the end of summer time


BERLIN = ZoneInfo("Europe/Berlin")
SUMMER_ENDS = datetime(2026, 10, 25, 1, tzinfo=UTC)
"""In Berlin 3:00 becomes 2:00."""


class Clock:
    def __init__(self) -> None:
        self.at = SUMMER_ENDS

    def now(self) -> datetime:
        """What `datetime.now()` returns in a process of this zone."""
        return self.at.astimezone(BERLIN).replace(tzinfo=None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        monkeypatch.setattr(timezone, "now", clock.now)
        yield clock


@pytest.mark.parametrize(
    ("state", "attempts", "pause_s", "after_s"),
    [
        ("sending", 0, 60, 61),
        ("waiting", 0, 0, 1),
        ("waiting", 3, 0, 1),
        ("waiting", 6, 64, 65),
        ("waiting", 20, 300, 301),
        ("waiting", 5000, 300, 301),
    ],
)
def test_a_message_is_due_in_time_also_where_the_clock_goes_back_meanwhile(
    clock: Clock, state: str, attempts: int, pause_s: float, after_s: float
) -> None:
    for began in (SUMMER_ENDS - timedelta(hours=2), SUMMER_ENDS - timedelta(seconds=1)):
        clock.at = began
        put("first", "second")
        due_at = clock.now() + timedelta(seconds=pause_s)
        OutboxMessage.objects.update(state=state, attempts=attempts, due_at=due_at)
        clock.at = began + timedelta(seconds=after_s)
        assert delivery.deliver_all().delivered == 2


@pytest.mark.parametrize(
    ("state", "attempts", "pause_s"), [("sending", 0, 60), ("waiting", 6, 64), ("waiting", 20, 300)]
)
def test_a_message_is_not_due_early_where_the_clocks_of_two_hosts_differ(
    clock: Clock, state: str, attempts: int, pause_s: float
) -> None:
    put("first")
    due_at = clock.now() + timedelta(seconds=pause_s + 50)
    OutboxMessage.objects.update(state=state, attempts=attempts, due_at=due_at)
    for later_s in (0, 40):
        clock.at += timedelta(seconds=later_s)
        assert delivery.deliver_all().delivered == 0
