"""The contract of brokers: events, their order and their delivery, idempotency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import pytest

from notifier import event as events
from notifier.broker import Broker
from notifier.broker.values import EPHEMERAL_PREFIX, Idempotency, Receipt
from notifier.errors import IdempotencyMismatch, NotifierError
from notifier.event import Cursor
from tests.broker.support import ANN, Recorder, note, opened, subjects, until


async def test_ids_grow_by_one_over_all_channels(broker: Broker) -> None:
    cursors = []
    for to in ("user:ann", "group:staff", "all", "user:ann"):
        await broker.publish(note(to))
        cursors.append((await opened(broker)).cursor)
    assert [cursor.seq for cursor in cursors] == [1, 2, 3, 4]
    assert len({cursor.epoch for cursor in cursors}) == 1


async def test_an_event_is_delivered_to_the_process_that_published_it(broker: Broker, sink: Recorder) -> None:
    topic = broker.topics("ann", ["user:ann"])[0]
    await broker.subscribe([topic])
    await broker.publish(note(subject="first"))
    await broker.publish(note(subject="second"))
    await until(lambda: len(sink.events) == 2)
    assert [(name, seq) for name, seq, _ in sink.events] == [(topic, 1), (topic, 2)]
    assert b'"to":"user:ann"' in sink.events[0][2]
    assert b'"subject":"second"' in sink.events[1][2]


async def test_an_event_is_delivered_with_the_time_of_its_acceptance(broker: Broker, sink: Recorder) -> None:
    before_us = time.time_ns() // 1000
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    await broker.publish(note())
    await until(lambda: sink.accepted_us)
    assert before_us - 1 <= sink.accepted_us[0] <= time.time_ns() // 1000 + 1  # a float has half a microsecond


async def test_each_recipient_sees_its_own_channel_and_no_other(broker: Broker, sink: Recorder) -> None:
    topics = [*broker.topics("ann", ["user:ann"]), *broker.topics("bob", ["user:bob"])]
    await broker.subscribe(topics)
    await broker.publish(note(["user:ann", "user:bob"]))
    await until(lambda: len(sink.events) == 2)
    for topic, name, other in ((topics[0], b"user:ann", b"user:bob"), (topics[1], b"user:bob", b"user:ann")):
        wire = next(wire for wire_topic, _, wire in sink.events if wire_topic == topic)
        assert name in wire
        assert other not in wire


async def test_nothing_is_delivered_after_unsubscribing(broker: Broker, sink: Recorder) -> None:
    ann, bob = broker.topics("ann", ["user:ann"]), broker.topics("bob", ["user:bob"])
    await broker.subscribe([*ann, *bob])
    broker.unsubscribe(ann)
    await broker.publish(note("user:ann"))
    await broker.publish(note("user:bob"))
    await until(lambda: sink.events)
    assert [topic for topic, _, _ in sink.events] == list(bob)


async def test_unsubscribing_and_subscribing_quickly_keeps_the_subscription(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    for _ in range(50):
        await broker.subscribe(topics)
        broker.unsubscribe(topics)
    await broker.subscribe(topics)
    await broker.publish(note())
    await until(lambda: sink.events)
    assert len(sink.events) == 1


async def test_an_opening_that_subscribes_misses_no_event(broker: Broker, sink: Recorder) -> None:
    channels = ("user:ann", "all")
    topic = broker.topics("ann", channels)[0]
    opening = asyncio.ensure_future(broker.open("ann", channels, None, subscribe=True))
    published = []
    while not opening.done():
        await asyncio.sleep(0)
        published.append((await broker.publish(note())).seq)
    published.append((await broker.publish(note())).seq)
    top = opening.result().cursor.seq
    await until(lambda: sink.events and sink.events[-1][1] == published[-1])
    assert [seq for name, seq, _ in sink.events if name == topic and seq > top] == [n for n in published if n > top]


async def test_a_receipt_says_if_a_stream_listens(broker: Broker) -> None:
    assert not (await broker.publish(note())).watched
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    assert (await broker.publish(note())).watched
    assert await broker.is_watched(topics[0])
    broker.unsubscribe(topics)
    async with asyncio.timeout(10):  # unsubscribed on another connection, so perhaps after the next call
        while await broker.is_watched(topics[0]):
            await asyncio.sleep(0.01)
    assert not (await broker.publish(note())).watched


async def test_an_event_that_is_not_durable_is_announced_and_not_stored(broker: Broker, sink: Recorder) -> None:
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    start = (await opened(broker)).cursor
    await broker.publish(events.custom(to=["user:ann"], event_type="cursor.moved", data={"x": 1}, durable=False))
    await until(lambda: sink.states)
    assert sink.states[0][2] == b'event: cursor.moved\ndata: {"x":1}\n\n'
    assert not (await opened(broker, start)).replay


async def test_recipients_in_several_chunks_all_get_the_event_once(broker: Broker, sink: Recorder) -> None:
    users = [f"u{i}" for i in range(1200)]
    topics = [topic for user in users for topic in broker.topics(user, [f"user:{user}"])]
    await broker.subscribe(topics)
    event = note([f"user:{user}" for user in users])
    await broker.publish(event)
    await until(lambda: len(sink.events) >= 1200)
    assert sorted(topic for topic, _, _ in sink.events) == sorted(topics)
    page = await broker.inbox("u1100", ["user:u1100"], limit=5, before=None, unread_only=False)
    assert [message["id"] for message in page.messages] == [event.message_id]


async def test_an_ephemeral_event_to_several_channels_has_one_repeat_key(broker: Broker, sink: Recorder) -> None:
    await broker.subscribe(broker.topics("ann", ANN))
    for to in (list(ANN), list(ANN), ["user:ann"]):
        await broker.publish(events.custom(to=to, event_type="cursor.moved", durable=False))
    await until(lambda: len(sink.states) == 7)
    first, second, alone = ({key for _, key, _ in sink.states[at : at + 3]} for at in (0, 3, 6))
    assert len(first) == len(second) == 1
    assert first != second
    assert all(key.startswith(EPHEMERAL_PREFIX) for key in first | second)
    assert alone == {""}


async def test_an_event_in_several_parts_is_replayed_once(broker: Broker) -> None:
    many = ["all", *(f"user:u{i}" for i in range(600)), "user:ann"]
    start = (await opened(broker)).cursor
    for event in (note(many, subject="large"), events.custom(to=many, event_type="order.paid")):
        await broker.publish(event)
        assert len((await opened(broker, start)).replay) == 1
        start = (await opened(broker)).cursor


async def test_a_part_is_replayed_though_an_earlier_one_is_before_the_cursor(broker: Broker) -> None:
    """The client may not have heard the earlier part: its token may have got the group since."""
    groups = ["group:staff", *(f"group:g{i}" for i in range(600))]
    custom = events.custom(to=[*groups, "user:ann"], event_type="order.paid")
    for event in (note([*groups, "user:ann"], subject="large"), custom):
        receipt = await broker.publish(event)
        top = (await opened(broker)).cursor
        if top.seq == receipt.seq or top.epoch != receipt.epoch:
            continue  # the broker needs no parts, or the first is of another shard
        opening = await opened(broker, Cursor(receipt.epoch, receipt.seq))
        assert len(opening.replay) == 1


async def test_a_message_sent_by_two_calls_under_its_id_is_replayed_once(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for to in ("group:staff", "user:ann"):
        await broker.publish(note(to, id="m-1", may_repeat=True))
    await broker.publish(note(subject="next"))
    opening = await opened(broker, start)
    assert subjects(opening) == ["Hi", "next"]
    ((key, topic),) = opening.keys.values()
    assert (key, topic) == ("m-1", broker.topics("ann", ["group:staff"])[0])


async def test_a_part_that_outlives_an_expired_one_is_an_event_of_its_own(broker: Broker) -> None:
    """A stream may have been told of the first only after its expiry, and then it was left out."""
    until = datetime.now(UTC) + timedelta(hours=1)
    start = (await opened(broker)).cursor
    await broker.publish(note("group:staff", id="m-2", may_repeat=True, expires_at=until))
    await broker.publish(note("user:ann", id="m-2", may_repeat=True))
    keys = [key for key, _ in (await opened(broker, start)).keys.values()]
    assert len(set(keys)) == 2


# Idempotency


async def test_the_same_key_publishes_once_and_gets_the_same_answer(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    idem = Idempotency("p:key", "body-1")
    first = await broker.publish(note(), idem)
    again = await broker.publish(note(), idem)
    assert (first.cursor, first.watched) == (again.cursor, again.watched)
    assert len((await opened(broker, start)).replay) == 1


async def test_another_body_under_a_key_is_refused_and_publishes_nothing(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(), Idempotency("p:key", "body-1"))
    for to in ("user:ann", "user:bob", "user:carl", "user:dora"):
        with pytest.raises(IdempotencyMismatch):
            await broker.publish(note(to), Idempotency("p:key", "body-2"))
    assert len((await opened(broker, start)).replay) == 1


# Many recipients


async def test_another_body_to_many_under_a_key_is_refused_and_publishes_nothing(broker: Broker) -> None:
    await broker.publish(note(), Idempotency("p:key", "body-1"))
    many = [f"user:{number}" for number in range(1100)]
    with pytest.raises(IdempotencyMismatch):
        await broker.publish(note(many), Idempotency("p:key", "body-2"))
    assert [await broker.unread(name[5:], (name,)) for name in many[::100]] == [0] * 11


async def test_publishes_of_a_batch_reach_a_channel_in_their_order(broker: Broker) -> None:
    """The first has more recipients than a broker takes at once, on several shards."""
    many = [f"user:{number}" for number in range(600)]
    few = [many[number] for number in (0, 300, 599)]
    calls = [note(many, subject="first"), *(note(channel, subject="second") for channel in few)]
    pending = []
    for submitted in broker.submit_all([(event, Idempotency(f"p:{n}", "b")) for n, event in enumerate(calls)]):
        assert not isinstance(submitted, NotifierError)
        if not isinstance(submitted, Receipt):
            pending.append(submitted)
    await asyncio.gather(*pending)
    for channel in few:
        page = await broker.inbox(channel[5:], (channel,), limit=5, before=None, unread_only=False)
        assert [message["subject"] for message in page.messages] == ["second", "first"]


async def test_events_of_a_batch_for_a_user_are_delivered_together(broker: Broker, sink: Recorder) -> None:
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    for _ in range(20):  # a broker elsewhere may send them in two parts
        before = len(sink.events)
        pending = [answer for answer in broker.submit_all([(note(), None)] * 5) if isinstance(answer, Awaitable)]
        await asyncio.gather(*pending)
        await until(lambda before=before: len(sink.events) == before + 5)
        if 5 in sink.joined:
            return
    raise AssertionError(f"never together: {sink.joined}")
