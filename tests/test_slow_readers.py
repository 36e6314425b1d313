"""Readers that do not keep up, on real sockets: partial writes, and when a reader is given up."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest

from notifier.frames import EncodedFrame
from notifier.slow import STALLED_AFTER_S, SlowReaders
from notifier.stream import Stream
from notifier.transport import TransportStream
from tests.faults.clients import until
from tests.hubs import ScriptedBroker, Sockets, missed, read_all, running_hub, state, stream_on
from tests.test_stream import FIELDS, Wall

CROWD = 150
"""A round of several strides."""


@pytest.fixture
async def broker() -> ScriptedBroker:
    return ScriptedBroker()


# Partial writes


async def test_a_partial_write_is_completed_byte_for_byte_and_in_order(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD, send_buffer=4096)
        parts = [letter * size for letter, size in zip("abcdef", (1, 9_000, 70_000, 5, 40_000, 300), strict=True)]
        for part in parts:
            broker.publish(hub, "all", part)
            await until(lambda: not hub._rounds)
        assert all(stream.backlog_bytes and stream.send is None for stream in streams), "the writes were partial"
        broker.publish(hub, "all", "behind")
        due = [*parts, "behind"]
        await until(lambda: read_all(clients) and all(client.of("x") == due for client in clients), what="every byte")
        await until(lambda: all(stream.send is not None for stream in streams), what="direct sends again")
        broker.publish(hub, "all", "after")
        await until(lambda: all(client.of("x")[-1] == "after" for client in clients))
        assert not hub.counts["ended_slow"]


async def test_rounds_direct_events_states_and_pings_behind_a_small_buffer_are_whole_and_in_order(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        await sockets.attached(CROWD)
        pairs = [await sockets.connect(f"m{n}", ("all", f"user:m{n}"), send_buffer=4096) for n in range(20)]
        for stream, _ in pairs:
            await hub.attach(stream)
        due: list[str] = []
        for turn in range(200):
            text = f"{turn}-" + "y" * (turn * 37 % 3000)
            broker.publish(hub, "all", text)
            state(hub, "all", "t", f"state-{turn}")
            due.append(text)
            if turn % 3 == 0:
                for number, (_, client) in enumerate(pairs):
                    broker.publish(hub, f"user:m{number}", f"direct-{turn}")
                    client.read(turn * 113 % 5000)
                due.append(f"direct-{turn}")
            if turn % 5 == 0:
                await asyncio.sleep(0)
        clients = [client for _, client in pairs]
        await until(lambda: read_all(clients) and all(client.of("x") == due for client in clients), what="every event")
        await until(lambda: all(client.of("task")[-1] == "state-199" for _, client in pairs), what="the newest state")
        for _, client in pairs:
            turns = [int(text.partition("-")[2]) for text in client.of("task")]
            assert turns == sorted(turns)


async def test_a_state_conflated_behind_a_full_socket_is_sent_once_there_is_room_also_in_a_round(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        await sockets.attached(CROWD)
        stream, client = await sockets.connect(send_buffer=4096)
        await hub.attach(stream)
        broker.publish(hub, "all", "z" * 50_000)
        await until(lambda: stream.backlog_bytes)
        for number in range(10):
            state(hub, "all", "t1", f"{number}")
            await until(lambda: not hub._rounds)
        # No further event is published that would send the newest state.
        await until(lambda: client.of("task"), what="the state")
        assert client.of("task") == ["9"]
        assert client.of("x") == ["z" * 50_000]


async def test_a_burst_that_a_live_reader_takes_slowly_is_completed_in_bounded_memory(broker: ScriptedBroker) -> None:
    async with running_hub(broker, max_backlog_bytes=100_000) as hub, Sockets(hub) as sockets:
        await sockets.attached(CROWD)
        (stream,), (client,) = await sockets.attached(1, send_buffer=4096)
        most = 0
        for number in range(200):
            broker.publish(hub, "all", f"{number}-" + "w" * 4096)
            state(hub, "all", "t", f"state-{number}")
            await until(lambda: not hub._rounds)
            client.read(1000)
            most = max(most, stream.backlog_bytes)
        assert stream.opening
        assert most < 100_000 + 2 * 4096
        await until(lambda: len(client.of("x")) == 200, what="every event")
        assert [int(text.partition("-")[0]) for text in client.of("x")] == list(range(200))
        broker.publish(hub, "all", "live")
        await until(lambda: client.of("x")[-1] == "live")
        assert not hub.counts["ended_slow"]
        assert not hub.counts["resets"]


# Readers that are given up


@pytest.mark.slow
async def test_a_client_that_stops_reading_is_ended_after_the_limit_and_not_before(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.slow.STALLED_AFTER_S", 0.6)
    async with running_hub(broker, max_backlog_bytes=1 << 20) as hub, Sockets(hub) as sockets:
        cursor = missed(broker, 1500, 4096)
        stalled, client = await sockets.connect("stalled", cursor=cursor)
        began = time.monotonic()
        await hub.attach(stalled)
        _, (other,) = await sockets.attached(1)
        await until(lambda: stalled not in hub._streams, what="the end of the stalled stream")
        assert 0.6 <= time.monotonic() - began < STALLED_AFTER_S
        assert hub.counts["ended_slow"] == 1
        broker.publish(hub, "all", "still")
        assert other.of("x") == ["still"]
        await until(lambda: client.read() == 0 and client.ended)


def waiting_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[SlowReaders, _Reader, list[Stream], Callable[[float], None]]:
    """Readers with one stream that has a backlog; the streams given up; and a function that lets time pass."""
    clock, given_up = [100.0], list[Stream]()
    monkeypatch.setattr("notifier.slow.time.monotonic", lambda: clock[0])
    readers = SlowReaders(max_backlog_bytes=1000, fall_behind=lambda _: None, give_up=given_up.append)
    reader = _Reader()
    readers.check(reader)

    def wait(seconds: float) -> None:
        for _ in range(round(seconds)):
            clock[0] += 1
            readers.check_all()

    return readers, reader, given_up, wait


class _Reader(TransportStream):
    """A stream with a backlog, whose progress a test sets."""

    accepted, acknowledged, asked = 0, 0, 0

    def __init__(self) -> None:
        super().__init__(Wall(), b"", **FIELDS)

    @property
    def backlog_bytes(self) -> int:
        return 500

    @property
    def accepted_bytes(self) -> int:
        return self.accepted

    @property
    def acknowledged_bytes(self) -> int:
        self.asked += 1
        return self.acknowledged


def test_a_reader_that_only_acknowledges_what_the_kernel_has_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _, reader, given_up, wait = waiting_stream(monkeypatch)
    for _ in range(20):
        reader.acknowledged += 4096
        wait(STALLED_AFTER_S - 2)
    assert not given_up
    wait(STALLED_AFTER_S + 2)
    assert given_up[0] is reader


def test_the_kernel_is_asked_only_for_readers_that_accept_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    readers, reader, given_up, wait = waiting_stream(monkeypatch)
    for _ in range(30):
        reader.accepted += 1
        readers.check(reader)
        wait(1)
    assert (reader.asked, given_up) == (0, [])
    wait(3)
    assert reader.asked == 3


async def test_what_the_peer_acknowledges_is_seen_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.connect(listener.getsockname())
        ours, _ = listener.accept()
        ours.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        stream = stream_on(transport)
        stream.offer(EncodedFrame(b"x" * 4_000_000))
        stream.flush()
        await until(lambda: stream.accepted_bytes - stream.acknowledged_bytes > 1_000_000, what="a full kernel")
        accepted, acknowledged = stream.accepted_bytes, stream.acknowledged_bytes
        client.recv(65_536)
        await until(lambda: stream.acknowledged_bytes > acknowledged)
        assert stream.accepted_bytes == accepted, "the kernel accepts in larger steps"
        transport.abort()
        await asyncio.sleep(0)
        assert stream.acknowledged_bytes == stream.accepted_bytes, "a closed socket"
