"""Calls for a stream that another process has: two services of one worker each, on one Redis with three shards."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import httpx
import pytest

from notifier.auth import topic_grant
from notifier.control import ANSWER_S
from tests.api.support import User, calling, data_of, problem_of, unique
from tests.support import API_KEY, JWT_SECRET, RedisServer, Service, running

REPEATS = 5


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer) -> Iterator[tuple[Service, Service]]:
    env = {"NOTIFIER_PREFIX": "elsewhere:", "NOTIFIER_SHARDS": "3"}
    with (
        running(Service(redis_url=redis_server.url, env=env)) as first,
        running(Service(redis_url=redis_server.url, env=env)) as second,
    ):
        yield first, second


def change(service: Service, user: User, connection: str, *topics: str, since: str | None = None) -> httpx.Response:
    grant = topic_grant(JWT_SECRET, user.name, topics)
    body = {"connection": connection, "add": [grant], "since": since}
    with calling(service, user.token) as client:
        for _ in range(REPEATS):
            answer = client.post("/v1/stream/topics", json=body)
            if answer.status_code != 503:
                break  # else the other process stood still for a second
        return answer


def send(service: Service, topic: str) -> str:
    with calling(service, API_KEY) as publisher:
        answer = publisher.post("/v1/events", json={"to": [f"topic:{topic}"], "type": "changed"})
    cursor: str = answer.raise_for_status().json()["cursor"]
    return cursor


def test_a_call_at_another_process_reaches_the_stream(pair: tuple[Service, Service]) -> None:
    first, second = pair
    for _ in range(4):  # users of several shards
        user = User(first, unique())
        fresh, changed = unique("order"), unique("order")
        send(second, fresh)
        with calling(second, user.token) as client:
            since = client.get("/v1/cursor").json()["cursor"]
        send(first, changed)
        with user.client, user.listen() as stream:
            connection = data_of(stream.next("hello"))["connection"]
            answer = change(second, user, connection, fresh, changed, since=since).raise_for_status().json()
            assert (sorted(answer["topics"]), answer["stale"]) == (sorted((fresh, changed)), [changed])
            send(second, fresh)
            assert stream.next().event == "changed"
            too_many = [f"{number}" for number in range(50)]
            for part in range(3):
                change(second, user, connection, *(f"{part}-{name}" for name in too_many)).raise_for_status()
            problem_of(change(second, user, connection, *too_many), 409, "add")


def test_a_call_at_another_process_is_answered_within_a_second(pair: tuple[Service, Service]) -> None:
    """Half of the calls at least: a process of a loaded machine may stand still for longer, and is then a 503."""
    first, second = pair
    user, times = User(first, unique()), []
    with user.client, user.listen() as stream:
        connection = data_of(stream.next("hello"))["connection"]
        for _ in range(10):
            began = time.monotonic()
            change(second, user, connection, unique("order")).raise_for_status()
            times.append(time.monotonic() - began)
    assert statistics.median(times) < ANSWER_S <= 1, times


def test_a_connection_that_no_process_has_is_unknown(pair: tuple[Service, Service]) -> None:
    first, second = pair
    user, other = User(first, unique()), User(first, unique())
    with user.client, other.client:
        with user.listen() as stream, other.listen() as others:
            ended = data_of(stream.next("hello"))["connection"]
            others.next("hello")
            problem_of(change(second, other, ended, "x"), 404, "connection")
        with user.listen() as stream:
            stream.next("hello")
            problem_of(change(second, user, ended, "x"), 404, "connection")
        problem_of(change(second, user, ended, "x"), 404, "connection")
