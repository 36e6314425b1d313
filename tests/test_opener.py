"""Streams from their cursor to live: openings, resyncs, retries, and the snapshot after them."""

from __future__ import annotations

import asyncio

import pytest

from notifier.errors import BrokerUnavailable
from notifier.opener import MAX_OPEN_CALLS
from notifier.pending import MAX_PENDING
from notifier.task import begin
from tests.faults.clients import until
from tests.hubs import (
    ScriptedBroker,
    Sockets,
    announce,
    attach_crowd,
    body_of,
    events,
    read_all,
    received,
    running_hub,
    state,
    statuses,
    stream_on,
)
from tests.test_stream import Wall

CROWD = 70
"""More streams than `DIRECT`, so that a frame goes out in a round."""


@pytest.fixture
async def broker() -> ScriptedBroker:
    return ScriptedBroker()


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


@pytest.mark.parametrize("first", ["behind", "resync"])
async def test_a_stream_that_is_past_a_hole_is_reset_also_if_it_is_opening_when_the_hole_is_noticed(
    broker: ScriptedBroker, first: str
) -> None:
    async with running_hub(broker, max_backlog_bytes=1000) as hub:
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ("user:ann", "all")))
        broker.publish(hub, "user:ann", announced=False)
        wall.waiting = 1001 if first == "behind" else 500
        broker.publish(hub, "all", "2")
        if first == "resync":
            hub.resync(None)
        hub.resync(["user:ann"], after=0)
        wall.waiting = 0
        await until(lambda: len(received(wall)) > 2)
        assert received(wall) == ["hello", "x:2", "reset"]


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


@pytest.mark.slow
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
        assert len(broker.subscribed) == 1
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
        wall.waiting = 0
        await until(lambda: "succeeded" in statuses(wall))
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
