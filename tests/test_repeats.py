"""Parts of one publish: a stream gets the event once where it has an earlier part for certain, and again otherwise."""

from __future__ import annotations

import pytest

from notifier.broker.values import Opening
from notifier.event import Cursor
from notifier.repeats import MAX_KEYS, MAX_PARTS, Repeats
from tests.faults.clients import until
from tests.hubs import EPOCH, ScriptedBroker, attach_crowd, received, running_hub, stream_on
from tests.test_stream import Wall

ANN = ("all", "group:staff", "user:ann")


@pytest.fixture
async def broker() -> ScriptedBroker:
    return ScriptedBroker()


@pytest.mark.parametrize("crowd", [0, 100])
async def test_live_parts_are_one_event(broker: ScriptedBroker, crowd: int) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, crowd, "group:staff")
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ANN))
        broker.publish(hub, "group:staff", "part", key="m-1")
        broker.publish(hub, "all", "next")
        broker.publish(hub, "user:ann", "part", key="m-1")
        await until(lambda: not hub._rounds)
        assert received(wall) == ["hello", "x:part", "x:next"]


@pytest.mark.parametrize("crowd", [0, 100])
async def test_a_live_part_is_not_repeated_after_a_replayed_one(broker: ScriptedBroker, crowd: int) -> None:
    async with running_hub(broker) as hub:
        await attach_crowd(hub, crowd, "user:ann")
        broker.publish(hub, "group:staff", "part", key="m-1")
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ANN, Cursor(EPOCH, 0)))
        broker.publish(hub, "user:ann", "part", key="m-1")
        await until(lambda: not hub._rounds)
        assert received(wall) == ["hello", "x:part"]


async def test_a_part_in_a_queued_round_is_not_repeated_after_a_replay(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_hub(broker) as hub:
        broker.publish(hub, "group:staff", "part", key="m-1")
        crowd = await attach_crowd(hub, 100, "user:ann")
        start = Cursor(EPOCH, 0)
        read_before = await broker.open("ann", ANN, start)

        async def open_before(*_: object, **how: object) -> Opening:
            return read_before

        broker.publish(hub, "user:ann", "part", key="m-1")
        assert len(hub._rounds) == 1
        monkeypatch.setattr(broker, "open", open_before)
        wall = Wall()
        stream = stream_on(wall, "ann", ANN, start)
        await hub.attach(stream)
        await until(lambda: not hub._rounds)
        assert received(wall) == ["hello", "x:part"]
        assert all(received(other) == ["hello", "x:part"] for other in crowd)


async def test_a_stream_that_began_after_a_part_gets_the_next_one(broker: ScriptedBroker) -> None:
    """Its client did not ask for the earlier one, or came back with a group that it did not hear before."""
    async with running_hub(broker) as hub:
        await attach_crowd(hub, 1, "group:staff")
        broker.publish(hub, "group:staff", "part", key="m-1")
        fresh, returned = Wall(), Wall()
        await hub.attach(stream_on(fresh, "ann", ANN))
        await hub.attach(stream_on(returned, "ann", ANN, Cursor(EPOCH, 1)))
        broker.publish(hub, "user:ann", "part", key="m-1")
        assert received(fresh) == received(returned) == ["hello", "x:part"]


async def test_a_stream_that_does_not_hear_the_earlier_part_gets_the_next_one(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        staff, wall = Wall(), Wall()
        await hub.attach(stream_on(staff, "bob", ("group:staff",)))
        await hub.attach(stream_on(wall, "ann", ("user:ann",)))
        broker.publish(hub, "group:staff", "part", key="m-1")
        broker.publish(hub, "user:ann", "part", key="m-1")
        assert received(staff) == received(wall) == ["hello", "x:part"]


async def test_after_a_resync_a_part_is_replayed_once(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ANN))
        broker.publish(hub, "group:staff", "part", key="m-1")
        broker.publish(hub, "user:ann", "part", key="m-1", announced=False)
        broker.publish(hub, "all", "next", announced=False)
        hub.resync(None)
        await until(lambda: received(wall)[-1] == "inbox")
        broker.publish(hub, "all", "last")
        assert [event for event in received(wall) if event != "inbox"] == ["hello", "x:part", "x:next", "x:last"]


async def test_a_part_of_an_earlier_epoch_does_not_hide_a_later_one(broker: ScriptedBroker) -> None:
    async with running_hub(broker) as hub:
        wall = Wall()
        await hub.attach(stream_on(wall, "ann", ANN))
        broker.publish(hub, "group:staff", "old", key="m-1")
        broker.epoch, broker.seq = "f", 1
        hub.resync(None)
        await until(lambda: received(wall)[-1] == "reset")
        broker.publish(hub, "user:ann", "new", key="m-1")
        assert received(wall) == ["hello", "x:old", "reset", "x:new"]


def test_the_remembered_keys_are_bounded() -> None:
    repeats = Repeats()
    for number in range(MAX_KEYS + 1):
        repeats.note("e", f"k{number}", "all", number + 1)
    assert repeats.note("e", "k1", "user:ann", 9_000).first == 2
    assert repeats.note("e", "k0", "user:ann", 9_000).first == 9_000, "the oldest is forgotten"


def test_the_remembered_parts_of_all_keys_are_bounded() -> None:
    repeats = Repeats()
    for key in ("first", "second"):
        for number in range(MAX_PARTS):
            repeats.note("e", key, f"user:{number}", 1)
    repeats.note("e", "third", "all", 2)
    assert repeats.note("e", "first", "all", 2).first == 2
    assert repeats.note("e", "second", "all", 2).first == 2
