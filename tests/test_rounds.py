"""Rounds write straight to real sockets: whole, in order, once, and never to a descriptor that was reused."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter

import pytest

from notifier import output
from notifier.event import Cursor
from notifier.hub import Hub
from notifier.rounds import DIRECT, MAX_JOINED, STRIDE
from tests.faults.clients import until
from tests.hubs import Client, ScriptedBroker, Sockets, read_all, received, running_hub, soon, state, stream_on
from tests.test_stream import Wall

CROWD = 150
"""A round of several strides."""


@pytest.fixture
async def broker() -> ScriptedBroker:
    return ScriptedBroker()


@pytest.fixture
def stepwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a round yield to the event loop after each stride."""
    monkeypatch.setattr("notifier.rounds.SLICE_S", 0)


async def test_a_round_reaches_every_stream_by_one_write_each(broker: ScriptedBroker) -> None:
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD)
        broker.publish(hub, "all", "to all")
        await until(lambda: not hub._rounds)
        assert all(client.received == ["hello", "x:to all"] for client in clients)
        assert sockets.writes == Counter({stream.user: 1 for stream in streams})
        assert hub.deliveries == CROWD


async def test_events_that_arrive_while_a_round_waits_join_its_write(broker: ScriptedBroker) -> None:
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD)
        for _ in range(5):
            broker.publish(hub, "all")
        await until(lambda: not hub._rounds)
        assert all(client.of("x") == ["1", "2", "3", "4", "5"] for client in clients)
        assert sockets.writes == Counter({stream.user: 1 for stream in streams})
        assert hub.deliveries == 5 * CROWD


@pytest.mark.parametrize(("other", "writes"), [("{2}all", 1), ("{1}some", 5)])
async def test_events_that_wait_join_past_the_rounds_of_another_order_only(
    broker: ScriptedBroker, other: str, writes: int
) -> None:
    """Several shards announce an event for all one after the other."""
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD, topics=("{1}all",))
        others = [Wall() for _ in range(CROWD)]
        for number, wall in enumerate(others):
            await hub.attach(stream_on(wall, f"other-{number}", (other,)))
        for _ in range(5):
            broker.publish(hub, "{1}all")
            broker.publish(hub, other)
        await until(lambda: not hub._rounds)
        assert all(client.of("x") == ["1", "3", "5", "7", "9"] for client in clients)
        assert all(received(wall) == ["hello", "x:2", "x:4", "x:6", "x:8", "x:10"] for wall in others)
        assert sockets.writes == Counter({stream.user: writes for stream in streams})


async def test_events_that_arrive_while_a_round_is_written_join_the_next(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD)
        broker.publish(hub, "all")
        await soon(lambda: sum(sockets.writes.values()) >= STRIDE)
        assert sum(sockets.writes.values()) < CROWD
        for _ in range(4):
            broker.publish(hub, "all")
        await until(lambda: not hub._rounds)
        assert all(client.of("x") == ["1", "2", "3", "4", "5"] for client in clients)
        assert sockets.writes == Counter({stream.user: 2 for stream in streams})


async def test_more_events_than_one_write_holds_come_in_order(broker: ScriptedBroker) -> None:
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD)
        for _ in range(2 * MAX_JOINED + 1):
            broker.publish(hub, "all")
        await until(lambda: not hub._rounds)
        expected = [str(number) for number in range(1, 2 * MAX_JOINED + 2)]
        assert all(client.of("x") == expected for client in clients)
        assert sockets.writes == Counter({stream.user: 3 for stream in streams})


async def test_of_the_states_that_wait_for_a_round_the_newest_of_each_key_is_written(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(CROWD)
        for number in range(3):
            state(hub, "all", "a", f"a{number}")
            state(hub, "all", "b", f"b{number}")
        await until(lambda: not hub._rounds)
        assert all(client.of("task") == ["a2", "b2"] for client in clients)


async def test_the_output_that_waits_for_a_round_is_joined(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(CROWD)
        for n in range(1, 4):
            hub.deliver_state("all", output.state_key("t"), output.piece_frame("t", n, f"{n}.").encode())
            state(hub, "all", "t", f"state {n}")
        await until(lambda: not hub._rounds)
        assert all(client.received == ["hello", "task.output", "task:state 3"] for client in clients)
        expected = 'event: task.output\ndata: {"id":"t","n":3,"from":1,"text":"1.2.3."}'
        assert all(expected in client.blocks for client in clients)


async def test_a_direct_event_during_a_round_comes_after_the_round_s_and_each_comes_once(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        await sockets.attached(CROWD)
        await sockets.attached(CROWD, topics=("staff",))
        pairs = [await sockets.connect(f"m{n}", ("all", f"user:m{n}")) for n in range(40)]
        for stream, _ in pairs:
            await hub.attach(stream)
        broker.publish(hub, "all", "first")
        broker.publish(hub, "staff", "to other streams")
        broker.publish(hub, "all", "second")
        for number, (_, client) in enumerate(pairs):
            broker.publish(hub, f"user:m{number}", "direct")
            assert client.received == ["hello", "x:first", "x:second", "x:direct"]
            await asyncio.sleep(0)
        await until(lambda: not hub._rounds)
        broker.publish(hub, "all", "third")
        await until(lambda: not hub._rounds)
        for _, client in pairs:
            assert client.of("x") == ["first", "second", "direct", "third"]


async def test_a_topic_that_grows_and_shrinks_around_the_direct_limit_keeps_its_order(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(DIRECT)
        for turn in range(5):
            (extra,), _ = await sockets.attached(1)
            broker.publish(hub, "all")
            assert hub._rounds
            hub.end(extra, "rotate")
            # Few enough streams now to be written at once, ahead of the queued round.
            broker.publish(hub, "all")
            assert clients[turn].of("x") == [str(number) for number in range(1, broker.seq + 1)]
        await until(lambda: not hub._rounds)
        assert all(client.of("x") == [str(number) for number in range(1, 11)] for client in clients)
        assert len(hub) == len(streams)


async def test_a_stream_that_gets_live_while_rounds_wait_has_each_event_once(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        await sockets.attached(CROWD)
        comers = []
        for _ in range(20):
            cursor = Cursor(broker.epoch, broker.seq)
            broker.publish(hub, "all")
            broker.publish(hub, "all")
            stream, client = await sockets.connect("comer", cursor=cursor)
            await hub.attach(stream)
            comers.append((cursor.seq, client))
            await asyncio.sleep(0)
        await until(lambda: not hub._rounds)
        for seen, client in comers:
            assert client.of("x") == [str(number) for number in range(seen + 1, broker.seq + 1)]


async def test_a_stream_that_ends_or_leaves_during_a_round_is_skipped(broker: ScriptedBroker, stepwise: None) -> None:
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD)
        broker.publish(hub, "all")
        await soon(lambda: sockets.writes)
        assert sum(sockets.writes.values()) <= 2 * STRIDE
        hub.end(streams[-1], "rotate")
        sockets.drop(streams[-2])
        await until(lambda: not hub._rounds)
        assert clients[-1].received == ["hello", "bye"]
        assert clients[-2].received == ["hello"]
        assert all(client.received == ["hello", "x:1"] for client in clients[:-2])
        assert set(sockets.writes) == {stream.user for stream in streams[:-2]}
        assert len(hub) == CROWD - 2


async def test_nothing_is_written_to_a_descriptor_that_another_connection_reuses(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        streams, clients = await sockets.attached(CROWD)
        number = sockets.descriptor(streams[-1])
        broker.publish(hub, "all")
        await soon(lambda: clients[0].of("x"))
        # The round has not reached the stream when its connection is lost and its descriptor reused.
        sockets.drop(streams[-1])
        ours, theirs = socket.socketpair()
        try:
            await soon(lambda: _is_free(number))
            assert hub._rounds
            os.dup2(ours.fileno(), number)
            broker.publish(hub, "all", "later")
            hub.end(streams[-1], "rotate")
            await until(lambda: clients[0].of("x")[-1] == "later" and not hub._rounds)
            theirs.setblocking(False)
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
        finally:
            os.close(number)
            ours.close()
            theirs.close()


def _is_free(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False


async def test_clients_that_leave_during_rounds_do_not_disturb_others(broker: ScriptedBroker, stepwise: None) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        _, leaving = await sockets.attached(CROWD)
        _, staying = await sockets.attached(CROWD)
        for client in leaving:
            broker.publish(hub, "all", "x" * 2000)
            client.socket.close()
            await asyncio.sleep(0)
        await until(lambda: len(hub) == CROWD)
        await until(lambda: not hub._rounds)
        await until(lambda: read_all(staying) and all(len(client.of("x")) == len(leaving) for client in staying))


# Resync


async def test_a_resync_during_a_round_loses_nothing_and_repeats_nothing(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(CROWD)
        for turn in range(1, 6):
            sockets.writes.clear()
            broker.publish(hub, "all")
            broker.publish(hub, "all")
            await soon(lambda turn=turn: sum(sockets.writes.values()) >= min(turn, 3) * STRIDE)  # type: ignore[misc]
            assert sum(sockets.writes.values()) < CROWD, "the round was in progress"
            hub.resync(None)
            last = str(broker.publish(hub, "all"))
            await until(lambda last=last: all(last in client.of("x") for client in clients))  # type: ignore[misc]
            await until(lambda: not hub._rounds)
        assert all(client.of("x") == [str(number) for number in range(1, 16)] for client in clients)
        assert all(client.received.count("reset") == 0 for client in clients)


async def test_a_hole_in_a_topic_during_a_round_loses_nothing_and_repeats_nothing(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(CROWD)
        broker.publish(hub, "all")
        await soon(lambda: sockets.writes)
        assert sum(sockets.writes.values()) < CROWD
        broker.publish(hub, "all", announced=False)
        hub.resync(["all"], after=1)
        broker.publish(hub, "all")
        await until(lambda: all("3" in client.of("x") for client in clients))
        await until(lambda: not hub._rounds)
        assert all(client.of("x") == ["1", "2", "3"] for client in clients)
        assert not hub.counts["resets"]


# Frames without a seq


async def test_an_ephemeral_frame_comes_once_to_streams_that_are_written_to_during_its_round(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        early = await listeners(hub, sockets, "early")
        _, crowd = await sockets.attached(CROWD)
        late = await listeners(hub, sockets, "late")
        hub.deliver_state("all", "", b"event: note\ndata: once\n\n")
        await soon(lambda: sockets.writes)
        assert hub._rounds, "the round is past the early streams and not yet at the late ones"
        while hub._rounds:
            for user in ("early", "late"):
                broker.publish(hub, f"user:{user}")
            await asyncio.sleep(0)
        assert all(client.received.count("note:once") == 1 for client in (*early, *crowd, *late))


async def listeners(hub: Hub, sockets: Sockets, user: str) -> list[Client]:
    """Five streams of a user, which also listen to `all`."""
    pairs = [await sockets.connect(user, ("all", f"user:{user}")) for _ in range(5)]
    for stream, _ in pairs:
        await hub.attach(stream)
    sockets.writes.clear()
    return [client for _, client in pairs]


async def test_a_frame_for_an_opening_stream_is_pending_once(broker: ScriptedBroker, stepwise: None) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        await sockets.attached(CROWD)
        stream, client = await sockets.connect("ann", ("all", "user:ann"), cursor=Cursor(broker.epoch, 0))
        broker.gate.clear()
        opening = asyncio.ensure_future(hub.attach(stream))
        await soon(lambda: "ann" in broker.opened)
        for _ in range(5):
            broker.publish(hub, "all")
        for _ in range(5):
            broker.publish(hub, "user:ann")
        assert len(stream.pending) == 10
        broker.gate.set()
        await opening
        await until(lambda: not hub._rounds)
        assert client.of("x") == [str(number) for number in range(1, 11)]


async def test_a_queued_state_does_not_come_after_the_newer_one_of_a_resync(
    broker: ScriptedBroker, stepwise: None
) -> None:
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(CROWD)
        state(hub, "all", "job", "older")
        await soon(lambda: sockets.writes)
        hub.resync(["all"])  # as after a newer state whose announcement was lost
        await until(lambda: not hub._rounds)
        await until(lambda: not any(stream.opening for stream in hub._streams))
        late = [client for client in clients if "inbox" in client.received and "task:older" in client.received]
        assert all(client.received.index("task:older") < client.received.index("inbox") for client in late)


# Frames that are joined


async def test_joined_frames_of_one_topic_are_one_write_and_topics_keep_their_order(broker: ScriptedBroker) -> None:
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        await sockets.attached(CROWD)
        ann, client = await sockets.connect("ann", ("all", "user:ann"))
        await hub.attach(ann)
        sockets.writes.clear()
        with hub.joining():
            for text in ("a", "b", "c"):
                broker.publish(hub, "user:ann", text)
            assert sockets.writes["ann"] == 0
            broker.publish(hub, "all", "for all")  # a round, after what came before it
            assert sockets.writes["ann"] == 1
            broker.publish(hub, "user:ann", "d")
            broker.publish(hub, "user:ann", "e")
        await until(lambda: not hub._rounds)
        assert client.of("x") == ["a", "b", "c", "for all", "d", "e"]
        assert sockets.writes["ann"] == 3
        broker.publish(hub, "user:ann", "later")
        assert client.of("x")[-1] == "later"


async def test_a_resync_while_frames_are_joined_loses_nothing(broker: ScriptedBroker) -> None:
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(2, topics=("user:ann",))
        with hub.joining():
            broker.publish(hub, "user:ann", "a")
            hub.resync(["user:ann"])
            broker.publish(hub, "user:ann", "b")
        await until(lambda: clients[0].of("x") == ["a", "b"])
