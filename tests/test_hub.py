"""The hub between a broker and its streams: pending frames, resyncs, conflation, ends; and how a stream gets live."""

from __future__ import annotations

import asyncio

import pytest

from notifier.errors import BrokerUnavailable
from notifier.event import Cursor
from notifier.hub import MAX_PENDING
from notifier.opener import MAX_OPEN_CALLS
from notifier.task import Task, begin
from tests.faults.clients import until
from tests.hubs import ScriptedBroker, Sockets, attach_crowd, body_of, read_all, received, running_hub, state, stream_on
from tests.test_stream import Wall

CROWD = 70
"""More streams than `DIRECT`, so that a frame goes out in a round."""


@pytest.fixture
async def broker() -> ScriptedBroker:
    return ScriptedBroker()


def announce(hub: object, task: Task) -> None:
    hub.deliver_state("all", task.id, task.frame().encode())  # type: ignore[attr-defined]


def events(wall: Wall) -> list[str]:
    return [event for event in received(wall) if event.startswith("x:")]


def statuses(wall: Wall) -> list[str]:
    """The statuses of a client's only task, in the order received."""
    text = b"".join(wall.written).decode()
    return [part.split('"')[0] for part in text.split('"status":"')[1:]]


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
        await until(lambda: received(wall) == ["hello", "task:first-2", "task:second-2"], 3, "the states")


async def test_a_state_whose_socket_has_room_again_before_its_round_comes_is_sent(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, CROWD)
        wall = Wall()
        await hub.attach(stream_on(wall))
        wall.waiting = 1000
        state(hub, "all", "t1", "50")
        wall.waiting = 0
        await until(lambda: received(wall) == ["hello", "task:50"], 3, "the state")
        state(hub, "all", "t1", "100")
        await until(lambda: received(wall) == ["hello", "task:50", "task:100"], 3, "the newer state")


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


async def test_a_slow_stream_is_ended_and_counted_once_and_the_others_stay(broker: ScriptedBroker) -> None:
    async with running_hub(broker, max_backlog_bytes=1000) as hub:
        crowd = await attach_crowd(hub, CROWD)
        crowd[5].waiting = 1001
        for _ in range(3):
            broker.publish(hub, "all")
        await until(lambda: all(received(wall)[-1] == "x:3" for wall in crowd if wall is not crowd[5]))
        assert crowd[5].state == "aborted"
        assert hub.counts["ended_slow"] == 1
        assert len(hub) == CROWD - 1


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


# Resync


async def test_a_resync_during_a_round_loses_nothing_and_repeats_nothing(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.rounds.SLICE_S", 0)  # a round yields after each stride
    async with running_hub(broker) as hub:
        crowd = await attach_crowd(hub, 150)
        for turn in range(5):
            broker.publish(hub, "all")
            broker.publish(hub, "all")
            for _ in range(turn):
                await asyncio.sleep(0)
            begun = sum(len(events(wall)) > turn * 3 for wall in crowd)
            hub.resync(None)
            broker.publish(hub, "all")
            if turn:
                assert 0 < begun < len(crowd), "the round was in progress"
            last = f"x:{broker.seq}"
            await until(lambda last=last: all(last in received(wall) for wall in crowd))  # type: ignore[misc]
            await until(lambda: not hub._rounds)
        expected = [f"x:{number}" for number in range(1, broker.seq + 1)]
        assert all(events(wall) == expected for wall in crowd)


async def test_a_hole_in_one_topic_is_filled_from_the_log_and_does_not_touch_the_others(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub:
        ann, bob = Wall(), Wall()
        await hub.attach(stream_on(ann, "ann", ("user:ann",)))
        await hub.attach(stream_on(bob, "bob", ("user:bob",)))
        broker.publish(hub, "user:ann", "1")
        broker.publish(hub, "user:ann", "lost", announced=False)
        hub.resync(["user:ann"], after=1)
        broker.publish(hub, "user:ann", "3")
        await until(lambda: "x:3" in received(ann))
        assert events(ann) == ["x:1", "x:lost", "x:3"]
        assert "reset" not in received(ann)
        assert received(bob) == ["hello"]


async def test_a_stream_that_is_past_a_hole_is_reset(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ("user:ann", "all")))
        broker.publish(hub, "user:ann", announced=False)
        broker.publish(hub, "all", "2")
        hub.resync(["user:ann"], after=0)
        await until(lambda: "reset" in received(wall))
        broker.publish(hub, "all", "3")
        assert received(wall) == ["hello", "x:2", "reset", "x:3"]


async def test_a_stream_that_a_reachable_broker_refused_is_opened_later(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.opener.RETRY_S", (0.01, 0.02))
    async with running_hub(broker) as hub:
        broker.away = BrokerUnavailable("busy")
        wall = Wall()
        await hub.attach(stream_on(wall))
        await until(lambda: len(broker.opened) >= 3)
        assert received(wall) == []
        broker.away = None
        await until(lambda: received(wall) == ["hello"])


async def test_a_stream_that_attaches_while_the_broker_is_away_is_opened_when_it_is_back(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.opener.RETRY_S", (0, 0))
    async with running_hub(broker) as hub:
        hub.degraded(True)
        broker.away, broker.is_ready = BrokerUnavailable("away"), False
        wall = Wall()
        await hub.attach(stream_on(wall))
        assert received(wall) == ["degraded"]
        broker.away, broker.is_ready = None, True
        hub.resync(None)
        hub.degraded(False)
        await until(lambda: "hello" in received(wall))
        assert len(broker.opened) == 2


async def test_openings_that_hang_do_not_block_others(broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.opener.TIMEOUT_S", 0.05)
    monkeypatch.setattr("notifier.opener.RETRY_S", (0.01, 0.02))
    async with running_hub(broker) as hub:
        crowd = await attach_crowd(hub, 100)
        broker.gate.clear()
        hub.resync(None)
        asked = len(broker.opened)
        await until(lambda: len(set(broker.opened[asked:])) == 100, what="a try for every stream")
        broker.gate.set()
        broker.publish(hub, "all", "after")
        await until(lambda: all("x:after" in received(wall) for wall in crowd))
        assert all(events(wall) == ["x:after"] for wall in crowd)


async def test_openings_are_read_a_few_at_a_time(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        broker.gate.clear()
        walls = [Wall() for _ in range(100)]
        attaching = [asyncio.create_task(hub.attach(stream_on(wall, f"u{n}"))) for n, wall in enumerate(walls)]
        await until(lambda: broker.opening_now == MAX_OPEN_CALLS)
        assert len(broker.subscribed) == 1  # all are registered and subscribed; only the calls of `open` are limited
        assert len(hub) == 100
        broker.gate.set()
        await asyncio.gather(*attaching)
        assert broker.most_at_once == MAX_OPEN_CALLS
        assert all(received(wall) == ["hello"] for wall in walls)


async def test_after_many_resyncs_in_a_row_every_stream_is_live(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        crowd = await attach_crowd(hub, CROWD)
        for turn in range(20):
            hub.resync(None if turn % 3 else ["all"], after=None)
            if turn % 2:
                broker.publish(hub, "all")
            for _ in range(turn % 7):
                await asyncio.sleep(0)
        broker.publish(hub, "all", "end")
        await until(lambda: all("x:end" in received(wall) for wall in crowd))
        expected = [*(f"x:{number}" for number in range(1, broker.seq)), "x:end"]
        for wall in crowd:
            assert events(wall) == expected
            assert received(wall).count("hello") == 1


async def test_after_a_resync_the_present_state_of_tasks_is_sent_again(broker: ScriptedBroker) -> None:
    task = begin(to=["all"], name="t", now_ms=0, total=10)
    async with running_hub(broker) as hub:
        broker.tasks_now = (task,)
        wall = Wall()
        await hub.attach(stream_on(wall))
        broker.tasks_now = (task.changed({"done": 10, "status": "succeeded"}, now_ms=2),)
        hub.resync(None)
        await until(lambda: len(statuses(wall)) == 2)
        assert statuses(wall)[-1] == "succeeded"
        assert [block.split("\n")[0] for block in body_of(wall).blocks[1:]] == ["event: task", "event: inbox"]


async def test_a_state_in_a_round_queued_before_a_resync_does_not_come_after_the_snapshot(
    broker: ScriptedBroker,
) -> None:
    task = begin(to=["all"], name="t", now_ms=0, total=10)
    async with running_hub(broker) as hub:
        crowd = await attach_crowd(hub, CROWD)
        announce(hub, task.changed({"done": 5}, now_ms=1))  # waits for its round
        broker.tasks_now = (task.changed({"done": 10, "status": "succeeded"}, now_ms=2),)
        hub.resync(None)  # the link was down when the end was announced
        await until(lambda: all("succeeded" in statuses(wall) for wall in crowd))
        await until(lambda: not hub._rounds)
        assert all(statuses(wall)[-1] == "succeeded" for wall in crowd)


async def test_a_state_conflated_before_a_reset_does_not_come_after_it(broker: ScriptedBroker) -> None:
    task = begin(to=["all"], name="t", now_ms=0, total=10)
    async with running_hub(broker) as hub:
        wall = Wall()
        await hub.attach(stream_on(wall))
        wall.waiting = 100
        announce(hub, task.changed({"done": 5}, now_ms=1))
        broker.tasks_now = (task.changed({"done": 10, "status": "succeeded"}, now_ms=2),)
        broker.epoch = "new"
        hub.resync(None)
        await until(lambda: "succeeded" in statuses(wall))
        wall.waiting = 0
        announce(hub, begin(to=["all"], name="another", now_ms=3, total=1))
        await until(lambda: statuses(wall).count("running") > 0)
        assert statuses(wall) == ["succeeded", "running"]


async def test_a_stream_with_too_many_pending_frames_is_ended_and_counted_once(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        broker.gate.clear()
        attaching = asyncio.create_task(hub.attach(stream_on(Wall())))
        await until(lambda: broker.opening_now)
        for _ in range(MAX_PENDING + 10):
            state(hub, "all", "", "x")
        await until(lambda: not len(hub))
        assert hub.counts["ended_slow"] == 1
        broker.gate.set()
        await attaching


async def test_streams_that_leave_while_they_wait_for_their_turn_are_not_opened(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        broker.gate.clear()
        streams = [stream_on(Wall(), f"u{i}") for i in range(30)]
        attaching = [asyncio.create_task(hub.attach(stream)) for stream in streams]
        await until(lambda: broker.opening_now)
        for stream in streams:
            hub.detach(stream)
        broker.gate.set()
        await asyncio.gather(*attaching)
        assert len(broker.opened) == MAX_OPEN_CALLS


async def test_an_event_of_an_ended_epoch_in_a_round_reaches_no_stream_and_later_events_do(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.rounds.SLICE_S", 0)
    async with running_hub(broker, heartbeat_s=15) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(70)
        await attach_crowd(hub, 640, "staff")
        for _ in range(4):
            broker.publish(hub, "all")
        await until(lambda: not hub._rounds)
        broker.epoch, broker.seq, broker.log = "new", 0, []
        hub.resync(None)
        for _ in range(5):  # the loop is behind: rounds are queued
            state(hub, "staff", "", "s")
            hub.deliver("staff", "new", 1, "", b"id: new-1\nevent: x\ndata: s\n\n")
        hub.deliver("all", "e", 400, "", b"id: e-400\nevent: x\ndata: old\n\n")
        await until(lambda: not hub._rounds)
        await until(lambda: read_all(clients) and all("reset" in client.received for client in clients))
        for _ in range(3):
            broker.publish(hub, "all", "new")
        await until(lambda: read_all(clients) and all(client.of("x")[4:] == ["new"] * 3 for client in clients))


async def test_with_too_many_rounds_the_streams_read_the_log(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.rounds.MAX_ROUNDS", 4)
    async with running_hub(broker) as hub, Sockets(hub) as sockets:
        _, clients = await sockets.attached(CROWD)
        await attach_crowd(hub, CROWD, "staff")
        for number in range(10):  # each follows another topic's, so that none can join
            broker.publish(hub, "all", str(number))
            state(hub, "staff", "", "s")
        everything = [str(number) for number in range(10)]
        await until(lambda: read_all(clients) and all(client.of("x") == everything for client in clients))


async def test_a_user_s_disconnect_during_an_outage_ends_the_stream_when_it_is_reopened(
    broker: ScriptedBroker,
) -> None:
    async with running_hub(broker) as hub:
        broker.revoked = "before"
        first = Wall()
        await hub.attach(stream_on(first))
        hub.resync(None)
        await until(lambda: len(broker.opened) == 2)
        assert len(hub) == 1  # it was opened after that disconnect
        broker.revoked = "since"
        hub.resync(None)
        await until(lambda: not len(hub))
        assert b'"reason":"revoked"' in first.written[-2]


@pytest.mark.parametrize("others", [0, CROWD], ids=["alone", "in rounds"])
async def test_an_event_without_history_over_several_channels_is_delivered_once(
    broker: ScriptedBroker, others: int
) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, others)
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ("all", "user:ann")))
        for topic in ("all", "user:ann", "all"):
            state(hub, topic, ":publish-1", "50")
        state(hub, "all", ":publish-2", "51")
        await until(lambda: not hub._rounds)
        assert received(wall) == ["hello", "task:50", "task:51"]
