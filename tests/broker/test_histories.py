"""The contract of brokers: messages and other durable events have histories of their own, in one order."""

from __future__ import annotations

import json

import pytest
import redis

from notifier import event as events
from notifier.broker import Broker
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.keys import Keys
from notifier.broker.values import Opening
from notifier.event import Cursor
from tests.broker.support import ANN, HISTORY, listed, note, opened
from tests.support import RedisServer


def paid(to: str = "user:ann", subject: str = "paid") -> events.Event:
    """A durable event that is no message."""
    return events.custom(to=[to], event_type="order.paid", data={"subject": subject})


def replayed(opening: Opening) -> list[str]:
    return [json.loads(frame.partition(b"data: ")[2])["subject"] for _, frame in opening.replay]


async def test_events_do_not_push_messages_out(broker: Broker) -> None:
    for number in range(3):
        await broker.publish(note(subject=str(number)))
    for _ in range(10 * HISTORY):
        await broker.publish(paid())
    assert await listed(broker) == [("2", False), ("1", False), ("0", False)]
    assert await broker.unread("ann", ANN) == (await opened(broker)).unread == 3
    assert (await broker.mark("ann", ANN, "all", [])).unread == 0


async def test_messages_do_not_push_events_out(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="trimmed"))
    before = (await opened(broker)).cursor
    await broker.publish(paid())
    for number in range(HISTORY):
        await broker.publish(note(subject=str(number)))
    assert (await opened(broker, start)).verdict == "history_trimmed"
    assert replayed(await opened(broker, before)) == ["paid", *map(str, range(HISTORY))]


@pytest.mark.parametrize("portion_bytes", [0, 1, 300])
async def test_both_are_replayed_in_one_order(broker: Broker, portion_bytes: int) -> None:
    start = (await opened(broker)).cursor
    words = []
    for number in range(4):
        for event in (note(subject=f"m{number}"), paid("all", f"a{number}"), paid(subject=f"e{number}")):
            words.append(f"{'mae'[len(words) % 3]}{number}")
            await broker.publish(event)
    opening = await broker.open("ann", ANN, start, portion_bytes=portion_bytes)
    received = replayed(opening)
    assert (opening.verdict, opening.missed) == ("ok", 12)
    while opening.more:
        opening = await broker.open("ann", ANN, opening.cursor, portion_bytes=portion_bytes, continued=True)
        received += replayed(opening)
    assert received == words


async def test_a_cursor_before_a_trimmed_event_is_reset(broker: Broker) -> None:
    await broker.publish(note())
    start = (await opened(broker)).cursor
    for _ in range(HISTORY):
        await broker.publish(paid())
    assert (await opened(broker, start)).verdict == "ok"
    await broker.publish(paid())
    assert (await opened(broker, start)).verdict == "history_trimmed"
    assert (await opened(broker, Cursor(start.epoch, start.seq + 1))).verdict == "ok"


# Redis: a version that stored both in one log runs at the same time, or ran before


def store_as_0_1_0(client: redis.Redis, keys: Keys, subject: str, *, is_message: bool = False) -> None:
    """Store an event for ann as the script of 0.1.0 did: every event in one log, and a meta that knows of no other."""
    seq = int(client.incr(keys.seq(0)))
    name = "message" if is_message else "order.paid"
    entry = {"f": f'event: {name}\ndata: {{"id":"i{seq}","subject":"{subject}"}}\n\n'}
    client.xadd(keys.log(0, "user:ann"), entry | ({"m": f"i{seq}"} if is_message else {}), id=f"{seq}-0")
    client.hset(keys.meta(0, "user:ann"), "last", seq)
    client.hsetnx(keys.meta(0, "user:ann"), "low", 0)


@pytest.fixture
def stored(broker: Broker, redis_server: RedisServer) -> tuple[redis.Redis, Keys]:
    assert isinstance(broker, RedisBroker)
    return redis_server.client(), broker._keys


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
async def test_a_log_with_messages_and_events_is_read(broker: Broker, stored: tuple[redis.Redis, Keys]) -> None:
    await broker.publish(note("user:bob"))
    start = (await opened(broker)).cursor
    store_as_0_1_0(*stored, "m1", is_message=True)
    store_as_0_1_0(*stored, "e1")
    store_as_0_1_0(*stored, "m2", is_message=True)
    assert replayed(await opened(broker, start)) == ["m1", "e1", "m2"]
    assert await listed(broker) == [("m2", False), ("m1", False)]
    await broker.publish(paid(subject="e2"))
    await broker.publish(note(subject="m3"))
    assert replayed(await opened(broker, start)) == ["m1", "e1", "m2", "e2", "m3"]


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
async def test_publishers_of_both_versions_at_once_lose_nothing(
    broker: Broker, stored: tuple[redis.Redis, Keys]
) -> None:
    client, keys = stored
    epoch = (await opened(broker)).cursor.epoch
    words = []
    for number in range(4):
        await broker.publish(paid(subject=f"new{number}"))
        store_as_0_1_0(client, keys, f"old{number}")
        words += [f"new{number}", f"old{number}"]
        for seen in range(len(words) + 1):
            assert replayed(await opened(broker, Cursor(epoch, seen))) == words[seen:]
    client.delete(keys.log(0, "user:ann"))
    for _ in range(2):
        assert (await opened(broker, Cursor(epoch, 7))).verdict == "history_lost"
        await broker.publish(paid(subject="later"))
    assert replayed(await opened(broker, Cursor(epoch, 8))) == ["later", "later"]


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
@pytest.mark.parametrize("lost", ["events", "log"])
async def test_a_vanished_log_is_a_reset_whatever_the_other_has(
    broker: Broker, stored: tuple[redis.Redis, Keys], lost: str
) -> None:
    client, keys = stored
    start = (await opened(broker)).cursor
    await broker.publish(paid() if lost == "events" else note())
    await broker.publish(note() if lost == "events" else paid())
    client.delete(getattr(keys, lost)(0, "user:ann"))
    assert (await opened(broker, start)).verdict == "history_lost"
    assert (await opened(broker, Cursor(start.epoch, 1))).verdict == "ok"
    await broker.publish(paid() if lost == "events" else note())
    assert (await opened(broker, start)).verdict == "history_trimmed"


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
async def test_messages_that_expired_before_0_1_0_stored_the_next_are_not_missed_silently(
    broker: Broker, stored: tuple[redis.Redis, Keys]
) -> None:
    client, keys = stored
    await broker.publish(note("user:bob"))
    start = (await opened(broker)).cursor
    await broker.publish(note())
    last = await broker.publish(paid())
    client.delete(keys.log(0, "user:ann"))  # its ttl is over; the events' is not
    store_as_0_1_0(client, keys, "newest", is_message=True)
    client.hset(keys.meta(0, "user:ann"), "low", last.seq)  # as its script does for a log that is empty
    assert not (await opened(broker, start)).recovered
    assert replayed(await opened(broker, Cursor(last.epoch, last.seq))) == ["newest"]
