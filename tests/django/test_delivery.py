"""Delivery of the outbox: order, leases, refused and failing messages, concurrent deliverers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from django_bridge import Message, delivery, outbox, publisher
from django_bridge.models import OutboxMessage
from django_bridge.testing import outbox as sent
from tests.django.answering import CUT, GOOD, answering
from tests.django.conftest import http_settings
from tests.django.outbox_rows import MEMORY, put, requested, subjects, waiting
from tests.support import free_port

pytestmark = pytest.mark.usefixtures("outbox_process")


def test_without_a_service_messages_wait_and_callers_neither_block_nor_fail(user: User) -> None:
    value = http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, OUTBOX=True, DELIVERY="inline", RAISE=True)
    with override_settings(NOTIFIER=value):
        started = timezone.now()
        for n in range(20):
            Message(to_users=user, subject=f"message {n}").send()
        assert timezone.now() - started < timedelta(seconds=15)
    assert waiting() == [f"message {n}" for n in range(20)]
    assert outbox.waiting()["waiting"] >= 20, "a task of an earlier test may end meanwhile"


def test_messages_of_one_process_do_not_overtake_its_waiting_ones(no_service: dict[str, Any]) -> None:
    Message(to_users=1, subject="first").send()
    Message(to_users=1, subject="second").send()
    with override_settings(NOTIFIER=MEMORY):
        Message(to_users=1, subject="third").send()
        assert subjects() == ["first", "second", "third"]
        Message(to_users=1, subject="fourth").send()
    assert subjects()[3:] == ["fourth"]
    assert not outbox._process.has_backlog.is_set()


def test_a_process_does_not_deliver_messages_of_another_one(no_service: dict[str, Any]) -> None:
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


@pytest.mark.parametrize("exc", [DatabaseError("database is locked"), InterfaceError("connection already closed")])
def test_a_database_that_fails_after_the_commit_does_not_break_the_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, exc: Exception
) -> None:
    def broken(row: OutboxMessage) -> None:
        raise exc

    monkeypatch.setattr(outbox, "remove", broken)
    message_id = Message(to_users=1, subject="Paid").send()
    assert f"message {message_id} stays in the outbox" in caplog.text
    OutboxMessage.objects.update(due_at=timezone.now())
    delivery.deliver_all()
    assert (subjects(), waiting()) == (["Paid"], [])


def test_an_idle_thread_tries_again_after_a_connection_that_was_closed(no_service: dict[str, Any]) -> None:
    def closed(*_: Any) -> None:
        raise InterfaceError("connection already closed")

    Message(to_users=1, subject="Paid").send()
    process = outbox._process
    with override_settings(NOTIFIER=MEMORY):
        with connection.execute_wrapper(closed):
            assert process.deliver_backlog() == outbox.RETRY_S
        assert process.deliver_backlog() is None
    assert (subjects(), waiting()) == (["Paid"], [])


def test_a_message_that_expires_in_the_outbox_is_dropped() -> None:
    put("over", expires_at=timezone.now() + timedelta(hours=1))
    row = OutboxMessage.objects.get()
    OutboxMessage.objects.update(payload=json.dumps({**json.loads(row.payload), "expires_at": "2026-01-31T12:00:00Z"}))
    put("good")
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
    with answering(refusal, GOOD, OUTBOX=True, DELIVERY="inline") as server:
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
    with answering(trouble, OUTBOX=True, DELIVERY="inline", TIMEOUT_S=2) as server:
        run = delivery.deliver_all()
        assert set(requested(server)) == {"first"}
    assert run.counts() == {"delivered": 0, "expired": 0, "failed": 0}
    assert run.error
    rows = OutboxMessage.objects.all()
    assert [(row.state, row.attempts) for row in rows] == [("waiting", 1), ("waiting", 0)]
    delivery.deliver_all()
    assert subjects() == ["first", "second"]


def put_nearly_suspected(first: str, second: str) -> None:
    """Two messages, of which the first is suspected if it fails once more."""
    put(first, second)
    OutboxMessage.objects.filter(payload__contains=first).update(attempts=delivery.PATIENCE - 1)


AWAY = (503, {"Retry-After": "60"}, b"{}")
"""It is not repeated within the call."""


def test_a_message_that_always_fails_is_postponed_when_the_next_is_delivered() -> None:
    put("heavy", "light")
    with answering(
        lambda body: AWAY if body.get("subject") == "heavy" else GOOD,
        OUTBOX=True,
        DELIVERY="inline",
    ):
        for _ in range(delivery.PATIENCE - 1):
            publisher.current().breaker.succeeded()
            assert delivery.deliver_all().error
            assert waiting() == ["heavy", "light"]
        publisher.current().breaker.succeeded()
        assert delivery.deliver_all().delivered == 1
    heavy = OutboxMessage.objects.get()
    assert (heavy.attempts, heavy.state) == (delivery.PATIENCE, "waiting")
    assert timedelta(seconds=20) < heavy.due_at - timezone.now() < timedelta(seconds=33)


def test_a_message_that_fails_just_before_the_service_is_back_is_not_overtaken() -> None:
    put_nearly_suspected("first", "second")
    arrived: list[str] = []

    def back_after_the_first_try(body: Any) -> Any:
        asked = body.get("subject")
        if asked == "first" and not server.is_back:
            return AWAY
        server.is_back = True  # by whatever the deliverer calls next
        arrived.extend([asked] if asked else [])
        return GOOD

    with answering(back_after_the_first_try, OUTBOX=True, DELIVERY="inline") as server:
        server.is_back = False  # type: ignore[attr-defined]
        assert delivery.deliver_all().delivered == 2
    assert arrived == ["first", "second"]


def test_a_message_is_not_overtaken_by_the_next_that_is_tried_when_the_service_is_back() -> None:
    put_nearly_suspected("first", "second")

    def back_for_the_second(body: Any) -> Any:
        return GOOD if body.get("subject") == "second" else AWAY

    with answering(back_for_the_second, OUTBOX=True, DELIVERY="inline"):
        run = delivery.deliver_all()
    assert (run.delivered, bool(run.error), waiting()) == (0, True, ["first", "second"])


def test_a_message_that_opened_the_circuit_by_itself_is_overtaken_while_the_service_answers() -> None:
    put_nearly_suspected("heavy", "light")

    def heavy_fails(body: Any) -> Any:
        return AWAY if body.get("subject") == "heavy" else GOOD

    with answering(heavy_fails, OUTBOX=True, DELIVERY="inline"):
        publisher.current().breaker.failed()
        publisher.current().breaker.failed()
        run = delivery.deliver_all()
    assert (run.delivered, waiting()) == (1, ["heavy"])


@pytest.mark.slow
def test_after_a_long_outage_messages_are_delivered_in_order(no_service: dict[str, Any]) -> None:
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


@pytest.mark.slow
def test_concurrent_deliverers_send_each_message_once_and_in_order_per_process() -> None:
    batches = [[f"{process} {n}" for n in range(15)] for process in range(4)]
    for batch in batches:
        put(*batch)

    def work(_: int) -> int:
        try:
            return delivery.deliver_all().delivered
        finally:
            connection.close()

    with answering(GOOD, OUTBOX=True, DELIVERY="inline") as server:
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


def test_a_change_waits_for_its_message_in_the_outbox_of_another_process_and_holds_up_no_other() -> None:
    (message_id,) = put("wrong")
    Message.correct(message_id, to_users=1, subject="corrected")
    Message.correct(message_id, to_users=1, subject="corrected again")
    Message(to_users=1, subject="other").send()
    assert subjects() == ["other"]
    assert OutboxMessage.objects.count() == 3
    run = delivery.deliver_all()
    assert (run.delivered, run.failed, run.error) == (3, 0, "")
    assert subjects() == ["other", "corrected again"]


def test_a_retracted_message_stays_retracted_when_its_own_process_delivers_it_late() -> None:
    (message_id,) = put("wrong")
    Message.retract_by_id(message_id, to_users=1)
    assert sent.retracted == []
    assert OutboxMessage.objects.count() == 2
    assert delivery.deliver_all().delivered == 2
    assert (subjects(), sent.retracted) == ([], [message_id])
    assert not OutboxMessage.objects.exists()


def test_a_change_of_a_refused_message_waits_for_nothing() -> None:
    (message_id,) = put("refused")
    OutboxMessage.objects.update(state="failed")
    Message.retract_by_id(message_id, to_users=1)
    assert sent.retracted == [message_id]


def test_a_later_change_does_not_overtake_the_earlier_when_the_message_is_delivered_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (message_id,) = put("wrong")
    Message.correct(message_id, to_users=1, subject="first")
    Message.correct(message_id, to_users=1, subject="second")
    tried = delivery.outcome_of
    origin = outbox._process.origin

    def tried_and_then_delivered(row: OutboxMessage, *args: Any) -> tuple[delivery.DeliveryOutcome, Exception | None]:
        outcome = tried(row, *args)
        message = OutboxMessage.objects.filter(message_id=message_id).first()
        if message is not None:
            assert tried(message)[0] is delivery.DeliveryOutcome.DELIVERED
            delivery.remove(message)
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "outcome_of", tried_and_then_delivered)
        assert delivery.deliver_due(origin=origin).delivered == 0
    assert delivery.deliver_due(origin=origin).delivered == 2
    assert subjects() == ["second"]
