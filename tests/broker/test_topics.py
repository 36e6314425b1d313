"""The contract of brokers: topics are channels with smaller bounds, and no part of an inbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis

from notifier.broker import Broker
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.values import History, Opening
from notifier.event import Cursor, custom
from notifier.message import message_of
from tests.broker.support import Recorder, note, opened, subjects, until
from tests.support import RedisServer

KEYS = Keys("topics:")
TOPIC = "topic:order:42"
PAGE = ("user:ann", "group:staff", "all", TOPIC)
"""The channels of a stream of ann whose page shows the order."""


async def opened_page(broker: Broker, cursor: Cursor | str | None = None) -> Opening:
    return await broker.open("ann", PAGE, cursor)


async def test_an_event_to_a_topic_reaches_its_streams_and_no_others(broker: Broker, sink: Recorder) -> None:
    (heard,) = broker.topics("ann", [TOPIC])
    (other,) = broker.topics("ann", ["topic:order:43"])
    await broker.subscribe([heard, other])
    receipt = await broker.publish(custom(to=[TOPIC], event_type="order.paid", data=1))
    await until(lambda: sink.events)
    assert [(topic, seq) for topic, seq, _ in sink.events] == [(heard, receipt.seq)]


async def test_events_of_a_topic_are_replayed_in_one_order_with_others(broker: Broker) -> None:
    start = (await opened_page(broker)).cursor
    for number, to in enumerate(["all", TOPIC, "user:ann", "topic:order:43", [TOPIC, "user:ann", "group:staff"]]):
        await broker.publish(note(to, subject=str(number)))
    opening = await opened_page(broker, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["0", "1", "2", "4"])
    assert subjects(await opened(broker, start)) == ["0", "2", "4"]


async def test_a_topic_keeps_its_own_number_of_events(broker: Broker) -> None:
    """3 in these brokers, which keep 5 of other channels."""
    start = (await opened_page(broker)).cursor
    for _ in range(3):
        await broker.publish(custom(to=[TOPIC, "user:ann"], event_type="changed"))
    assert (await opened_page(broker, start)).verdict == "ok"
    await broker.publish(custom(to=[TOPIC, "user:ann"], event_type="changed"))
    assert (await opened_page(broker, start)).verdict == "history_trimmed"
    assert (await opened(broker, start)).verdict == "ok"


async def test_a_message_to_a_topic_is_in_no_inbox(broker: Broker) -> None:
    start = (await opened_page(broker)).cursor
    await broker.publish(note([TOPIC, "all"], subject="both"))
    await broker.publish(note(TOPIC, subject="topic"))
    opening = await opened_page(broker, start)
    assert (opening.unread, subjects(opening)) == (1, ["both", "topic"])
    assert [message_of(frame) is not None for _, frame in opening.replay] == [True, True]


async def test_a_topic_without_events_does_not_reset_a_stream(broker: Broker) -> None:
    await broker.publish(note())
    await broker.publish(custom(to=["topic:order:43"], event_type="changed"))
    start = (await opened_page(broker)).cursor
    await broker.publish(note(subject="new"))
    opening = await opened_page(broker, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["new"])


async def test_a_text_for_the_processes_reaches_those_that_subscribe(broker: Broker, sink: Recorder) -> None:
    (topic,) = broker.topics("ann", ["user:ann"])
    assert not await broker.control(topic, "early")
    await broker.subscribe([topic])
    if await broker.control(topic, '{"call": 1}'):
        await until(lambda: sink.controls)
    # A broker of one process has no other process to reach.
    assert sink.controls in ([b'{"call": 1}'], [])
    assert (sink.events, sink.ended) == ([], [])


@pytest.fixture
async def brief(redis_server: RedisServer, raw: redis.Redis, sink: Recorder) -> AsyncIterator[RedisBroker]:
    """A broker that forgets a topic after a second."""
    history = History(50, 50, 3600, topic_ttl_s=1)
    broker = RedisBroker(One(Address.from_url(redis_server.url)), KEYS, history=history, max_replay=100)
    await broker.start(sink)
    yield broker
    await broker.close()


async def until_forgotten(raw: redis.Redis) -> None:
    heard_at = time.monotonic()
    while raw.exists(KEYS.meta(0, TOPIC)) or time.monotonic() < heard_at + 1:
        await asyncio.sleep(0.05)


async def test_the_next_event_of_a_quiet_topic_is_no_hole(brief: RedisBroker, raw: redis.Redis, sink: Recorder) -> None:
    await brief.subscribe(brief.topics("ann", [TOPIC]))
    seqs = []
    for _ in range(3):
        seqs.append((await brief.publish(custom(to=[TOPIC], event_type="changed"))).seq)
        await until(lambda: len(sink.events) + len(sink.resyncs) == len(seqs))
        await until_forgotten(raw)
        await brief.publish(note(subject="of another channel"))
    assert ([seq for _, seq, _ in sink.events], sink.resyncs) == (seqs, [])


async def test_a_topic_that_was_read_from_the_log_may_be_forgotten_at_any_time(
    brief: RedisBroker, raw: redis.Redis, sink: Recorder
) -> None:
    await brief.publish(custom(to=[TOPIC], event_type="changed"))
    await brief.subscribe(brief.topics("ann", [TOPIC]))
    await opened_page(brief)
    raw.delete(KEYS.meta(0, TOPIC), KEYS.events(0, TOPIC))
    receipt = await brief.publish(custom(to=[TOPIC], event_type="changed"))
    await until(lambda: sink.events or sink.resyncs)
    assert ([seq for _, seq, _ in sink.events], sink.resyncs) == ([receipt.seq], [])


@pytest.mark.parametrize("channel", [TOPIC, "user:ann"])
async def test_a_channel_that_is_lost_earlier_has_a_hole(
    redis_server: RedisServer, raw: redis.Redis, sink: Recorder, channel: str
) -> None:
    broker = RedisBroker(One(Address.from_url(redis_server.url)), KEYS, history=History(50, 50, 3600), max_replay=100)
    await broker.start(sink)
    await broker.subscribe(broker.topics("ann", [channel]))
    first = await broker.publish(custom(to=[channel], event_type="changed"))
    await until(lambda: sink.events)
    raw.delete(KEYS.meta(0, channel), KEYS.events(0, channel))
    await broker.publish(custom(to=[channel], event_type="changed"))
    await until(lambda: sink.resyncs)
    assert (len(sink.events), sink.resyncs[0][1]) == (1, first.seq)
    await broker.close()


async def test_what_was_published_before_a_join_is_neither_replayed_nor_missed(broker: Broker) -> None:
    """3 events of a topic are kept in these brokers."""
    start = (await opened_page(broker)).cursor
    for number in range(5):
        await broker.publish(custom(to=[TOPIC], event_type="changed", data=number))
    await broker.publish(note(subject="own"))
    joined = {TOPIC: (await opened_page(broker)).cursor.seq}
    assert (await opened_page(broker, start)).verdict == "history_trimmed"
    opening = await broker.open("ann", PAGE, start, joined=joined)
    assert (opening.verdict, subjects(opening), len(opening.replay)) == ("ok", ["own"], 1)
    await broker.publish(custom(to=[TOPIC], event_type="changed", data=5))
    later = (await opened_page(broker)).cursor  # each shard has its own order
    opening = await broker.open("ann", PAGE, start, joined=joined)
    assert (opening.verdict, [seq for seq, _ in opening.replay][-1], len(opening.replay)) == ("ok", later.seq, 2)
    first = await broker.open("ann", PAGE, start, joined=joined, portion_bytes=1)
    assert (first.more, len(first.replay), first.missed) == (True, 1, 2)
    rest = await broker.open("ann", PAGE, first.cursor, joined=joined, portion_bytes=1, continued=True)
    assert (rest.more, [seq for seq, _ in rest.replay]) == (False, [later.seq])
    for number in range(4):
        await broker.publish(custom(to=[TOPIC], event_type="changed", data=number))
    assert (await broker.open("ann", PAGE, start, joined=joined)).verdict == "history_trimmed"
