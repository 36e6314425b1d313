"""The server's own protocol, in this process: garbage left by requests, connections that become streams."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from notifier import server
from notifier.api import stream
from notifier.auth import Authenticator
from notifier.broker.memory.broker import MemoryBroker
from notifier.errors import BrokerUnavailable
from notifier.hub import Hub
from tests.serving import KEY, serving
from tests.support import subscriber_token

REQUESTS = 300


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving() as number:
        yield number


def request(method: str, path: str, credential: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {credential}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
def garbage() -> Iterator[None]:
    """Disables automatic garbage collection."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_requests_leave_nothing_for_the_collector(port: int, garbage: None) -> None:
    """A reference cycle per request would pause all streams after every few hundred requests."""
    body = json.dumps({"to": ["user:ann"], "type": "note", "data": "x"}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(REQUESTS + 1):
        if i == 1:
            gc.collect()  # objects of the first request
        writer.write(request("POST", "/v1/events", KEY, body))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    assert gc.collect() < REQUESTS / 10
    writer.close()


async def opened_stream(port: int) -> socket.socket:
    """A connection that has requested a stream. (A connection of asyncio would leave cycles.)"""
    link = socket.socket()
    link.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(link, ("127.0.0.1", port))
    await loop.sock_sendall(link, request("GET", "/v1/stream", subscriber_token("ann")))
    return link


async def received(link: socket.socket) -> bytes:
    """The next segment's bytes."""
    async with asyncio.timeout(20):
        return await asyncio.get_running_loop().sock_recv(link, 1 << 16)


async def test_streams_leave_nothing_for_the_collector(port: int, garbage: None) -> None:
    for i in range(REQUESTS + 1):
        if i == 1:
            gc.collect()  # objects of the first request
        with await opened_stream(port) as link:
            assert b"event: hello" in await received(link)
    await asyncio.sleep(0.05)
    assert gc.collect() < REQUESTS / 10


async def test_connections_leave_nothing_for_the_collector(port: int, garbage: None) -> None:
    loop = asyncio.get_running_loop()
    for i in range(REQUESTS + 1):
        if i == 1:
            gc.collect()  # objects of the first request
        with socket.socket() as link:
            link.setblocking(False)
            await loop.sock_connect(link, ("127.0.0.1", port))
            await loop.sock_sendall(link, request("POST", "/v1/events", KEY, b'{"to": ["all"], "type": "note"}'))
            assert b" 200 OK" in await received(link)
    await asyncio.sleep(0.05)
    assert gc.collect() < REQUESTS / 10


def test_accepted_connections_leave_little_unsent_data_to_the_kernel() -> None:
    for listener in server.listen("127.0.0.1", 0):
        listener.listen()
        with listener, socket.create_connection(listener.getsockname()):
            listener.settimeout(5)
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == server.MAX_UNSENT_BYTES


async def test_a_streams_head_goes_out_with_its_first_event(port: int) -> None:
    with await opened_stream(port) as link:
        first = await received(link)
    assert first.startswith(b"HTTP/1.1 200")
    assert b"event: hello" in first


async def test_a_streams_head_does_not_wait_long_for_its_first_event(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()
    answer = MemoryBroker.open

    async def slow(*asked: Any, **how: Any) -> object:
        await answered.wait()
        return await answer(*asked, **how)

    monkeypatch.setattr(MemoryBroker, "open", slow)
    with await opened_stream(port) as link:
        head, _, first = (await received(link)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"event: ping" in first
        answered.set()
        assert b"event: hello" in await received(link)


@pytest.mark.slow
async def test_a_streams_head_goes_out_before_a_busy_broker_is_retried(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, asked = MemoryBroker.open, 0

    async def busy(*words: Any, **how: Any) -> object:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise BrokerUnavailable("busy")
        return await answer(*words, **how)

    monkeypatch.setattr(MemoryBroker, "open", busy)
    monkeypatch.setattr(stream, "FIRST_EVENT_S", 0.1)
    monkeypatch.setattr("notifier.opener.RETRY_S", (2.2, 2.5))  # later than the first event
    with await opened_stream(port) as link:
        assert b"event: ping" in await received(link)
        assert asked == 1
        assert b"event: hello" in await received(link)


@pytest.mark.parametrize("where", ["before the head", "at the attach"])
async def test_a_stream_that_fails_ends_its_connection(port: int, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    if where == "before the head":
        monkeypatch.setattr(stream, "stream_head", fails)
    else:
        monkeypatch.setattr(Hub, "attach", fails)
    got = b"?"
    with await opened_stream(port) as link, contextlib.suppress(ConnectionResetError):
        got = await received(link)
    if where == "before the head":
        assert got.startswith(b"HTTP/1.1 500 ")
    else:
        assert got in (b"?", b"")


@pytest.mark.parametrize(
    ("status", "method", "path", "failing"),
    [
        (500, "POST", "/v1/events", (Authenticator, "publisher")),
        (500, "POST", "/v1/events", (MemoryBroker, "submit")),
        (500, "POST", "/v1/batch", (MemoryBroker, "submit")),
        (200, "POST", "/v1/events", None),
        (500, "GET", "/v1/stream", (Authenticator, "subscriber")),
    ],
)
async def test_an_unexpected_exception_is_answered_with_a_problem(
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    method: str,
    path: str,
    failing: tuple[type, str] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    if failing is not None:
        monkeypatch.setattr(*failing, fails)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    event = {"to": ["user:ann"], "type": "note"}
    body = [{"kind": "event", **event}] if path == "/v1/batch" else event
    writer.write(request(method, path, KEY, json.dumps(body).encode() if method == "POST" else b""))
    head = await reader.readuntil(b"\r\n\r\n")
    answer = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert (b"application/problem+json" in head) == (status == 500)
    if status == 500:
        problem = json.loads(answer)
        assert problem["detail"] == "the service failed; its log says more"
        (line,) = [record for record in caplog.records if getattr(record, "request_id", None) == problem["request_id"]]
        assert problem["request_id"] in line.getMessage()
    writer.close()
