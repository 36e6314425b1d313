"""The hub between a broker and its streams: pending frames, direct frames and rounds, conflation, ends."""

from __future__ import annotations

import asyncio

import pytest

from notifier.event import Cursor
from notifier.pending import MAX_PENDING
from notifier.task import begin
from tests.faults.clients import until
from tests.hubs import ScriptedBroker, announce, attach_crowd, received, running_hub, state, statuses, stream_on
from tests.test_stream import Wall

CROWD = 70
"""More streams than `DIRECT`, so that a frame goes out in a round."""


@pytest.fixture
async def broker() -> ScriptedBroker:
    return ScriptedBroker()


# States behind a full socket


@pytest.mark.parametrize("others", [0, 2, CROWD], ids=["alone", "among few", "in a round"])
async def test_a_state_that_waits_behind_a_full_socket_is_sent_when_there_is_room(
    broker: ScriptedBroker, others: int
) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, others)
        wall = Wall()
        await hub.attach(stream_on(wall))
        wall.waiting = 1000
        for number in range(3):
            state(hub, "all", "t1", f"first-{number}")
            state(hub, "all", "t2", f"second-{number}")
            await asyncio.sleep(0)
        await until(lambda: not hub._rounds)
        assert received(wall) == ["hello"]
        wall.waiting = 0
        # Nothing else is sent to the stream, so the hub itself must notice.
        await until(lambda: received(wall) == ["hello", "task:first-2", "task:second-2"], what="the states")


async def test_a_state_whose_socket_has_room_again_before_its_round_comes_is_sent(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, CROWD)
        wall = Wall()
        await hub.attach(stream_on(wall))
        wall.waiting = 1000
        state(hub, "all", "t1", "50")
        wall.waiting = 0
        await until(lambda: received(wall) == ["hello", "task:50"], what="the state")
        state(hub, "all", "t1", "100")
        await until(lambda: received(wall) == ["hello", "task:50", "task:100"], what="the newer state")


# Pending frames


async def test_frames_that_arrive_during_an_opening_follow_it(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        broker.publish(hub, "all", "before")
        broker.gate.clear()
        wall = Wall()
        attaching = asyncio.create_task(hub.attach(stream_on(wall, cursor=Cursor("e", 0))))
        await until(lambda: broker.opening_now)
        broker.publish(hub, "all", "meanwhile")  # in the log when it is read, and announced as well
        state(hub, "all", "t1", "state")
        broker.gate.set()
        await attaching
        broker.publish(hub, "all", "after")
        assert received(wall) == ["hello", "x:before", "x:meanwhile", "task:state", "x:after"]


async def test_a_state_pending_from_before_a_resync_does_not_come_after_the_snapshot(broker: ScriptedBroker) -> None:
    task = begin(to=["all"], name="t", now_ms=0, total=10)
    async with running_hub(broker) as hub:
        broker.gate.clear()
        wall = Wall()
        attaching = asyncio.create_task(hub.attach(stream_on(wall)))
        await until(lambda: broker.opening_now)
        announce(hub, task.changed({"done": 5}, now_ms=1))
        # The link is lost, and the end of the task is announced meanwhile.
        hub.resync(None)
        broker.tasks_now = (task.changed({"done": 10, "status": "succeeded"}, now_ms=2),)
        broker.gate.set()
        await attaching
        await until(lambda: "hello" in received(wall))
        assert statuses(wall) == ["succeeded"]


async def test_an_ephemeral_frame_pending_from_before_a_resync_still_comes(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        broker.gate.clear()
        wall = Wall()
        attaching = asyncio.create_task(hub.attach(stream_on(wall)))
        await until(lambda: broker.opening_now)
        state(hub, "all", "", "transient")
        hub.resync(None)
        broker.gate.set()
        await attaching
        await until(lambda: received(wall) == ["hello", "task:transient"])


async def test_an_event_of_an_old_epoch_is_not_written_after_a_reset(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        broker.epoch = "new"
        broker.gate.clear()
        wall = Wall()
        attaching = asyncio.create_task(hub.attach(stream_on(wall, cursor=Cursor("old", 3))))
        await until(lambda: broker.opening_now)
        hub.deliver("all", "old", 400, "", b"id: old-400\nevent: x\ndata: old\n\n")
        broker.publish(hub, "all", "known")
        broker.gate.set()
        await attaching
        broker.publish(hub, "all", "new")
        assert received(wall) == ["hello", "reset", "x:new"]


@pytest.mark.parametrize("others", [2, CROWD], ids=["pending", "in a round"])
async def test_after_a_resync_of_all_topics_nothing_of_an_old_epoch_is_written(
    broker: ScriptedBroker, others: int
) -> None:
    async with running_hub(broker) as hub:
        crowd = await attach_crowd(hub, others)
        for _ in range(9):
            broker.publish(hub, "all")
        await until(lambda: all(len(received(wall)) == 10 for wall in crowd))
        broker.epoch, broker.seq, broker.log = "new", 0, []
        hub.deliver("all", "e", 10, "", b"id: e-10\nevent: x\ndata: old\n\n")
        before = [len(received(wall)) for wall in crowd]  # written at once to few streams, before the resync
        hub.resync(None)
        broker.gate.clear()
        hub.deliver("all", "e", 11, "", b"id: e-11\nevent: x\ndata: older\n\n")
        await until(lambda: not hub._rounds)
        broker.gate.set()
        await until(lambda: all("reset" in received(wall) for wall in crowd))
        broker.publish(hub, "all", "new")
        await until(lambda: all(received(wall)[-1] == "x:new" for wall in crowd))
        for wall, length in zip(crowd, before, strict=True):
            assert received(wall)[length:] == ["reset", "x:new"]


async def test_too_many_pending_frames_end_the_stream_once(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        broker.gate.clear()
        wall = Wall()
        attaching = asyncio.create_task(hub.attach(stream_on(wall)))
        await until(lambda: broker.opening_now)
        for _ in range(MAX_PENDING + 1):
            state(hub, "all", "", "x")
        await until(lambda: not len(hub))
        assert received(wall) == ["bye"]
        assert hub.counts["ended_slow"] == 1
        broker.gate.set()
        await attaching
        assert received(wall) == ["bye"]


# Direct frames and rounds


async def test_a_direct_event_follows_a_round_s_event_that_is_still_to_come_and_each_comes_once(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub:
        crowd = await attach_crowd(hub, CROWD)
        both, alone = Wall(), Wall()
        await hub.attach(stream_on(both, "ann", ("all", "user:ann")))
        await hub.attach(stream_on(alone, "bob", ("user:bob",)))
        broker.publish(hub, "all", "to all")
        broker.publish(hub, "user:ann", "to ann")
        broker.publish(hub, "user:bob", "to bob")
        assert received(both) == ["hello", "x:to all", "x:to ann"]
        broker.publish(hub, "all", "again")
        await until(lambda: len(received(both)) == 4)
        await until(lambda: not hub._rounds)
        assert received(both) == ["hello", "x:to all", "x:to ann", "x:again"]
        assert received(alone) == ["hello", "x:to bob"]
        assert all(received(wall) == ["hello", "x:to all", "x:again"] for wall in crowd)


async def test_a_direct_event_passes_the_events_and_states_of_several_rounds_in_their_order(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, CROWD, "all")
        await attach_crowd(hub, CROWD, "staff")
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ("all", "staff", "user:ann")))
        broker.publish(hub, "all", "1")
        broker.publish(hub, "staff", "2")
        state(hub, "all", "t", "state")
        broker.publish(hub, "all", "3")
        broker.publish(hub, "user:ann", "4")
        expected = ["hello", "x:1", "x:2", "task:state", "x:3", "x:4"]
        assert received(wall) == expected
        await until(lambda: not hub._rounds)
        assert received(wall) == expected


async def test_one_publish_to_two_channels_of_a_stream_is_one_event(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, CROWD, "all")
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ("all", "user:ann")))
        wire = b"id: e-1\nevent: x\ndata: 1\n\n"
        hub.deliver("all", "e", 1, "", wire)
        hub.deliver("user:ann", "e", 1, "", wire)
        await until(lambda: not hub._rounds)
        assert received(wall) == ["hello", "x:1"]


async def test_a_message_repeated_under_another_seq_is_delivered_once_in_a_round_too(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub:
        crowd = await attach_crowd(hub, CROWD)
        for _ in range(3):
            broker.publish(hub, "all", "parts", key="m-1")
        broker.publish(hub, "all", "end")
        await until(lambda: all(received(wall)[-1] == "x:end" for wall in crowd))
        assert all(received(wall) == ["hello", "x:parts", "x:end"] for wall in crowd)


# Ends


async def test_a_stream_that_ended_while_a_round_waited_is_not_counted_again(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, CROWD)
        wall = Wall()
        stream = stream_on(wall, "ann", ("all", "user:ann"))
        await hub.attach(stream)
        broker.publish(hub, "all")
        hub.disconnect("user:ann", "revoked")
        wall.waiting = 1 << 30  # no room for the farewell
        await until(lambda: not hub._rounds)
        hub.disconnect("user:ann", "revoked")
        hub.detach(stream)
        hub.resync(None)
        seen = len(broker.opened)
        await until(lambda: len(broker.opened) == seen + CROWD)
        assert received(wall) == ["hello", "bye"]
        assert {name: n for name, n in hub.counts.items() if name.startswith("ended_")} == {"ended_revoked": 1}
        assert (len(hub), len(hub._slow)) == (CROWD, 0)


@pytest.mark.parametrize("others", [0, CROWD], ids=["alone", "in a round"])
async def test_a_stream_with_a_long_backlog_reads_on_from_the_history_and_the_others_stay(
    broker: ScriptedBroker, others: int
) -> None:
    async with running_hub(broker, max_backlog_bytes=1000) as hub:
        crowd = await attach_crowd(hub, others)
        wall = Wall()
        await hub.attach(stream_on(wall))
        broker.publish(hub, "all")
        await until(lambda: received(wall)[-1] == "x:1")
        asked, wall.waiting = len(broker.opened), 1001
        for number in range(2, 6):
            broker.publish(hub, "all")
            await until(lambda number=number: all(received(other)[-1] == f"x:{number}" for other in crowd))  # type: ignore[misc]
        assert (received(wall), wall.state, len(broker.opened)) == (["hello", "x:1", "x:2"], "open", asked)
        wall.waiting = 0
        await until(lambda: received(wall)[-1] == "inbox")
        broker.publish(hub, "all")
        await until(lambda: received(wall)[-1] == "x:6")
        assert received(wall) == ["hello", *(f"x:{number}" for number in range(1, 6)), "inbox", "x:6"]
        assert len(broker.opened) == asked + 1
        assert not hub.counts["ended_slow"]


async def test_events_without_history_for_a_reader_that_does_not_read_are_bounded_in_bytes(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker, max_backlog_bytes=100_000) as hub:
        wall = Wall()
        await hub.attach(stream_on(wall))
        wall.waiting = 100_001
        for _ in range(24):
            state(hub, "all", "", "x" * 4096)
        await asyncio.sleep(0)
        assert len(hub) == 1
        for _ in range(3):
            state(hub, "all", "", "x" * 4096)
        await until(lambda: not len(hub))
        assert hub.counts["ended_slow"] == 1


async def test_a_detached_stream_that_is_queued_for_opening_subscribes_nothing(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        stream = stream_on(Wall(), "ann", ("user:ann",))
        await hub.attach(stream)
        assert broker.subscribed == {"user:ann"}
        hub.resync(["user:ann"])
        hub.detach(stream)
        asked = len(broker.opened)
        await hub._opener.open(stream)
        assert (broker.subscribed, hub.topic_count, len(broker.opened)) == (set(), 0, asked)


async def test_a_stream_that_leaves_between_a_resync_and_its_opening_leaves_no_subscription(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub:
        stream = stream_on(Wall(), "ann", ("user:ann",))
        other = Wall()
        await hub.attach(stream)
        await hub.attach(stream_on(other, "bob", ("user:bob",)))
        hub.resync(["user:ann", "user:bob"])
        asyncio.get_running_loop().call_soon(hub.detach, stream)
        await until(lambda: broker.opened.count("bob") == 2)
        assert broker.subscribed == {"user:bob"}
        broker.publish(hub, "user:bob", "still")
        await until(lambda: received(other)[-1] == "x:still")
