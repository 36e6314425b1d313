"""Readers that do not keep up, on real sockets: partial writes, long replays, bounded backlogs."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier.event import Cursor
from tests.faults.clients import until
from tests.hubs import ScriptedBroker, Sockets, read_all, running_hub, state

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
        await until(lambda: all(stream.send is not None for stream in streams), 3, "direct sends again")
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
        await until(lambda: all(client.of("task")[-1] == "state-199" for _, client in pairs), 3, "the newest state")
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
        await until(lambda: client.of("task"), 3, "the state")
        assert client.of("task") == ["9"]
        assert client.of("x") == ["z" * 50_000]


# Long replays


def missed(broker: ScriptedBroker, count: int, size: int) -> Cursor:
    """Fill the log with `count` events; return the cursor of a client that has none of them."""
    text = "r" * size
    for _ in range(count):
        broker.seq += 1
        broker.log.append((broker.seq, "all", f"event: x\ndata: {broker.seq}-{text}\n\n".encode()))
    return Cursor(broker.epoch, 0)


@pytest.mark.slow
async def test_a_long_replay_to_a_client_that_reads_slowly_is_completed(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.slow.STALLED_AFTER_S", 0.5)
    async with running_hub(broker, max_backlog_bytes=1 << 20) as hub, Sockets(hub) as sockets:
        cursor = missed(broker, 1500, 4096)
        stream, client = await sockets.connect(cursor=cursor)
        await hub.attach(stream)
        assert stream.backlog_bytes > 4 << 20
        began = time.monotonic()
        size = 0
        while stream in hub._streams and stream.backlog_bytes:
            size += client.read(40_000)
            if not size % 7:
                broker.publish(hub, "all", f"{broker.seq + 1}-live")
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.5, "it took longer than the limit for a stalled client"
        last = broker.publish(hub, "all", f"{broker.seq + 1}-end")
        await until(lambda: client.of("x")[-1] == f"{last}-end")
        assert [int(text.partition("-")[0]) for text in client.of("x")] == list(range(1, last + 1))
        assert not client.ended
        assert not hub.counts["ended_slow"]


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
        await until(lambda: stalled not in hub._streams, 5, "the end of the stalled stream")
        assert 0.6 <= time.monotonic() - began < 3
        assert hub.counts["ended_slow"] == 1
        broker.publish(hub, "all", "still")
        assert other.of("x") == ["still"]
        await until(lambda: client.read() == 0 and client.ended)


async def test_behind_a_long_replay_the_backlog_is_still_bounded(broker: ScriptedBroker) -> None:
    async with running_hub(broker, max_backlog_bytes=100_000) as hub, Sockets(hub) as sockets:
        cursor = missed(broker, 500, 4096)
        stream, _ = await sockets.connect(cursor=cursor)
        await hub.attach(stream)
        at_first = stream.backlog_bytes
        assert at_first > 1 << 20
        for _ in range(60):
            if stream not in hub._streams:
                break
            assert stream.backlog_bytes <= at_first + 100_000
            broker.publish(hub, "all", "w" * 4096)
        assert stream not in hub._streams
        assert hub.counts["ended_slow"] == 1
