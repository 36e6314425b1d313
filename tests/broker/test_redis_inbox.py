"""Redis: the inbox of several processes, which keep what they have read of the logs, and read in portions."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from notifier.broker.redis import inbox, message_rows
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.redis.scripts import Call
from notifier.broker.values import History, Marked
from tests.broker.support import ANN, Recorder, listed, note, opened
from tests.support import RedisServer

SIZE = 300
KEYS = Keys(f"notifier:i{uuid.uuid4().hex[:8]}:")


async def started(server: RedisServer) -> RedisBroker:
    broker = RedisBroker(One(Address.from_url(server.url)), KEYS, history=History(SIZE, SIZE, 3600), max_replay=100)
    await broker.start(Recorder())
    return broker


@pytest.fixture
async def broker(redis_server: RedisServer, raw: redis.Redis) -> AsyncIterator[RedisBroker]:
    broker = await started(redis_server)
    yield broker
    await broker.close()


@pytest.fixture
async def other(redis_server: RedisServer, raw: redis.Redis) -> AsyncIterator[RedisBroker]:
    """The broker of another process."""
    broker = await started(redis_server)
    yield broker
    await broker.close()


async def fill(broker: RedisBroker, to: str, count: int, **fields: str) -> None:
    await asyncio.gather(*(broker.publish(note(to, **fields)) for _ in range(count)))


@pytest.mark.parametrize(("entries", "bytes_"), [(1, 1 << 20), (100, 1 << 20), (1 << 20, 1), (1 << 20, 50_000)])
async def test_a_long_history_is_read_in_portions(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, entries: int, bytes_: int
) -> None:
    monkeypatch.setattr(inbox, "PORTION_ENTRIES", entries)
    monkeypatch.setattr(inbox, "PORTION_BYTES", bytes_)
    for to, count in (("user:ann", 130), ("group:staff", 64), ("all", 65)):
        await fill(broker, to, count, text="x" * 500)
    assert await broker.unread("ann", ANN) == 130 + 64 + 65
    assert len(await listed(broker, limit=100)) == 100


async def test_two_processes_agree_while_the_history_is_trimmed(broker: RedisBroker, other: RedisBroker) -> None:
    """Each reads only what came since its last look."""
    for count in (SIZE - 1, 1, 5, 2 * SIZE, 0, 70):
        await fill(other, "all", count, subject=str(count))
        last = note(subject=f"after {count}")
        await broker.publish(last)
        for process in (broker, other):
            assert (await listed(process))[0] == (f"after {count}", False)
        await broker.mark("ann", ANN, "delete", [last.message_id])
        assert await broker.unread("ann", ANN) == await other.unread("ann", ANN)
    assert await broker.unread("ann", ANN) == SIZE


async def test_a_log_that_began_anew_is_read_anew(broker: RedisBroker, raw: redis.Redis) -> None:
    await fill(broker, "user:ann", 5)
    assert await broker.unread("ann", ANN) == 5
    await broker.forget("ann")
    assert await broker.unread("ann", ANN) == 0
    await fill(broker, "user:ann", 2, subject="new life")
    assert await listed(broker) == [("new life", False)] * 2
    raw.delete(KEYS.log(0, "user:ann"))
    await fill(broker, "user:ann", 9, subject="again")
    assert await listed(broker) == [("again", False)] * 9


async def test_a_new_epoch_is_noticed(broker: RedisBroker, raw: redis.Redis) -> None:
    await fill(broker, "user:ann", 5)
    assert await broker.unread("ann", ANN) == 5
    raw.delete(*raw.keys(f"{KEYS.prefix}*"))
    await fill(broker, "user:ann", 3, subject="restored")
    page = await broker.inbox("ann", ANN, limit=9, before=None, unread_only=False)
    assert (page.unread, [message["subject"] for message in page.messages]) == (3, ["restored"] * 3)
    assert page.cursor.epoch == (await broker.publish(note())).epoch


async def test_concurrent_marks_of_several_processes_count_exactly(broker: RedisBroker, other: RedisBroker) -> None:
    notes = [note("all") for _ in range(40)]
    for event in notes:
        await broker.publish(event)
    marks = [
        (broker, other)[n % 2].mark("ann", ANN, "read" if n % 3 else "delete", [event.message_id])
        for n, event in enumerate(notes[:20])
    ]
    marked = await asyncio.gather(*marks, *(broker.publish(note()) for _ in range(5)))
    assert await broker.unread("ann", ANN) == await other.unread("ann", ANN) == 25
    # The last mark in Redis' order saw all marks; messages may have come after it.
    counts = [answer.unread for answer in marked[:20] if isinstance(answer, Marked)]
    assert 20 <= min(counts) <= 25


async def test_a_mark_during_another_is_counted_where_the_oldest_marks_are_removed(
    broker: RedisBroker, other: RedisBroker, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of marks is the same before and after."""
    monkeypatch.setattr(inbox, "MAX_MARKS", 5)
    raw.zadd(KEYS.read(0, "ann"), {f"left-the-history-{number}": number / 10 for number in range(6)})
    await fill(broker, "user:ann", 4)
    page = await broker.inbox("ann", ANN, limit=4, before=None, unread_only=False)
    first, second, third, _ = [message["id"] for message in page.messages]
    assert (await broker.mark("ann", ANN, "read", [third])).unread == 3
    run, competitors = broker._shards.run, [other]

    async def marking_before(call: Call) -> Any:
        if call.script.name == "mark" and competitors:
            await competitors.pop().mark("ann", ANN, "read", [second])
        return await run(call)

    monkeypatch.setattr(broker._shards, "run", marking_before)
    assert (await broker.mark("ann", ANN, "read", [first])).unread == 1
    assert await broker.unread("ann", ANN) == 1


async def test_a_message_that_comes_during_a_mark_is_counted_and_stays_unread(
    broker: RedisBroker, other: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(broker, "user:ann", 3)
    run = broker._shards.run

    async def publishing_before(call: Call) -> Any:
        if call.script.name == "mark":
            await other.publish(note("all", subject="meanwhile"))
        return await run(call)

    monkeypatch.setattr(broker._shards, "run", publishing_before)
    assert (await broker.mark("ann", ANN, "all", [])).unread == 1
    assert await listed(broker, unread_only=True) == [("meanwhile", False)]


async def test_a_message_that_comes_during_an_opening_is_not_counted_by_it(
    broker: RedisBroker, other: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its announcement follows the opening."""
    await fill(broker, "user:ann", 20)
    count = broker._inbox.unread_at

    async def counted_later(*args: Any) -> int:
        await other.publish(note(subject="meanwhile"))
        return await count(*args)

    monkeypatch.setattr(broker._inbox, "unread_at", counted_later)
    assert (await opened(broker)).unread == 20
    assert await broker.unread("ann", ANN) == 21


async def test_what_is_kept_of_the_logs_is_bounded(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_rows, "MAX_ROWS", 50)
    for _ in range(2):
        for group in range(9):
            await fill(broker, f"group:{group}", 10)
            channels = ("user:ann", f"group:{group}")
            await broker.unread("ann", channels)
    rows = broker._inbox._rows
    assert sum(len(log.rows) for log in rows._logs.values()) <= 50
    assert await broker.unread("ann", [f"group:{group}" for group in range(9)]) == 180
