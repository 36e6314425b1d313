"""Streams that end: drained, slow, expired, half-open. The others stay."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.support import ADMIN_KEY, RedisServer, Service, bearer, running, subscriber_token


async def test_a_signal_ends_every_stream_with_a_farewell_spread_over_the_drain_time(
    scale: Scale, figure: Callable[..., None]
) -> None:
    streams, drain_s = scale.whole(200, 2000), scale.whole(4, 10)
    env = {"NOTIFIER_DRAIN_S": str(drain_s), "NOTIFIER_MAX_STREAMS_PER_ADDRESS": "10000"}
    with running(Service(env=env)) as service:
        listeners = [Listener(service.port, f"u{i}", comes_back=False) for i in range(streams)]
        ends: list[float] = []

        async with listening(*listeners) as tasks:
            for task in tasks:
                task.add_done_callback(lambda _: ends.append(time.monotonic()))
            service.process.signal(signal.SIGTERM)
            asked = time.monotonic()
            async with httpx.AsyncClient(base_url=service.url) as client:
                while (ready := await client.get("/readyz")).status_code == 200:
                    assert time.monotonic() < asked + scale(10, 1)
                assert ready.json()["draining"] is True
                assert (await client.get("/healthz")).status_code == 200
            await until(lambda: len(ends) == streams, 60, "the end of every stream")
        for listener in listeners:
            bye = listener.of("bye")[-1].data
            assert bye["reason"] == "drain"
            assert listener.retry_ms == bye["retry_ms"]
            assert listener.ended_cleanly == 1
        assert len({listener.retry_ms for listener in listeners}) > 100
        began = min(ends)
        per_half_second = [
            sum(began + i / 2 <= at < began + (i + 1) / 2 for at in ends) for i in range(2 * drain_s + 2)
        ]
        if scale.full:
            assert max(per_half_second) <= 2 * streams / (2 * drain_s), per_half_second
        assert max(ends) - began > drain_s / 8, per_half_second
        figure(streams=streams, drain_s=drain_s, most_ended_in_half_a_second=max(per_half_second), farewells=streams)
        assert await asyncio.to_thread(service.process.child.wait, 60) is not None


async def test_a_second_signal_stops_at_once() -> None:
    with running(Service(env={"NOTIFIER_DRAIN_S": "60"})) as service:
        listener = Listener(service.port, "ann", comes_back=False)
        async with listening(listener):
            service.process.signal(signal.SIGTERM)
            async with httpx.AsyncClient(base_url=service.url) as client:
                while not (await client.get("/readyz")).json()["draining"]:  # two that wait are one signal
                    await asyncio.sleep(0.02)
            assert service.process.child.poll() is None
            service.process.signal(signal.SIGTERM)
            await until(lambda: service.process.child.poll() is not None, 30, "the end of the process")


async def test_a_frozen_reader_is_closed_and_the_others_stay(scale: Scale, figure: Callable[..., None]) -> None:
    env = {"NOTIFIER_MAX_BACKLOG_BYTES": "65536", "NOTIFIER_HISTORY_SIZE": "2000"}
    count, size = scale.whole(310, 600), scale.whole(15_500, 8000)  # in bytes more than the kernel buffers
    with running(Service(env=env)) as service:
        frozen = [_frozen_stream(service, f"f{i}") for i in range(scale.whole(6, 200))]
        listener = Listener(service.port, "ann")
        async with listening(listener):
            async with httpx.AsyncClient(base_url=service.url, headers=bearer("test-key-0123456789abcdef")) as client:
                for i in range(count):
                    body = {"to": ["all"], "subject": str(i), "text": "x" * size}
                    assert (await client.post("/v1/messages", json=body)).status_code == 200
            await until(lambda: len(listener.messages) == count)
            assert [message.data["subject"] for message in listener.messages] == [str(i) for i in range(count)]
            assert listener.connects == 1
            await until(lambda: service.open_streams() == 1, 30, "the end of every frozen stream")
        for connection in frozen:
            # The data in the kernel's buffer can still be read; the connection ends after it.
            connection.settimeout(5)
            received = 0
            try:
                while data := connection.recv(1 << 20):
                    received += len(data)
            except ConnectionResetError:
                pass
            assert received < count * size
            connection.close()
        figure(frozen=len(frozen), delivered_to_the_other=count)


@pytest.fixture(scope="module")
def lively() -> Iterator[Service]:
    """A service with two heartbeats a second."""
    with running(Service(env={"NOTIFIER_HEARTBEAT_S": "0.5", "NOTIFIER_MAX_STREAMS_PER_USER": "100"})) as service:
        yield service


async def test_a_half_open_connection_is_freed(lively: Service, scale: Scale, figure: Callable[..., None]) -> None:
    listener = Listener(lively.port, "ann")
    async with listening(listener):
        lost = [_frozen_stream(lively, "gone") for _ in range(scale.whole(5, 100))]
        await until(lambda: lively.open_streams() == 1 + len(lost))
        for connection in lost:
            _drop_everything_that_arrives(connection)
        dropped = time.monotonic()
        await asyncio.sleep(10)  # the time limit for unacknowledged data frees them, not the close of a connection
        assert lively.open_streams() == 1 + len(lost)
        await until(lambda: lively.open_streams() == 1, 60, "the end of every half-open stream")
        freed_s = round(time.monotonic() - dropped, 1)
        assert listener.connects == 1
    for connection in lost:
        connection.close()
    figure(half_open=len(lost), freed_after_s=freed_s)


def _drop_everything_that_arrives(connection: socket.socket) -> None:
    """The kernel acknowledges nothing more and sends no reset: to the other side, the network is gone.

    A socket filter of one instruction, "keep 0 bytes" (bpf(2), SO_ATTACH_FILTER), sees segments before TCP does.
    """
    keep_nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(keep_nothing))
    so_attach_filter = 26
    connection.setsockopt(socket.SOL_SOCKET, so_attach_filter, program)


async def test_a_revoked_user_s_streams_end_in_every_process(
    redis_server: RedisServer, redis_service: Service, scale: Scale, figure: Callable[..., None]
) -> None:
    two, ann, bob = redis_service, "revoked-ann", "revoked-bob"
    with running(Service(redis_url=redis_server.url)) as third, third.client(ADMIN_KEY) as admin:
        revoked = [Listener(two.port, ann, comes_back=False) for _ in range(8)]
        revoked.append(Listener(third.port, ann, comes_back=False))
        others = [Listener(two.port, bob), Listener(third.port, bob)]
        async with listening(*revoked, *others):
            asked = time.monotonic()
            admin.post(f"/v1/users/{ann}/disconnect").raise_for_status()
            await until(lambda: all(listener.of("bye") for listener in revoked), what="the end of every stream")
            took_s = time.monotonic() - asked
            assert {listener.of("bye")[0].data["reason"] for listener in revoked} == {"revoked"}
            assert took_s < scale(10, 2)
            assert all(listener.live for listener in others)
        figure(streams=len(revoked), processes=3, ended_within_s=round(took_s, 2))


def _frozen_stream(service: Service, user: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", service.port))
    connection.sendall(
        f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {subscriber_token(user)}\r\n\r\n".encode()
    )
    return connection


async def test_a_stream_ends_with_its_token(lively: Service) -> None:
    expires = time.time() + 4
    token = subscriber_token("ann", expires_in_s=4)
    async with (
        httpx.AsyncClient(base_url=lively.url, timeout=10) as client,
        client.stream("GET", "/v1/stream", headers=bearer(token)) as response,
    ):
        text = "".join([part async for part in response.aiter_text()])
    assert time.time() > expires - 1
    assert 'event: bye\ndata: {"reason":"expired"' in text


async def test_a_stream_s_life_ends_with_an_invitation_to_come_back() -> None:
    with running(Service(env={"NOTIFIER_STREAM_LIFE_S": "2"})) as service:
        listener = Listener(service.port, "ann")
        async with listening(listener):
            await until(lambda: listener.connects >= 2)
            assert listener.of("bye")[0].data["reason"] == "rotate"
            assert listener.ended_cleanly >= 1


async def test_pings_come_at_the_heartbeat(lively: Service, scale: Scale) -> None:
    listener = Listener(lively.port, "ann")
    started = time.monotonic()  # before the first can have come
    async with listening(listener):
        await until(lambda: len(listener.of("ping")) >= 4)
        assert 1 < time.monotonic() - started < scale(20, 6)
        assert listener.of("hello")[0].data["heartbeat_s"] == 0.5
