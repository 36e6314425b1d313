"""When a user who is forgotten was last seen is not written again; a user who is disconnected keeps the time."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from notifier.broker.afterwards import RecordTexts
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.values import History
from notifier.hub import Hub
from notifier.last_seen import LastSeen
from tests.faults.clients import until
from tests.hubs import received, running_hub, stream_on
from tests.support import RedisServer
from tests.test_stream import Wall

HISTORY = History(10, 10, 60, 10, 60)
TOPIC = "user:ann"


@contextlib.asynccontextmanager
async def process(server: RedisServer, keys: Keys) -> AsyncIterator[tuple[RedisBroker, Hub]]:
    broker = RedisBroker(One(Address.from_url(server.url)), keys, history=HISTORY, max_replay=10)
    async with running_hub(broker) as hub:
        await broker.start(hub)
        try:
            yield broker, hub
        finally:
            await broker.close()


async def open_stream(hub: Hub, topics: tuple[str, ...]) -> None:
    wall = Wall()
    stream = stream_on(wall, "ann", topics)
    stream.channels = (TOPIC,)
    await hub.attach(stream)
    await until(lambda: "hello" in received(wall), 10, "the stream")


@pytest.mark.parametrize("forgotten", [True, False])
async def test_another_process_with_a_stream_of_the_user(redis_server: RedisServer, forgotten: bool) -> None:
    keys = Keys(f"notifier:f{uuid.uuid4().hex[:8]}:")
    async with process(redis_server, keys) as (called, _), process(redis_server, keys) as (broker, hub):
        await open_stream(hub, broker.topics("ann", [TOPIC]))
        await hub.seen.write()
        opened_at = (await called.last_seen(["ann"]))["ann"]
        await until(lambda: time.time() * 1000 > opened_at + 1, 10, "the next millisecond")
        if forgotten:
            await called.forget("ann")
        await called.disconnect("ann", forgotten=forgotten)
        await until(lambda: not len(hub), 10, "the end of the stream")
        await hub.seen.write()
        times = await called.last_seen(["ann"])
        assert times == {} if forgotten else times["ann"] > opened_at
        assert await hub.seen.of(["ann"]) == times


@pytest.mark.parametrize("forgotten", [True, False])
async def test_a_process_that_reads_of_it_as_it_reopens_the_stream(redis_server: RedisServer, forgotten: bool) -> None:
    keys = Keys(f"notifier:f{uuid.uuid4().hex[:8]}:")
    async with process(redis_server, keys) as (called, _), process(redis_server, keys) as (broker, hub):
        topics = broker.topics("ann", [TOPIC])
        await open_stream(hub, topics)
        broker.unsubscribe(topics)
        await called.disconnect("ann", forgotten=forgotten)
        hub.resync(None)
        await until(lambda: not len(hub), 10, "the end of the stream")
        await hub.seen.write()
        assert (await called.last_seen(["ann"])).keys() == (set() if forgotten else {"ann"})


class Slow(MemoryBroker):
    """Stores times once `gate` is set; those of `failing` users not."""

    def __init__(self) -> None:
        super().__init__(history=HISTORY, max_replay=10)
        self.writing, self.gate = asyncio.Event(), asyncio.Event()
        self.failing: set[str] = set()

    async def seen(self, users: Mapping[str, int]) -> Sequence[str]:
        self.writing.set()
        await self.gate.wait()
        await super().seen({user: at_ms for user, at_ms in users.items() if user not in self.failing})
        return [user for user in users if user in self.failing]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_write_on_its_way_while_the_user_is_forgotten(fails: bool) -> None:
    broker = Slow()
    broker.failing = {"ann"} if fails else set()
    seen = LastSeen(broker)
    for user in ("ann", "bob"):
        seen.note(user)
    writing = asyncio.create_task(seen.write())
    await broker.writing.wait()
    await broker.forget("ann")
    seen.forget("ann")
    assert "ann" not in await seen.of(["ann"])
    broker.gate.set()
    await writing
    assert "ann" not in await seen.of(["ann"])
    broker.failing.clear()
    await seen.write()
    assert (await broker.last_seen(["ann", "bob"])).keys() == {"bob"}
    seen.note("ann")
    await seen.write()
    assert (await broker.last_seen(["ann"])).keys() == {"ann"}


@pytest.mark.parametrize("fails", [False, True])
async def test_records_on_their_way_while_the_user_is_forgotten_and_comes_back(fails: bool) -> None:
    broker = MemoryBroker(history=HISTORY, max_replay=10)
    note, calls, writing, gate = broker.afterwards.note, list[int](), asyncio.Event(), asyncio.Event()

    async def first_slow(users: Mapping[str, RecordTexts], *, ttl_s: int, **_: object) -> Sequence[str]:
        calls.append(1)
        if len(calls) == 1:
            writing.set()
            await gate.wait()
            if fails:
                return list(users)
        return await note(users, ttl_s=ttl_s)

    broker.afterwards.note = first_slow  # type: ignore[method-assign]
    async with running_hub(broker) as hub:
        await broker.start(hub)
        await open_stream(hub, (TOPIC,))
        written = asyncio.create_task(hub.records.write())
        await writing.wait()
        await broker.forget("ann")
        await broker.disconnect("ann", forgotten=True)
        hub.forget("ann")
        await open_stream(hub, (TOPIC,))
        gate.set()
        await written
        await hub.records.write()
        assert len(await broker.afterwards.records("ann")) == 1, "that of the stream that came back"
