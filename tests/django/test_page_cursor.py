"""The cursor of a page while the service is slow or silent: no view waits for it for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

from django_bridge import Message, publisher
from django_bridge.cursors import UNKNOWN
from django_bridge.middleware import live
from tests.django.answering import GOOD, SilentServer, answering
from tests.django.conftest import http_settings
from tests.support import running, wait_for

TIMEOUT_S = 20
SLACK_S = 4


def view() -> tuple[float, object]:
    """One view behind the middleware: how long it was held, and its cursor."""
    request = RequestFactory().get("/")
    request.COOKIES["sessionid"] = "x"
    began = time.monotonic()
    live(lambda request: HttpResponse())(request)
    return time.monotonic() - began, request.notifier_cursor  # type: ignore[attr-defined]


@pytest.fixture(params=["http", "redis"])
def _silent(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(SilentServer()) as silent:
        address = f"127.0.0.1:{silent.port}"
        redis = {"TRANSPORT": "redis", "REDIS_URL": f"redis://{address}", "TIMEOUT_S": TIMEOUT_S}
        http = http_settings(f"http://{address}", TIMEOUT_S=TIMEOUT_S)
        with override_settings(NOTIFIER=http if request.param == "http" else redis):
            yield


@pytest.mark.usefixtures("_silent")
def test_a_silent_service_holds_a_view_for_a_moment_and_then_not_at_all() -> None:
    for _ in range(3):
        held_s, cursor = view()
        assert held_s < TIMEOUT_S / 10 + SLACK_S
        assert cursor == UNKNOWN
    assert view()[1] == UNKNOWN
    assert publisher.current().counts.refused_at_once == 1


def test_a_view_waits_for_all_of_its_tenth_of_the_timeout() -> None:
    def answer(body: Any) -> Any:
        time.sleep(3.5)  # over half of the tenth
        return GOOD

    with answering(answer, TIMEOUT_S=60):
        assert view()[1] == "a-1"
        assert publisher.current().counts.repeated == 0


def test_a_slow_service_is_asked_for_fewer_cursors_and_still_gets_all_messages(user: Any) -> None:
    is_fast = Event()

    def answer(body: Any) -> Any:
        if body is None:
            is_fast.wait(60)
        return GOOD

    with answering(answer, TIMEOUT_S=TIMEOUT_S) as server:
        try:
            for _ in range(3):
                held_s, cursor = view()
                assert (held_s < TIMEOUT_S / 10 + SLACK_S, cursor) == (True, UNKNOWN)
            asked = len(server.requests)
            assert view()[1] == UNKNOWN
            assert len(server.requests) == asked
            for _ in range(5):
                Message(to_users=user, subject="Paid").send()
            assert len(server.requests) == asked + 5
        finally:
            is_fast.set()
        wait_for(lambda: view()[1] == "a-1", what="the cursor of a service that is fast again")
        assert publisher.current().counts.sent >= 6


def test_no_cursor_is_asked_for_while_the_circuit_is_open(user: Any) -> None:
    with running(SilentServer()) as silent:
        pass
    with override_settings(NOTIFIER=http_settings(f"http://127.0.0.1:{silent.port}", TIMEOUT_S=0.1)):
        for _ in range(3):
            Message(to_users=user, subject="Paid").send()
        assert view()[1] == UNKNOWN
        assert publisher.current().counts.refused_at_once == 1
