"""A long replay is read and written in portions: nothing is lost or repeated, and the process holds a bounded part."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from notifier.event import Cursor
from notifier.frames import EncodedFrame
from notifier.hub import Hub
from notifier.opener import MAX_PORTION_BYTES
from notifier.pending import MAX_PENDING
from notifier.queued import QueuedStream
from notifier.task import begin
from notifier.transport import TransportStream
from tests.faults.clients import until
from tests.hubs import Body, Client, ScriptedBroker, Sockets, announce, missed, running_hub, state
from tests.test_stream import FIELDS

COUNT = 400
SIZE = 4096
"""The replay is more than ten portions."""


@pytest.fixture
async def broker() -> ScriptedBroker:
    return ScriptedBroker()


@pytest.fixture
async def hub(broker: ScriptedBroker) -> AsyncIterator[Hub]:
    async with running_hub(broker) as hub:
        yield hub


@pytest.fixture
async def sockets(hub: Hub) -> AsyncIterator[Sockets]:
    async with Sockets(hub) as sockets:
        yield sockets


async def blocked(broker: ScriptedBroker, hub: Hub, sockets: Sockets) -> tuple[TransportStream, Client]:
    """A stream that waits for its client to read on, in the middle of a replay; and the client."""
    stream, client = await sockets.connect(cursor=missed(broker, COUNT, SIZE), send_buffer=32_768)
    await hub.attach(stream)
    client.read(200_000)
    await until(lambda: client.read(50_000) is not None and len(broker.opened) > 2)
    await settled(broker, stream)
    return stream, client


async def settled(broker: ScriptedBroker, stream: TransportStream) -> None:
    """Until the stream waits for its reader."""
    await until(lambda: stream.backlog_bytes and not broker.opening_now)


def numbers(client: Client) -> list[int]:
    return [int(text.partition("-")[0]) for text in client.of("x")]


async def test_a_long_replay_to_a_client_that_reads_slowly_is_completed_in_bounded_memory(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.slow.STALLED_AFTER_S", 0.5)
    async with running_hub(broker, max_backlog_bytes=1 << 20) as hub, Sockets(hub) as sockets:
        stream, client = await sockets.connect(cursor=missed(broker, 1500, SIZE))
        await hub.attach(stream)
        began, most, pending = time.monotonic(), 0, 0
        while stream in hub._streams and stream.opening:
            if not client.read(40_000) % 7:
                broker.publish(hub, "all", f"{broker.seq + 1}-live")
            most, pending = max(most, stream.backlog_bytes), max(pending, len(stream.pending))
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.5, "it took longer than the limit for a stalled client"
        last = broker.publish(hub, "all", f"{broker.seq + 1}-end")
        await until(lambda: client.of("x")[-1] == f"{last}-end")
        assert numbers(client) == list(range(1, last + 1))
        assert json.loads(client.blocks[0].partition("data: ")[2])["replayed"] == 1500
        assert not client.ended
        assert not hub.counts["ended_slow"]
        assert 0 < most < MAX_PORTION_BYTES * 1.1
        assert pending <= 1, "frames that arrive while the broker is read"


async def test_a_portion_is_read_only_when_the_socket_has_accepted_the_one_before(
    broker: ScriptedBroker, hub: Hub, sockets: Sockets
) -> None:
    stream, client = await blocked(broker, hub, sockets)
    asked = len(broker.opened)
    for _ in range(3):
        hub.resync(None)  # a resync does not read for it either
        hub._ping([stream])
        await asyncio.sleep(0.02)
    assert len(broker.opened) == asked
    await until(lambda: len(numbers(client)) == COUNT)
    assert numbers(client) == list(range(1, COUNT + 1))
    assert client.received.count("hello") == 1


async def test_publishes_during_the_replay_follow_in_order_and_are_not_held(
    broker: ScriptedBroker, hub: Hub, sockets: Sockets
) -> None:
    stream, client = await blocked(broker, hub, sockets)
    for _ in range(MAX_PENDING + 10):
        broker.publish(hub, "all", f"{broker.seq + 1}-new")
    assert (stream.pending, stream.backlog_bytes < MAX_PORTION_BYTES * 1.1) == ([], True)
    while stream.opening:
        client.read(100_000)
        broker.publish(hub, "all", f"{broker.seq + 1}-newer")
        await asyncio.sleep(0)
    last = broker.publish(hub, "all", f"{broker.seq + 1}-last")
    await until(lambda: numbers(client)[-1] == last)
    assert numbers(client) == list(range(1, last + 1))
    assert not hub.counts["resets"]


async def test_a_history_trimmed_in_the_middle_of_a_replay_is_a_reset(
    broker: ScriptedBroker, hub: Hub, sockets: Sockets
) -> None:
    _, client = await blocked(broker, hub, sockets)
    broker.publish(hub, "all", "0-gone")
    broker.trim()
    await until(lambda: "reset" in client.received)
    top = broker.publish(hub, "all", "0-live")
    await until(lambda: client.received[-1] == "x:0-live")
    before = numbers(client)[:-1]
    assert before == list(range(1, len(before) + 1))
    assert client.received[-2:] == ["reset", "x:0-live"]
    assert '"reason":"history_trimmed"' in client.blocks[-2]
    assert f"id: e-{top - 1}\n" in client.blocks[-2]


async def test_a_client_that_leaves_in_the_middle_of_a_replay_returns_with_its_last_id(
    broker: ScriptedBroker, hub: Hub, sockets: Sockets
) -> None:
    stream, client = await blocked(broker, hub, sockets)
    sockets.drop(stream)
    await until(lambda: client.read() == 0 and client.ended)
    assert stream not in hub._streams
    assert stream not in hub._opener._queue
    seen = numbers(client)
    assert 0 < len(seen) < COUNT
    broker.publish(hub, "all", f"{broker.seq + 1}-new")
    returned, second = await sockets.connect(cursor=Cursor("e", seen[-1]), send_buffer=4096)
    await hub.attach(returned)
    await until(lambda: len(seen) + len(numbers(second)) == COUNT + 1)
    assert seen + numbers(second) == list(range(1, COUNT + 2))


@pytest.mark.parametrize("is_lost", [False, True], ids=["resync", "new epoch"])
async def test_a_resync_in_the_middle_of_a_replay_goes_on_from_its_place(
    broker: ScriptedBroker, hub: Hub, sockets: Sockets, is_lost: bool
) -> None:
    _, client = await blocked(broker, hub, sockets)
    broker.publish(hub, "all", f"{broker.seq + 1}-unheard", announced=False)
    if is_lost:
        broker.epoch = "new"
    hub.resync(None)
    await until(lambda: ("reset" in client.received) if is_lost else len(numbers(client)) == COUNT + 1)
    seen = numbers(client)
    assert seen == list(range(1, len(seen) + 1))
    assert client.received.count("hello") == 1
    assert hub.counts["resets"] == is_lost


async def test_tasks_follow_a_replay_in_their_newest_state_and_events_without_history_follow_too(
    broker: ScriptedBroker, hub: Hub, sockets: Sockets
) -> None:
    task = begin(to=["all"], name="t", now_ms=0, total=10)
    stream, client = await blocked(broker, hub, sockets)
    for done in range(1, MAX_PENDING + 10):
        announce(hub, task.changed({"done": done % 10}, now_ms=done))
    state(hub, "all", "", "transient")
    broker.tasks_now = (task.changed({"done": 10, "status": "succeeded"}, now_ms=9999),)
    announce(hub, broker.tasks_now[0])
    assert [item.is_ephemeral for item in stream.pending] == [True]
    await until(lambda: "task:transient" in client.received)
    after = client.received[client.received.index(client.received[1 + COUNT - 1]) + 1 :]
    assert after == ["task", "inbox", "task:transient"]
    assert ['"succeeded"' in block for block in client.blocks if block.startswith("event: task\ndata: {")] == [True]


async def test_a_large_event_is_a_portion_also_with_a_smaller_bound(broker: ScriptedBroker) -> None:
    async with running_hub(broker, max_backlog_bytes=16_384) as hub, Sockets(hub) as sockets:
        stream, client = await sockets.connect(cursor=missed(broker, 5, 60_000), send_buffer=4096)
        await hub.attach(stream)
        await settled(broker, stream)
        assert len(broker.opened) == 1
        await until(lambda: numbers(client) == [1, 2, 3, 4, 5])
        assert not hub.counts["ended_slow"]


async def test_a_stream_without_the_transport_reads_a_portion_when_its_queue_is_empty(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        stream = QueuedStream(
            **{**FIELDS, "topics": ("all",), "channels": ("all",), "cursor": missed(broker, 400, SIZE)}
        )
        await hub.attach(stream)
        body, frames = Body(), stream.frames()
        for _ in range(10):
            body.feed(EncodedFrame(await anext(frames)).chunk)
        await asyncio.sleep(0.02)
        assert len(broker.opened) == 1
        while len(body.events) < 401:
            body.feed(EncodedFrame(await asyncio.wait_for(anext(frames), 5)).chunk)
        assert [event.partition("-")[0] for event in body.events[1:]] == [f"x:{number}" for number in range(1, 401)]
        assert len(broker.opened) > 10
