"""Without a service: callers block only for their time budget, rows are written, the circuit opens."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_bridge import Message, Progress, Task, progress, publisher
from django_bridge.models import TaskRecord
from django_bridge.publisher import retry
from django_bridge.publisher.retry import SHORTEST_TRY_S, Breaker, repeat
from django_bridge.publisher.transport import Unreachable
from notifier.errors import BrokerUnavailable
from tests.django.answering import SilentServer
from tests.django.conftest import http_settings
from tests.support import free_port, running

TIMEOUT_S = 1.5


@pytest.fixture(params=["refused", "hangs", "redis refused", "redis hangs"])
def away(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Settings with which no service can be reached."""
    with running(SilentServer()) as silent:
        url = f"127.0.0.1:{silent.port}" if "hangs" in request.param else f"127.0.0.1:{free_port()}"
        if "redis" in request.param:
            yield {"TRANSPORT": "redis", "REDIS_URL": f"redis://{url}", "TIMEOUT_S": TIMEOUT_S}
        else:
            yield http_settings(f"http://{url}", TIMEOUT_S=TIMEOUT_S)


def test_without_a_service_a_caller_blocks_only_for_its_budget_and_nothing_is_raised(
    away: dict[str, Any], user: User, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(NOTIFIER=away):
        started = time.monotonic()
        message_id = Message(to_users=user, subject="Test").send()
        assert time.monotonic() - started < 2.5 * TIMEOUT_S
        assert publisher.current().counts.failed == 1
        (record,) = [logged for logged in caplog.records if logged.name == "django_bridge"]
        assert record.levelno == logging.ERROR
        assert message_id in record.getMessage()


@pytest.mark.slow
def test_without_a_service_the_row_of_a_task_is_written(away: dict[str, Any], user: User) -> None:
    with override_settings(NOTIFIER=away):
        task = Task(from_user=user, task_name="Import")
        for _ in Progress(range(4), parts=2, task=task):
            pass
        task.fail("no paper")
        row = TaskRecord.objects.get()
        assert (row.status, row.done, row.total, row.error) == ("failed", 4, 4, "no paper")


@pytest.mark.slow
def test_with_raise_a_call_raises_and_the_row_is_written(away: dict[str, Any], user: User) -> None:
    with override_settings(NOTIFIER={**away, "RAISE": True}):
        with pytest.raises(BrokerUnavailable):
            Message(to_users=user, subject="Test").send()
        task = Task(from_user=user, task_name="Import")
        with pytest.raises(BrokerUnavailable):
            task.begin(state="begins")
        assert TaskRecord.objects.get().state == "begins"


def test_with_raise_the_exception_of_a_decorated_function_is_not_replaced(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, RAISE=True)):
            raise LookupError("row 5")

    class Request:
        pass

    request: Any = Request()
    request.user = user
    with pytest.raises(LookupError, match="row 5"):
        run(request)


def test_after_failures_in_a_row_calls_fail_at_once(user: User) -> None:
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.2)):
        for _ in range(3):
            Message(to_users=user, subject="Test").send()
        for _ in range(100):
            Message(to_users=user, subject="Test").send()
        counts = publisher.current().counts
        assert (counts.failed, counts.refused_at_once) == (103, 100)


def test_the_circuit_allows_one_call_after_its_pause_and_closes_when_it_succeeds() -> None:
    now = 0.0
    breaker = Breaker(threshold=2, open_s=5, clock=lambda: now)
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    now = 5.1
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    now = 10.0
    assert not breaker.allows()
    assert breaker.open
    now = 10.3
    assert not breaker.open
    assert breaker.allows()
    assert breaker.open
    breaker.succeeded()
    assert not breaker.open
    assert breaker.allows()
    assert breaker.allows()


def test_a_pause_that_took_too_long_leaves_the_next_attempt_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = time.sleep
    monkeypatch.setattr(retry.time, "sleep", lambda pause_s: sleep(0.3))
    times: list[float] = []

    def attempt(within_s: float) -> str:
        times.append(within_s)
        if len(times) == 1:
            raise Unreachable("away")
        return "there"

    assert repeat(attempt, 0.2, lambda: None) == "there"
    assert times[1] == SHORTEST_TRY_S
