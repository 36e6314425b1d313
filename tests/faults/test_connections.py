"""Connections that a stream has taken over: input from their clients is ignored, and no state stays when they leave."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.faults.test_nothing_lost import roomy
from tests.support import Service, running, subscriber_token, wait_for

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER with a timeout of 0: closing sends a TCP reset."""


@pytest.fixture(scope="module", params=["memory", "sqlite", "redis"])
def single(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One process, so that its metrics are complete. Pings are rare, so that no lost client is noticed by them."""
    if request.param == "memory":
        yield request.getfixturevalue("quiet")
        return
    url = f"sqlite://{tmp_path_factory.mktemp('file')}/notifier.db"
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    with running(Service(env=roomy(NOTIFIER_BROKER_URL=url, NOTIFIER_HEARTBEAT_S="60"))) as service:
        yield service


@pytest.fixture(scope="module")
def quiet() -> Iterator[Service]:
    """A service whose pings are rare."""
    with running(Service(env=roomy(NOTIFIER_HEARTBEAT_S="60"))) as service:
        yield service


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{",
        b"\x00\xff\x16\x03\x01garbage\r\n\r\n" * 50,
        b"\r\n",
    ],
    ids=["a request", "another stream", "half a request", "garbage", "an empty line"],
)
async def test_what_a_client_sends_on_a_stream_s_connection_changes_nothing(service: Service, sent: bytes) -> None:
    if b"%s" in sent:
        sent = sent % subscriber_token("eve").encode()
    open_before = service.open_streams()
    sender, other = Listener(service.port, "ann"), Listener(service.port, "bob")
    async with listening(sender, other):
        assert sender._writer is not None
        for _ in range(3):
            sender._writer.write(sent)
            await sender._writer.drain()
            before = len(sender.messages)
            with service.client() as client:
                note = {"to": ["user:ann", "user:bob"], "subject": "still"}
                assert client.post("/v1/messages", json=note).status_code == 200
            # An answer on this connection would break the chunks that the listener reads.
            await until(lambda before=before: len(sender.messages) == len(other.messages) == before + 1)  # type: ignore[misc]
        assert (sender.connects, other.connects) == (1, 1)
        assert service.open_streams() == open_before + 2
    await until(lambda: service.open_streams() == open_before, what="the end of both streams")


def test_a_stream_may_be_asked_for_behind_other_requests_of_its_connection(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        ask = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {subscriber_token('ann')}\r\n\r\n"
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + ask.encode())
        text = _read_hello(connection)
        assert text.count(b"HTTP/1.1 200") == 3
        with service.client() as client:
            assert client.post("/v1/messages", json={"to": ["user:ann"], "subject": "heard"}).status_code == 200
        while b"event: message" not in text:
            text += connection.recv(4096)
        open_now = service.open_streams()
    wait_for(lambda: service.open_streams() == open_now - 1, what="the end of the stream")


async def test_ten_megabytes_on_a_stream_s_connection_are_taken_and_not_kept(
    quiet: Service, scale: Scale, figure: Callable[..., None]
) -> None:
    sender, other = Listener(quiet.port, "ann"), Listener(quiet.port, "bob")
    megabyte = b"GET / HTTP/1.1\r\n" * (1 << 16)
    async with listening(sender, other):
        assert sender._writer is not None
        memory_before, _ = quiet.used()
        for _ in range(scale.whole(10, 200)):
            sender._writer.write(megabyte)
            async with asyncio.timeout(30):
                await sender._writer.drain()
        with quiet.client() as client:
            assert client.post("/v1/messages", json={"to": ["all"], "subject": "still"}).status_code == 200
        await until(lambda: len(sender.messages) == len(other.messages) == 1)
        memory_after, _ = quiet.used()
        assert (sender.connects, other.connects) == (1, 1)
    await until(lambda: quiet.open_streams() == 0, what="the end of both streams")
    assert memory_after - memory_before < 4
    figure(sent_MiB=scale.whole(10, 200), grown_MiB=round(memory_after - memory_before, 2))


@pytest.mark.parametrize(
    ("single", "reset"),
    [
        ("memory", False),
        pytest.param("memory", True, marks=pytest.mark.full),
        pytest.param("redis", False, marks=pytest.mark.full),
        ("redis", True),
        ("sqlite", True),
    ],
    indirect=["single"],
    ids=["memory-closed", "memory-reset", "redis-closed", "redis-reset", "sqlite-reset"],
)
def test_clients_that_connect_and_leave_at_once_leave_no_stream_behind(
    single: Service, scale: Scale, reset: bool
) -> None:
    opened_before = _metric(single, "streams_opened_total")
    for number in range(scale.whole(200, 2000)):
        with contextlib.closing(_request_stream(single, f"u{number % 50}")) as connection:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    staying = _request_stream(single, "ann")
    _read_hello(staying)
    wait_for(lambda: (_metric(single, "streams"), _metric(single, "topics")) == (1, 2), what="only the open stream")
    staying.close()
    wait_for(lambda: (_metric(single, "streams"), _metric(single, "topics")) == (0, 0), what="no stream")
    assert _metric(single, "streams_opened_total") > opened_before
    assert "Traceback" not in single.process.output()
    assert "ERROR" not in single.process.output()


def test_connecting_and_leaving_again_and_again_takes_no_memory(
    single: Service, scale: Scale, figure: Callable[..., None]
) -> None:
    _come_and_go(single, scale.whole(400, 1000))
    memory_before, _ = single.used()
    cycles = scale.whole(800, 20_000)
    began = time.monotonic()
    _come_and_go(single, cycles)
    took_s = time.monotonic() - began
    memory_after, _ = single.used()
    wait_for(lambda: _metric(single, "streams") == 0, what="no stream")
    assert memory_after - memory_before < 4
    figure(cycles=cycles, per_second=round(cycles / took_s), grown_MiB=round(memory_after - memory_before, 2))


def _request_stream(service: Service, user: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=10)
    token = subscriber_token(user)
    connection.sendall(f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return connection


def _come_and_go(service: Service, cycles: int, together: int = 20) -> None:
    """Open streams, wait for their hello and close them, `together` at a time."""
    for _ in range(cycles // together):
        connections = [_request_stream(service, f"u{number}") for number in range(together)]
        for connection in connections:
            _read_hello(connection)
            connection.close()


def _read_hello(connection: socket.socket) -> bytes:
    text = b""
    while b"event: hello" not in text:
        data = connection.recv(4096)
        assert data, text
        text += data
    return text


def _metric(service: Service, name: str) -> int:
    text = httpx.get(f"{service.url}/metrics", timeout=10).text
    return int(re.findall(rf'^notifier_{name}\{{worker="0"\}} (\d+)$', text, re.MULTILINE)[0])


@pytest.mark.parametrize(
    "sent",
    [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3, b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["requests", "another stream"],
)
def test_what_a_client_sends_in_the_same_packet_changes_nothing(service: Service, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection, service.client() as client:
        head = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {subscriber_token('ann')}\r\n\r\n"
        connection.sendall(head.encode() + sent)
        text = b""
        while text.count(b"event: message") < 2:
            if b"event: hello" in text:
                client.post("/v1/messages", json={"to": ["user:ann"], "subject": "still"})
            data = connection.recv(4096)
            assert data, f"the stream was ended: {text!r}"
            text += data
        assert text.count(b"HTTP/1.1") == 1


def test_a_client_that_sent_a_long_body_and_leaves_is_noticed_before_a_ping(quiet: Service) -> None:
    connection = socket.create_connection(("127.0.0.1", quiet.port), timeout=10)
    head = f"Host: x\r\nContent-Length: 100000\r\nAuthorization: Bearer {subscriber_token('ann')}"
    connection.sendall(f"GET /v1/stream HTTP/1.1\r\n{head}\r\n\r\n".encode() + b"x" * 100_000)
    text = b""
    while b"event: hello" not in text:
        text += connection.recv(4096)
    connection.close()
    wait_for(lambda: quiet.open_streams() == 0, timeout_s=30, what="the end of the stream")
