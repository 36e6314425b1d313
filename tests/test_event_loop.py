"""The service's event loop: a crowd of ready sockets does not hold its timers up."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Iterator

import pytest

from notifier.event_loop import MAX_READY, PortionSelector, new_loop

CROWD = 5 * MAX_READY


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = new_loop()
    yield loop
    loop.close()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    pairs = [socket.socketpair() for _ in range(CROWD)]
    yield pairs
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_timer_runs_between_portions_of_the_ready_sockets(
    loop: asyncio.AbstractEventLoop, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    read: list[socket.socket] = []
    read_at_timer: list[int] = []

    def on_readable(end: socket.socket) -> None:
        end.recv(1)
        read.append(end)
        if len(read) == 1:
            loop.call_soon(lambda: read_at_timer.append(len(read)))
        if len(read) == CROWD:
            loop.stop()

    for end, other in pairs:
        loop.add_reader(end, on_readable, end)
        other.send(b"x")
    loop.run_forever()
    assert read_at_timer == [MAX_READY]
    assert set(read) == {end for end, _ in pairs}


def test_a_socket_that_is_always_ready_does_not_keep_the_others_waiting(
    loop: asyncio.AbstractEventLoop, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    """The first ones are never read, so they are ready at every call."""
    rounds: dict[socket.socket, int] = {}

    def on_readable(end: socket.socket) -> None:
        rounds[end] = rounds.get(end, 0) + 1
        if len(rounds) == CROWD:
            loop.stop()

    for end, other in pairs:
        loop.add_reader(end, on_readable, end)
        other.send(b"x")
    loop.run_forever()
    assert max(rounds.values()) - min(rounds.values()) <= 1


def test_readable_writable_and_hung_up_sockets_are_told_apart(loop: asyncio.AbstractEventLoop) -> None:
    selector = PortionSelector()
    near, far = socket.socketpair()
    with near, far:
        key = selector.register(near, selectors.EVENT_READ | selectors.EVENT_WRITE, "data")
        assert selector.select(0) == [(key, selectors.EVENT_WRITE)]
        far.send(b"x")
        assert selector.select(0) == [(key, selectors.EVENT_READ | selectors.EVENT_WRITE)]
        key = selector.modify(near, selectors.EVENT_READ, "other")
        assert selector.select(0) == [(key, selectors.EVENT_READ)]
        assert selector.get_key(near).data == "other"
        near.recv(1)
        assert selector.select(0) == []
        far.close()
        assert selector.select(0) == [(key, selectors.EVENT_READ)]
        with pytest.raises(KeyError, match="already registered"):
            selector.register(near, selectors.EVENT_READ)
        near_fd = near.fileno()
        near.close()
        assert selector.unregister(near_fd) == key
        with pytest.raises(KeyError):
            selector.get_key(near_fd)
    selector.close()


async def test_the_service_runs_on_it() -> None:
    from uvicorn import Config

    from notifier import server

    settings: Config = server.config("notifier.app:create_app", workers=1, drain_s=1)
    factory = settings.get_loop_factory()
    assert factory is not None
    service_loop = factory()
    try:
        assert isinstance(service_loop._selector, PortionSelector)  # type: ignore[attr-defined]
    finally:
        service_loop.close()


def test_a_reader_is_looked_up_by_its_socket(
    loop: asyncio.AbstractEventLoop, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    """asyncio looks it up in the selector's map since Python 3.13."""
    selector = PortionSelector()
    end, _ = pairs[0]
    key = selector.register(end, selectors.EVENT_READ, "data")
    assert selector.get_map()[end] is key
    selector.close()
    loop.add_reader(end, print)
    loop.add_reader(end, print)
    assert loop.remove_reader(end)
