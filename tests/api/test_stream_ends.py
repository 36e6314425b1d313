"""Limits of streams, heartbeats, and the ends of streams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.api.conftest import MAX_STREAMS_PER_ADDRESS, MAX_STREAMS_PER_USER
from tests.api.support import PING, Listening, User, calling, data_of, ids_replayed, publish, raw_stream
from tests.support import API_KEY, Service, bearer, running, wait_for


def refused(service: Service, user: User, address: str = "127.0.0.1", after: str | None = None) -> Listening:
    cursor = {} if after is None else {"Last-Event-ID": after}
    return Listening(service, bearer(user.token) | cursor, address=address)


def test_one_stream_too_many_of_a_user_is_a_200_with_retry_and_bye(
    tight: Service, user_of: Callable[..., User]
) -> None:
    user = user_of(tight)
    with user.listen() as first, user.listen() as second:
        assert MAX_STREAMS_PER_USER == 2
        for stream in (first, second):
            stream.next("hello")
        with refused(tight, user) as extra:
            assert extra.response.status_code == 200
            assert extra.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            (bye,) = extra.rest()
        assert (bye.event, bye.id) == ("bye", "")
        assert data_of(bye) == {"reason": "evicted", "retry_ms": bye.retry}
        assert bye.retry is not None
        with user_of(tight).listen() as other:
            other.next("hello")

    def is_accepted_again() -> bool:
        with user.listen() as stream:
            return stream.next().event == "hello"

    wait_for(is_accepted_again, what="room for another stream")


def test_a_refused_stream_says_where_its_client_stands(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    with user.listen() as first, user.listen() as second:
        first.next("hello")
        second.next("hello")
        for after, place in (("e1-17", "e1-17"), ("nonsense", "0-0"), ("", ""), (None, "")):
            with refused(tight, user, after=after) as extra:
                (bye,) = extra.rest()
            assert (bye.event, bye.id) == ("bye", place)
            assert bye.retry is not None


def test_one_stream_too_many_of_an_address_is_a_200_with_retry_and_bye(
    tight: Service, user_of: Callable[..., User]
) -> None:
    crowded = "127.0.0.9"
    streams = [Listening(tight, bearer(user_of(tight).token), address=crowded) for _ in range(MAX_STREAMS_PER_ADDRESS)]
    for stream in streams:
        stream.__enter__().next("hello")
    try:
        with refused(tight, user_of(tight), crowded) as extra:
            (bye,) = extra.rest()
        assert data_of(bye)["reason"] == "evicted"
        with refused(tight, user_of(tight), "127.0.0.10") as elsewhere:
            elsewhere.next("hello")
    finally:
        for stream in streams:
            stream.close()


def test_a_named_ping_comes_at_the_interval_given_in_hello(tight: Service, user_of: Callable[..., User]) -> None:
    user, started = user_of(tight), time.monotonic()  # before the first can have come
    with user.listen() as stream:
        assert data_of(stream.next("hello"))["heartbeat_s"] == 0.2
        for _ in range(5):
            assert data_of(stream.ping()) == {}
        assert 0.6 <= time.monotonic() - started <= 10


def test_a_ping_on_the_wire_has_no_id(tight: Service, user_of: Callable[..., User]) -> None:
    received = raw_stream(tight, user_of(tight), until=PING, act=lambda: None)
    # On a loaded machine, one comes before hello, and the next is read with it.
    before, ping, _ = received.partition(b"event: hello")[2].partition(PING)
    assert (before.endswith(b"}\n\n"), ping) == (True, PING)


@pytest.mark.slow
def test_a_stream_ends_when_its_token_expires_with_that_reason(someone: Callable[..., User]) -> None:
    with someone(expires_in_s=1).listen() as stream:
        (hello, bye) = stream.rest()
    assert (hello.event, bye.event) == ("hello", "bye")
    assert data_of(bye) == {"reason": "expired", "retry_ms": bye.retry}


@pytest.fixture(scope="module")
def brief() -> Iterator[Service]:
    """The service with streams that live for one to two seconds."""
    with running(Service(env={"NOTIFIER_STREAM_LIFE_S": "2"})) as service:
        yield service


@pytest.mark.slow
def test_a_stream_is_ended_after_its_life_and_resumes_from_its_cursor(
    brief: Service, user_of: Callable[..., User]
) -> None:
    user = user_of(brief)
    with user.listen() as stream:
        cursor = stream.next("hello").id
        (bye,) = stream.rest()
    assert data_of(bye) == {"reason": "rotate", "retry_ms": bye.retry}
    with calling(brief, API_KEY) as client:
        sent = publish(client, user)
    with user.listen(after=cursor) as stream:
        assert ids_replayed(stream, 1) == [sent["cursor"]]


@pytest.mark.slow
def test_a_signal_drains_the_streams_with_bye(user_of: Callable[..., User]) -> None:
    with running(Service()) as service, user_of(service).listen() as stream:
        stream.next("hello")
        service.process.child.terminate()
        (bye,) = stream.rest()
    assert data_of(bye) == {"reason": "drain", "retry_ms": bye.retry}
