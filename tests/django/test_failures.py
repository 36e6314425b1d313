"""What the log says about an outage: its first failure, then a number each minute; and nothing about requests."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test import override_settings

from django_bridge import Message, publisher
from django_bridge.publisher.failures import FailureLog
from django_bridge.publisher.transport import Unreachable
from notifier.errors import NotAllowed
from tests.django.answering import CUT, GOOD, answering
from tests.django.conftest import http_settings
from tests.support import free_port


def test_an_outage_is_one_line_and_a_number_each_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    failures = FailureLog(clock=lambda: now)
    for n in range(240):
        failures.failed(Unreachable("away"), f"call {n} failed")
        now += 0.5
    assert [record.getMessage() for record in caplog.records] == [
        "call 0 failed",
        "call 120 failed (and 119 more failed in the last 60 s)",
    ]
    failures.failed(NotAllowed("a wrong key"), "another kind")
    assert caplog.records[-1].getMessage() == "another kind"


def test_the_end_of_an_outage_is_a_line_with_the_number_of_its_failures(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    failures = FailureLog(clock=lambda: now)
    failures.succeeded()
    for n in range(100):
        failures.failed(Unreachable("away"), f"call {n} failed")
        now += 0.5
    failures.failed(NotAllowed("a wrong key"), "another kind")
    for _ in range(3):
        failures.succeeded()
    assert [record.getMessage() for record in caplog.records] == [
        "call 0 failed",
        "another kind",
        "the service answers again after 100 failed calls in 50 s",
    ]
    now += 20
    failures.failed(Unreachable("away"), "call 100 failed (and no word of the 99)")
    assert caplog.records[3].getMessage() == "call 100 failed (and no word of the 99)"
    now += 3600
    failures.succeeded()
    assert caplog.records[4].getMessage() == "the service answers again after 1 failed call in 0 s", (
        "no calls, no outage"
    )


def test_a_service_that_is_away_every_few_seconds_is_four_lines_a_minute_and_each_failure_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, failed = 1000.0, 0
    failures = FailureLog(clock=lambda: now)
    for n in range(1000):
        for _ in range(3):
            failures.failed(Unreachable("away"), f"call {n} failed")
            failed += 1
        now += 0.5
        failures.succeeded()
        now += 0.5
    assert len(caplog.records) <= 4 * 1000 / 60 + 4
    now += 60
    failures.succeeded()
    ends = [record.getMessage() for record in caplog.records if "answers again" in record.getMessage()]
    assert sum(int(text.split(" after ")[1].split()[0]) for text in ends) == failed


def test_a_call_that_is_answered_after_an_outage_is_the_line_of_its_end(caplog: pytest.LogCaptureFixture) -> None:
    is_away = True
    with answering(lambda body: CUT if is_away else GOOD, TIMEOUT_S=2):
        for n in range(2):
            Message(to_users=1, subject=f"message {n}").send()
        is_away = False
        while publisher.current().counts.sent < 2:
            Message(to_users=1, subject="Test").send()
    (record,) = [record for record in caplog.records if "answers again" in record.getMessage()]
    assert (record.name, record.levelno) == ("django_bridge", logging.WARNING)


def test_the_calls_of_an_outage_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1)):
        for n in range(50):
            Message(to_users=1, subject=f"message {n}").send()
    assert len([record for record in caplog.records if record.name == "django_bridge"]) == 1


def test_messages_that_wait_in_the_outbox_are_one_line(
    outbox_process: None, no_service: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(5):
        Message(to_users=1, subject=f"message {n}").send()
    (record,) = [record for record in caplog.records if record.name == "django_bridge"]
    assert record.levelno == logging.WARNING
    assert "stays in the outbox" in record.getMessage()


def test_a_message_that_the_service_refuses_to_a_wrong_key_is_no_outage(
    outbox_process: None, caplog: pytest.LogCaptureFixture
) -> None:
    with answering((401, {}, b'{"detail": "a wrong key"}'), GOOD, OUTBOX=True, DELIVERY="inline"):
        for n in range(2):
            Message(to_users=1, subject=f"message {n}").send()
    (record,) = [record for record in caplog.records if record.name == "django_bridge"]
    assert "stays in the outbox" in record.getMessage()


def test_a_call_that_was_not_tried_since_too_many_wait_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    with answering(GOOD):
        publisher.current().dropped("message 1")
        Message(to_users=1, subject="Test").send()
    (record,) = [record for record in caplog.records if record.name == "django_bridge"]
    assert record.getMessage() == "message 1 was dropped: too many calls wait for the service"


def test_each_refused_message_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with answering((422, {}, b'{"detail": "too bad"}')):
        for n in range(3):
            Message(to_users=1, subject=f"message {n}").send()
    assert caplog.text.count("too bad") == 3


@pytest.mark.parametrize("level", [logging.NOTSET, logging.INFO])
def test_requests_are_logged_only_where_the_project_asks_for_it(level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("httpx")
    before = logger.level
    logger.setLevel(level)
    try:
        with answering(GOOD):
            Message(to_users=1, subject="Test").send()
            publisher.current().close()
    finally:
        logger.setLevel(before)
    assert ("HTTP Request: POST" in caplog.text) is (level == logging.INFO)
