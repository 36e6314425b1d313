"""Topics that streams hear by grants, in a hub over the embedded broker."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import History, Opening
from notifier.errors import BrokerUnavailable, Conflict, NotFound
from notifier.event import custom, parse_cursor
from notifier.frames import OPENING
from notifier.grants import MAX_TOPICS, Change
from notifier.hub import Hub
from notifier.stream import Stream
from tests.broker.support import note
from tests.faults.clients import until
from tests.hubs import body_of, running_hub, stream_on
from tests.test_stream import Wall

TOPIC = "topic:order:42"


class GatedBroker(MemoryBroker):
    """Answers openings of streams that do not hear `TOPIC` once `gate` is set."""

    def __init__(self) -> None:
        super().__init__(history=History(50, 50, 3600), max_replay=100)
        self.gate = asyncio.Event()
        self.gate.set()

        self.openings = 0
        self.replayed = 0
        self.fails = False

    async def open(self, user: str, channels: Sequence[str], *args: Any, **options: Any) -> Opening:
        self.openings += 1
        if TOPIC not in channels:
            await self.gate.wait()
        if self.fails:
            raise BrokerUnavailable("away")
        opening = await super().open(user, channels, *args, **options)
        self.replayed += len(opening.replay)
        return opening


@pytest.fixture
async def broker() -> GatedBroker:
    return GatedBroker()


@pytest.fixture
async def hub(broker: GatedBroker) -> AsyncIterator[Hub]:
    async with running_hub(broker) as running:
        await broker.start(running)
        yield running


@pytest.fixture
async def wall() -> Wall:
    return Wall()


@pytest.fixture
async def stream(hub: Hub, wall: Wall) -> Stream:
    attached = stream_on(wall)
    await hub.attach(attached)
    return attached


def change(*add: str, remove: Sequence[str] = (), since: str | None = None) -> Change:
    return Change("", {channel: time.time() + 60 for channel in add}, remove, since)


def events_of(wall: Wall) -> list[str]:
    return [event for event in body_of(wall).events if event not in ("hello", "inbox")]


async def test_five_topics_of_its_own_add_at_most_2_kib_to_a_stream(hub: Hub) -> None:
    streams = [stream_on(Wall(), user=f"{number}") for number in range(800)]
    for stream in streams:
        await hub.attach(stream)
    tracemalloc.start()
    try:
        for number, stream in enumerate(streams):
            await hub.grants.change(stream, change(*(f"topic:order:{number}:{each}" for each in range(5))))
        added = tracemalloc.get_traced_memory()[0] / len(streams)
    finally:
        tracemalloc.stop()
    assert all(len(stream.channels) == 6 for stream in streams)
    assert added < 2048, added


async def publish(broker: MemoryBroker, data: int, channel: str = TOPIC) -> str:
    return (await broker.publish(custom(to=[channel], event_type="x", data=data))).cursor


async def test_an_event_during_an_opening_that_reads_without_the_new_topic_is_not_lost(
    hub: Hub, broker: GatedBroker, stream: Stream, wall: Wall
) -> None:
    broker.gate.clear()
    hub.resync(None)
    await until(lambda: stream.reading)
    await hub.grants.change(stream, change(TOPIC))
    await publish(broker, 1)
    broker.gate.set()
    await until(lambda: not stream.opening)
    await publish(broker, 2)
    assert events_of(wall) == ["x:1", "x:2"]


async def join(hub: Hub, stream: Stream) -> None:
    await hub.grants.change(stream, change(TOPIC))


async def rejoin(hub: Hub, stream: Stream) -> None:
    hub.grants.leave(stream, [TOPIC])
    await join(hub, stream)


async def test_a_part_of_before_the_join_does_not_hide_a_later_one(
    hub: Hub, broker: GatedBroker, stream: Stream, wall: Wall
) -> None:
    other = stream_on(Wall(), "bob")
    await hub.attach(other)
    await join(hub, other)
    for number, joins in enumerate((join, rejoin)):
        hub.grants.leave(stream, [TOPIC])
        await broker.publish(note(TOPIC, id=f"m-{number}", may_repeat=True))
        await joins(hub, stream)
        await broker.publish(note("all", id=f"m-{number}", may_repeat=True))
        assert len(events_of(wall)) == 1 + 2 * number, "the part after the join"
        await broker.publish(note(TOPIC, id=f"n-{number}", may_repeat=True))
        await broker.publish(note("all", id=f"n-{number}", may_repeat=True))
        assert len(events_of(wall)) == 2 + 2 * number, "one of two parts after the join"


async def test_a_join_that_ends_before_an_earlier_one_keeps_parts_of_both(
    hub: Hub, broker: GatedBroker, stream: Stream, wall: Wall
) -> None:
    other = stream_on(Wall(), "bob")
    await hub.attach(other)
    await join(hub, other)
    broker.gate.clear()
    first = asyncio.ensure_future(hub.grants.change(stream, change("topic:x")))
    await until(lambda: "topic:x" in stream.channels)
    await broker.publish(note(TOPIC, id="m", may_repeat=True))
    await join(hub, stream)
    broker.gate.set()
    await first
    await broker.publish(note("all", id="m", may_repeat=True))
    assert len(events_of(wall)) == 1


async def test_a_topic_that_is_left_is_unsubscribed_with_its_last_stream(
    hub: Hub, broker: GatedBroker, stream: Stream, wall: Wall
) -> None:
    other = stream_on(Wall(), "bob")
    await hub.attach(other)
    for each in (stream, other):
        await hub.grants.change(each, change(TOPIC))
    await hub.grants.change(stream, change(remove=[TOPIC, "all"]))
    await publish(broker, 1)
    await publish(broker, 2, "all")
    assert events_of(wall) == ["x:2"]
    assert await broker.is_watched(TOPIC)
    hub.detach(other)
    assert not await broker.is_watched(TOPIC)


async def test_a_later_grant_of_a_topic_replaces_the_earlier_end(hub: Hub, stream: Stream, wall: Wall) -> None:
    short, long = time.time() + 0.2, time.time() + 60
    hub.grants.hear(stream, {TOPIC: short, "topic:short": short})
    hub.grants.hear(stream, {TOPIC: long})
    hub.grants.hear(stream, {TOPIC: short})
    await until(lambda: "topics" in events_of(wall))
    assert stream.channels == ("all", TOPIC)
    assert '"left":["short"]' in body_of(wall).blocks[-1]


async def test_a_grant_that_has_expired_is_told_before_any_event_after_it(
    hub: Hub, broker: GatedBroker, wall: Wall
) -> None:
    """A later event's id would let the client take the topic for heard up to that event."""
    connecting = stream_on(wall)
    connecting.cursor = parse_cursor(await publish(broker, 0, "all"))
    await publish(broker, 1, "all")
    hub.grants.hear(connecting, {TOPIC: time.time() - 1})
    await hub.attach(connecting)
    await publish(broker, 2, "all")
    assert [event.partition(":")[0] for event in events_of(wall)] == ["topics", "x", "x"]


async def test_nothing_remains_of_a_stream_that_has_ended(hub: Hub, stream: Stream) -> None:
    hub.grants.hear(stream, {TOPIC: time.time() + 60, "topic:ended": time.time() - 1})
    hub.detach(stream)
    grants = hub.grants
    assert (grants._ends, grants._untold, [streams for streams in grants._due.values() if streams]) == ({}, {}, [])
    with pytest.raises(NotFound):
        await grants.change(stream, change())


async def test_nothing_remains_of_a_stream_that_left_or_renewed_its_grants(hub: Hub, stream: Stream) -> None:
    now = time.time()
    for life_s in (1000, 2000):
        await hub.grants.change(stream, Change("", {TOPIC: now + life_s, "topic:other": now + life_s}, (), None))
    await hub.grants.change(stream, change(remove=[TOPIC]))
    hub.detach(stream)
    assert not hub.grants._due
    assert not hub.grants._ends
    with pytest.raises(NotFound):
        await hub.grants.change(stream, change(TOPIC))
    assert not hub.grants._due


async def test_more_topics_than_a_stream_may_hear_change_nothing(hub: Hub, stream: Stream) -> None:
    await hub.grants.change(stream, change(TOPIC))
    with pytest.raises(Conflict):
        await hub.grants.change(stream, change(*(f"topic:{n}" for n in range(MAX_TOPICS + 1)), remove=[TOPIC]))
    assert stream.channels == ("all", TOPIC)


async def test_events_from_before_a_join_are_not_replayed_at_a_resync(
    hub: Hub, broker: GatedBroker, stream: Stream, wall: Wall
) -> None:
    await until(lambda: stream.greeted)
    await publish(broker, 1)
    await hub.grants.change(stream, change(TOPIC))
    await publish(broker, 2)
    await until(lambda: "x:2" in events_of(wall))
    # As after a lost link at a time when the stream had no event since it opened.
    hub.resync(None)
    stream.cursor = parse_cursor(f"{broker._epoch}-0")
    await publish(broker, 3)
    await until(lambda: "x:3" in events_of(wall))
    assert "x:1" not in events_of(wall)
    assert "reset" not in events_of(wall)


async def test_what_is_stale_shows_in_a_single_opening(hub: Hub, broker: GatedBroker, stream: Stream) -> None:
    topics = [f"topic:{number}" for number in range(100)]
    since = await publish(broker, 0, topics[0])
    for topic in topics[90:]:
        await publish(broker, 1, topic)
    before = broker.openings
    changed = await hub.grants.change(stream, change(*topics, since=since))
    assert list(changed.stale) == [topic.removeprefix("topic:") for topic in topics[90:]]
    assert broker.openings - before == 2, "one for the topics with events, one for those without"
    assert broker.replayed == 0


async def test_a_join_that_fails_leaves_nothing_behind(hub: Hub, broker: GatedBroker, stream: Stream) -> None:
    before = (stream.channels, stream.topics, stream.since)
    broker.fails = True
    with pytest.raises(BrokerUnavailable):
        await hub.grants.change(stream, change(TOPIC))
    assert (stream.channels, stream.topics, stream.since) == before
    assert not hub.grants._ends
    broker.fails = False
    await hub.grants.change(stream, change(TOPIC))
    assert stream.channels[-1] == TOPIC


async def test_a_join_that_fails_after_its_repeat_was_answered_takes_nothing_back(
    hub: Hub, broker: GatedBroker, stream: Stream, wall: Wall
) -> None:
    broker.gate.clear()
    first = asyncio.ensure_future(hub.grants.change(stream, change("topic:x")))
    await until(lambda: "topic:x" in stream.channels)
    changed = await hub.grants.change(stream, change("topic:x", TOPIC))
    assert set(changed.topics) == {"x", "order:42"}
    broker.fails = True
    broker.gate.set()
    with pytest.raises(BrokerUnavailable):
        await first
    await broker.publish(note("topic:x", id="m"))
    assert len(events_of(wall)) == 1
    assert not hub.grants._joining
    assert set(hub.grants._joined[stream]) == {"topic:x", TOPIC}
    assert stream.since < OPENING


@pytest.mark.parametrize("repeat", [("topic:x",), ("topic:x", TOPIC)], ids=["in order", "the repeat first"])
async def test_a_join_and_its_repeat_that_both_fail_leave_nothing_behind(
    hub: Hub, broker: GatedBroker, stream: Stream, repeat: Sequence[str]
) -> None:
    before, openings = (stream.channels, stream.topics), broker.openings
    broker.fails = True
    broker.gate.clear()
    both = [asyncio.ensure_future(hub.grants.change(stream, change(*topics))) for topics in (("topic:x",), repeat)]
    await until(lambda: broker.openings == openings + 2)
    broker.gate.set()
    errors = await asyncio.gather(*both, return_exceptions=True)
    assert all(isinstance(error, BrokerUnavailable) for error in errors)
    assert (stream.channels, stream.topics) == before
    assert not hub.grants._joining


async def test_nothing_remains_of_a_stream_that_was_never_attached(hub: Hub) -> None:
    late = stream_on(Wall())
    hub.grants.hear(late, {TOPIC: time.time() + 60, "topic:gone": time.time() - 1})
    hub.detach(late)
    assert not hub.grants._ends
    assert not hub.grants._due
    assert not hub.grants._untold
