"""The deadline of an attempt over Redis: what each command of it may take. The clock is the test's."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from django_bridge.publisher import redis_connection
from django_bridge.publisher.redis_connection import SHORTEST_S, Deadline, connection_pool
from tests.support import RedisServer

Advance = Callable[[float], None]


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    """Moves the clock of the deadlines, which stands still."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(redis_connection, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def move(seconds: float) -> None:
        clock.now += seconds

    return move


def test_a_command_gets_its_timeout_or_what_is_left_of_the_attempt(advance: Advance) -> None:
    deadline = Deadline()
    assert deadline.limit(0.5) == 0.5
    with deadline.within(1):
        assert deadline.limit(0.5) == 0.5
        assert deadline.limit(2) == pytest.approx(1)
        advance(0.9)
        assert deadline.limit(0.5) == pytest.approx(0.1)
        assert not deadline.is_over
        advance(0.2)
        assert deadline.is_over
        assert deadline.limit(0.5) == SHORTEST_S
    assert deadline.limit(0.5) == 0.5
    assert not deadline.is_over


def test_a_connect_and_each_command_of_an_attempt_get_what_is_left_of_it(
    advance: Advance, redis_server: RedisServer
) -> None:
    deadline = Deadline()
    pool = connection_pool(redis_server.url, timeout_s=5, deadline=deadline)
    with deadline.within(12):
        connection = pool.get_connection()
        assert connection.socket_connect_timeout == 5
        for passed_s, send_s, read_s in ((0, 5, 5), (8, 3, 2)):
            advance(passed_s)
            connection.send_command("PING")
            assert connection._sock.gettimeout() == pytest.approx(send_s)
            advance(1)
            assert connection.read_response() == b"PONG"
            assert connection._sock.gettimeout() == pytest.approx(read_s)
        connection.disconnect()
    with deadline.within(3):
        connection.connect()
        assert connection.socket_connect_timeout == pytest.approx(3)
    pool.disconnect()
