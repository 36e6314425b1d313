"""The outbox: a committed message is delivered once, in time; a rolled-back one is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from itertools import chain
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client, TestCase, override_settings
from django.utils import timezone

from django_bridge import Message, delivery, outbox, publisher
from django_bridge.celery import deliver_outbox, send_message
from django_bridge.models import OutboxMessage
from django_bridge.testing import outbox as sent
from notifier.errors import InvalidInput
from tests.django.answering import CUT, GOOD, AnsweringService, answering
from tests.django.conftest import http_settings
from tests.django.sample.models import SimpleModel
from tests.support import free_port

MEMORY = {"TRANSPORT": "memory", "OUTBOX": True}


@pytest.fixture(autouse=True)
def _outbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is a new process for the outbox."""
    monkeypatch.setattr(outbox, "_process", outbox._OutboxProcess())
    with override_settings(NOTIFIER=MEMORY):
        yield
    OutboxMessage.objects.all().delete()


@pytest.fixture
def away() -> Iterator[dict[str, Any]]:
    """Settings with an address at which no service listens."""
    value = http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, OUTBOX=True)
    with override_settings(NOTIFIER=value):
        yield value


def put(*subjects: str, **values: Any) -> list[str]:
    """Write messages as a process that ends before it delivers them."""
    with transaction.atomic():
        ids = [Message(to_users=1, subject=subject, **values).send() for subject in subjects]
        transaction.get_connection().run_on_commit.clear()
    OutboxMessage.objects.filter(message_id__in=ids).update(
        state="waiting", due_at=timezone.now(), origin=outbox._OutboxProcess().origin
    )
    return ids


def waiting() -> list[str]:
    return [json.loads(row.payload)["subject"] for row in OutboxMessage.objects.all()]


def subjects() -> list[str]:
    return [message["subject"] for message in sent.messages]


def requested(server: AnsweringService) -> list[str]:
    return [body["subject"] for _, _, _, body in server.requests]


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


def test_without_a_transaction_a_message_is_kept_and_sent_at_once(away: dict[str, Any]) -> None:
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


def test_the_shown_time_is_that_of_the_call(away: dict[str, Any]) -> None:
    Message(to_users=1, subject="Paid").send()
    called = timezone.now()
    with override_settings(NOTIFIER=MEMORY):
        delivery.deliver_all()
    assert abs(timezone.datetime.fromisoformat(str(sent.messages[0]["sent_at"])) - called) < timedelta(seconds=2)


def test_a_celery_task_that_runs_twice_writes_one_row(away: dict[str, Any]) -> None:
    payload = Message(to_users=1, subject="Paid").payload()
    assert send_message(payload) == send_message(payload)
    assert waiting() == ["Paid"]


class TestInsideATestCase(TestCase):
    def test_messages_are_sent_when_its_commit_callbacks_run(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            Message(to_users=1, subject="Paid").send()
            assert waiting() == ["Paid"]
        assert subjects() == ["Paid"]
        assert waiting() == []


# Delivery


def test_without_a_service_messages_wait_and_callers_neither_block_nor_fail(user: User) -> None:
    value = http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, OUTBOX=True, RAISE=True)
    with override_settings(NOTIFIER=value):
        started = timezone.now()
        for n in range(20):
            Message(to_users=user, subject=f"message {n}").send()
        assert timezone.now() - started < timedelta(seconds=3)
    assert waiting() == [f"message {n}" for n in range(20)]
    assert outbox.waiting()["waiting"] == 20


def test_messages_of_one_process_do_not_overtake_its_waiting_ones(away: dict[str, Any]) -> None:
    Message(to_users=1, subject="first").send()
    Message(to_users=1, subject="second").send()
    with override_settings(NOTIFIER=MEMORY):
        Message(to_users=1, subject="third").send()
        assert subjects() == ["first", "second", "third"]
        Message(to_users=1, subject="fourth").send()
    assert subjects()[3:] == ["fourth"]
    assert not outbox._process.has_backlog.is_set()


def test_a_process_does_not_deliver_messages_of_another_one(away: dict[str, Any]) -> None:
    put("of another process")
    with override_settings(NOTIFIER=MEMORY):
        Message(to_users=1, subject="own").send()
    assert subjects() == ["own"]
    assert waiting() == ["of another process"]


def test_a_message_of_a_dead_process_is_delivered_after_its_lease() -> None:
    put("orphan")
    OutboxMessage.objects.update(state="sending", due_at=timezone.now() + timedelta(seconds=60))
    assert delivery.deliver_all().delivered == 0
    OutboxMessage.objects.update(due_at=timezone.now())
    assert delivery.deliver_all().delivered == 1
    assert subjects() == ["orphan"]


def test_a_message_whose_lease_ended_before_the_commit_is_claimed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "LEASE_S", 0)
    with transaction.atomic():
        Message(to_users=1, subject="late").send()
    assert (subjects(), waiting()) == (["late"], [])


def test_a_database_that_fails_after_the_commit_does_not_break_the_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(row: OutboxMessage) -> None:
        raise DatabaseError("database is locked")

    monkeypatch.setattr(outbox, "remove", broken)
    message_id = Message(to_users=1, subject="Paid").send()
    assert f"message {message_id} stays in the outbox" in caplog.text
    OutboxMessage.objects.update(due_at=timezone.now())
    delivery.deliver_all()
    assert (subjects(), waiting()) == (["Paid"], [])


def test_a_message_that_expires_in_the_outbox_is_dropped() -> None:
    put("soon over", expires_at=timezone.now() + timedelta(milliseconds=200))
    put("good")
    while timezone.now() < OutboxMessage.objects.earliest("pk").created_at + timedelta(milliseconds=250):
        pass
    run = delivery.deliver_all()
    assert (run.delivered, run.expired, subjects(), waiting()) == (1, 1, ["good"], [])


@pytest.mark.parametrize(
    "refusal",
    [
        (422, {}, b'{"detail": "text: too bad"}'),
        (413, {}, b'{"detail": "text: too bad"}'),
        (400, {}, b'{"detail": "text: too bad"}'),
    ],
)
def test_a_refused_message_is_kept_as_failed_and_the_next_is_delivered(refusal: Any) -> None:
    put("poison", "good")
    with answering(refusal, GOOD, OUTBOX=True) as server:
        run = delivery.deliver_all()
        assert (run.delivered, run.failed, requested(server)) == (1, 1, ["poison", "good"])
        row = OutboxMessage.objects.get()
        assert (row.state, row.attempts) == ("failed", 1)
        assert "text: too bad" in row.error
        assert delivery.deliver_all() == delivery.DeliveryRun()
    assert outbox.waiting() == {"waiting": 0, "failed": 1, "oldest_s": 0.0}


@pytest.mark.parametrize("payload", ["", "[]", "{}", "null", '{"id": 7}'])
def test_an_invalid_row_is_kept_as_failed(payload: str) -> None:
    put("spoilt", "good")
    spoilt = OutboxMessage.objects.earliest("pk")
    OutboxMessage.objects.filter(pk=spoilt.pk).update(payload=payload)
    assert delivery.deliver_all().counts() == {"delivered": 1, "expired": 0, "failed": 1}
    assert OutboxMessage.objects.get().pk == spoilt.pk


@pytest.mark.parametrize(
    "trouble",
    [(503, {}, b"{}"), (401, {}, b"{}"), (403, {}, b"{}"), (404, {}, b"{}"), (301, {}, b""), (200, {}, b"<html>"), CUT],
)
def test_a_service_that_accepts_no_message_leaves_them_waiting(trouble: Any) -> None:
    put("first", "second")
    with answering(trouble, OUTBOX=True, TIMEOUT_S=0.1) as server:
        run = delivery.deliver_all()
        assert set(requested(server)) == {"first"}
    assert run.counts() == {"delivered": 0, "expired": 0, "failed": 0}
    assert run.error
    rows = OutboxMessage.objects.all()
    assert [(row.state, row.attempts) for row in rows] == [("waiting", 1), ("waiting", 0)]
    delivery.deliver_all()
    assert subjects() == ["first", "second"]


def test_a_message_that_always_fails_is_postponed_when_the_next_is_delivered() -> None:
    put("heavy", "light")
    with answering(lambda body: (500, {}, b"{}") if body["subject"] == "heavy" else GOOD, OUTBOX=True, TIMEOUT_S=0.1):
        for _ in range(delivery.PATIENCE - 1):
            publisher.current().breaker.succeeded()
            assert delivery.deliver_all().error
            assert waiting() == ["heavy", "light"]
        publisher.current().breaker.succeeded()
        assert delivery.deliver_all().delivered == 1
    heavy = OutboxMessage.objects.get()
    assert (heavy.attempts, heavy.state) == (delivery.PATIENCE, "waiting")
    assert timedelta(seconds=20) < heavy.due_at - timezone.now() < timedelta(seconds=33)


def test_after_a_long_outage_messages_are_delivered_in_order(away: dict[str, Any]) -> None:
    put("first", "second", "third")
    for _ in range(3 * delivery.PATIENCE):
        publisher.current().breaker.succeeded()
        assert delivery.deliver_all().error
    with override_settings(NOTIFIER=MEMORY):
        delivery.deliver_all()
    assert subjects() == ["first", "second", "third"]


def test_of_two_deliverers_one_claims_a_message() -> None:
    put("once")
    row, same = OutboxMessage.objects.get(), OutboxMessage.objects.get()
    assert delivery._claim(row)
    assert not delivery._claim(same)


def test_a_claimed_message_blocks_only_later_ones_of_its_process() -> None:
    put("first", "second")
    put("of another process")
    assert delivery._claim(OutboxMessage.objects.earliest("pk"))
    delivery.deliver_all()
    assert subjects() == ["of another process"]
    assert waiting() == ["first", "second"]


def test_concurrent_deliverers_send_each_message_once_and_in_order_per_process() -> None:
    batches = [[f"{process} {n}" for n in range(15)] for process in range(4)]
    for batch in batches:
        put(*batch)

    def work(_: int) -> int:
        try:
            return delivery.deliver_all().delivered
        finally:
            connection.close()

    with answering(GOOD, OUTBOX=True) as server:
        while OutboxMessage.objects.exists():
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, range(4)))
        seen = requested(server)
    assert sorted(seen) == sorted(chain.from_iterable(batches))
    for process, batch in enumerate(batches):
        assert [subject for subject in seen if subject.startswith(f"{process} ")] == batch


def test_a_run_ends_after_its_time_and_spans_pages() -> None:
    put(*[str(n) for n in range(delivery.PAGE + 5)])
    assert delivery.deliver_due(within_s=-1) == delivery.DeliveryRun()
    assert delivery.deliver_due().delivered == delivery.PAGE + 5


# Command and Celery task


def command(*args: str) -> str:
    output = StringIO()
    call_command("notifier_outbox", *args, stdout=output, stderr=output)
    return output.getvalue()


def test_the_command_delivers_the_outbox_and_prints_counts() -> None:
    put("first", "second")
    assert command("--count").startswith("2 waiting, 0 failed; oldest 0.")
    assert command() == "2 delivered, 0 expired, 0 failed\n"
    assert command() == ""
    assert subjects() == ["first", "second"]


def test_the_command_fails_while_the_service_is_away(away: dict[str, Any]) -> None:
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
