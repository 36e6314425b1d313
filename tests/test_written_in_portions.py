"""What many streams leave behind is written in portions: the loop has its turn between them, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

import pytest

from notifier import last_seen, unwritten
from notifier.broker.afterwards import RecordTexts
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import History
from notifier.connection_records import ConnectionRecords
from notifier.last_seen import LastSeen
from tests.faults.clients import until
from tests.hubs import EPOCH, stream_on
from tests.test_stream import Wall

USERS = [f"u{number:04}" for number in range(900)]


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0
        self._count()

    def _count(self) -> None:
        self.count += 1
        self._handle = asyncio.get_running_loop().call_soon(self._count)

    def stop(self) -> None:
        self._handle.cancel()


class Noting(MemoryBroker):
    """Notes of how many users it stored something in each turn of the loop; stores nothing while it is away."""

    def __init__(self) -> None:
        super().__init__(history=History(10, 10, 60, 10, 60), max_replay=10)
        self.turns = Turns()
        self.in_turn: dict[int, int] = {}
        self.away: set[str] = set()
        self.is_ready = True
        self.gate = asyncio.Event()
        """Writes wait for it."""
        self.gate.set()
        note = self.afterwards.note

        async def noted(users: Mapping[str, RecordTexts], *, ttl_s: int, **_: object) -> Sequence[str]:
            await self._noted(users)
            await note({user: texts for user, texts in users.items() if user not in self.away}, ttl_s=ttl_s)
            return [user for user in users if user in self.away]

        self.afterwards.note = noted  # type: ignore[method-assign]

    @property
    def ready(self) -> bool:
        return self.is_ready

    async def _noted(self, users: Mapping[str, object]) -> None:
        self.in_turn[self.turns.count] = self.in_turn.get(self.turns.count, 0) + len(users)
        await self.gate.wait()

    async def seen(self, users: Mapping[str, int]) -> Sequence[str]:
        await self._noted(users)
        await super().seen({user: at_ms for user, at_ms in users.items() if user not in self.away})
        return [user for user in users if user in self.away]


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Noting]:
    monkeypatch.setattr(last_seen, "PORTION", 200)
    broker = Noting()
    yield broker
    broker.turns.stop()


async def cancelled_while_writing(broker: Noting, write: Coroutine[None, None, None]) -> None:
    broker.in_turn.clear()
    broker.gate.clear()
    writing = asyncio.create_task(write)
    while not broker.in_turn:
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    broker.gate.set()


class Sharded(Noting):
    """Has two shards of equal size. The first one hangs until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()
        self.written: set[str] = set()

    @property
    def shards(self) -> int:
        return 2

    def shard_of(self, user: str) -> int:
        return int(user[-1]) % 2

    async def _noted(self, users: Mapping[str, object]) -> None:
        if any(self.shard_of(user) == 0 for user in users):
            await self.gate.wait()
        self.written |= users.keys()


async def records_of_open_streams(broker: Noting) -> ConnectionRecords:
    records = ConnectionRecords(broker)
    for user in USERS:
        stream = stream_on(Wall(), user)
        stream.epoch, stream.seq, stream.opening = EPOCH, 7, 0
        records.proceed(stream, await broker.open(user, ["all"], None))
    return records


async def test_records_of_many_connections(broker: Noting) -> None:
    records = await records_of_open_streams(broker)
    await records.write()
    assert max(broker.in_turn.values()) <= unwritten.PORTION
    assert sum(broker.in_turn.values()) == len(USERS)
    for user in USERS:
        assert len(await broker.afterwards.records(user)) == 1


async def test_records_of_which_some_cannot_be_stored(broker: Noting) -> None:
    records = await records_of_open_streams(broker)
    broker.away = {USERS[0], USERS[500], USERS[-1]}
    await records.write()
    assert len(broker.in_turn) == 5, "what could not be stored is not tried on and on"
    broker.away.clear()
    broker.in_turn.clear()
    await records.write()
    assert sum(broker.in_turn.values()) == 3
    for user in USERS:
        assert len(await broker.afterwards.records(user)) == 1


@pytest.mark.parametrize("is_ready", [False, True])
async def test_records_while_the_broker_stores_nothing(broker: Noting, is_ready: bool) -> None:
    """Only one portion is tried: nothing else is encoded for nothing."""
    records = await records_of_open_streams(broker)
    broker.away, broker.is_ready = set(USERS), is_ready
    await records.write()
    assert sum(broker.in_turn.values()) == unwritten.PORTION
    broker.away, broker.is_ready = set(), True
    await records.write()
    for user in USERS:
        assert len(await broker.afterwards.records(user)) == 1


async def test_records_that_a_part_of_the_broker_refuses_delay_no_others(broker: Noting) -> None:
    records = await records_of_open_streams(broker)
    broker.away = set(USERS)
    await records.write()
    stream = stream_on(Wall(), "new")
    records.proceed(stream, await broker.open("new", ["all"], None))
    await records.write()
    assert len(await broker.afterwards.records("new")) == 1


async def test_a_cancelled_write_loses_no_record_and_no_removal(broker: Noting) -> None:
    gone = "gone"
    await broker.afterwards.note({gone: {"1": "{}"}}, ttl_s=60)
    records = await records_of_open_streams(broker)
    await cancelled_while_writing(broker, records.write())
    records.forget(gone)
    await cancelled_while_writing(broker, records.write())
    await records.write()
    for user in USERS:
        assert len(await broker.afterwards.records(user)) == 1
    assert await broker.afterwards.records(gone) == []


async def test_a_removal_that_fails(broker: Noting) -> None:
    """It is tried again, and the records of later connections are not stored before it."""
    user = USERS[0]
    await broker.afterwards.note({user: {"1": "{}"}}, ttl_s=60)
    records = ConnectionRecords(broker)
    records.forget(user)
    comes_back = stream_on(Wall(), user)
    records.proceed(comes_back, await broker.open(user, ["all"], None))
    broker.away = {user}
    broker.in_turn.clear()
    await records.write()
    assert sum(broker.in_turn.values()) == 1, "the record was tried too"
    assert await broker.afterwards.records(user) == ["{}"]
    broker.away.clear()
    await records.write()
    assert comes_back.record is not None
    (text,) = await broker.afterwards.records(user)
    assert comes_back.record.id in text


async def test_a_user_who_is_forgotten_between_two_portions(broker: Noting) -> None:
    records = await records_of_open_streams(broker)
    early, late = USERS[-1], USERS[0]
    writing = asyncio.create_task(records.write())
    while not broker.in_turn:
        await asyncio.sleep(0)
    for user in (early, late):
        await broker.afterwards.note({user: {}}, ttl_s=0)
        records.forget(user)
    comes_back = stream_on(Wall(), early)
    records.proceed(comes_back, await broker.open(early, ["all"], None))
    await writing
    await records.write()
    assert comes_back.record is not None
    (text,) = await broker.afterwards.records(early)
    assert comes_back.record.id in text
    assert await broker.afterwards.records(late) == []


async def test_when_many_users_were_last_seen(broker: Noting) -> None:
    seen = LastSeen(broker)
    for user in USERS:
        seen.note(user)
    broker.away = {USERS[3]}
    await seen.write()
    assert max(broker.in_turn.values()) <= last_seen.PORTION
    assert len(broker.in_turn) == 5, "what could not be stored is not tried on and on"
    broker.away.clear()
    await seen.write()
    assert (await broker.last_seen(USERS)).keys() == set(USERS)


@pytest.mark.parametrize("is_ready", [False, True])
async def test_times_while_the_broker_stores_nothing(broker: Noting, is_ready: bool) -> None:
    seen = LastSeen(broker)
    for user in USERS:
        seen.note(user)
    broker.away, broker.is_ready = set(USERS), is_ready
    await seen.write()
    assert sum(broker.in_turn.values()) == last_seen.PORTION
    seen.note("new")
    await seen.write()
    assert "new" in await broker.last_seen(["new"]), "delayed by those that are refused"
    broker.away, broker.is_ready = set(), True
    await seen.write()
    assert (await broker.last_seen(USERS)).keys() == set(USERS)


async def test_a_cancelled_write_loses_no_time_and_no_removal(broker: Noting) -> None:
    await broker.seen({"gone": 1})
    seen = LastSeen(broker)
    for user in USERS:
        seen.note(user)
    seen.forget("gone")
    await cancelled_while_writing(broker, seen.write())
    await seen.write()
    assert (await broker.last_seen([*USERS, "gone"])).keys() == set(USERS)


async def test_a_time_that_is_forgotten_between_two_portions(broker: Noting) -> None:
    seen = LastSeen(broker)
    for user in USERS:
        seen.note(user)
    early, late = USERS[-1], USERS[0]
    writing = asyncio.create_task(seen.write())
    while not broker.in_turn:
        await asyncio.sleep(0)
    assert early in await broker.last_seen([early])
    seen.forget(early)
    seen.forget(late)
    await writing
    await seen.write()
    assert (await broker.last_seen(USERS)).keys() == set(USERS) - {early, late}


async def test_a_removal_is_put_back_when_no_time_is(broker: Noting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_seen, "MAX_UNWRITTEN", 3)
    await broker.seen({"gone": 1})
    seen = LastSeen(broker)
    seen.forget("gone")
    broker.away = {"gone"}
    broker.in_turn.clear()
    broker.gate.clear()
    writing = asyncio.create_task(seen.write())
    while not broker.in_turn:
        await asyncio.sleep(0)
    for user in USERS[:3]:
        seen.note(user)
    broker.gate.set()
    await writing
    broker.away.clear()
    await seen.write()
    assert (await broker.last_seen(["gone", *USERS])).keys() == set(USERS[:3])


@pytest.fixture
async def sharded() -> AsyncIterator[Sharded]:
    broker = Sharded()
    yield broker
    broker.turns.stop()


async def only_the_first_shard_waits(broker: Sharded, run: Coroutine[None, None, None]) -> None:
    writing = asyncio.create_task(run)
    try:
        await until(lambda: broker.written, what="the first portion")
        await until(lambda: broker.written == set(USERS[1::2]), what="those of the shard that does not hang")
        broker.gate.set()
        await until(lambda: broker.written == set(USERS), what="those of the shard that hung")
    finally:
        writing.cancel()
        await asyncio.wait([writing])


async def test_a_shard_that_hangs_delays_the_records_of_no_other(sharded: Sharded) -> None:
    records = await records_of_open_streams(sharded)
    await only_the_first_shard_waits(sharded, records.run_forever())


async def test_a_shard_that_hangs_delays_the_times_of_no_other(sharded: Sharded) -> None:
    seen = LastSeen(sharded)
    for user in USERS:
        seen.note(user)
    await only_the_first_shard_waits(sharded, seen.run_forever())


async def test_a_shard_that_hangs_leaves_room_for_the_times_and_records_of_others(
    sharded: Sharded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "MAX_UNWRITTEN", 100)
    monkeypatch.setattr(unwritten, "MAX_UNWRITTEN", 100)
    seen, records = LastSeen(sharded), ConnectionRecords(sharded)
    for user in (*USERS[::2], *USERS[1:101:2]):
        seen.note(user)
        records.proceed(stream_on(Wall(), user), await sharded.open(user, ["all"], None))
    for run in (seen.run_forever(), records.run_forever()):
        sharded.written.clear()
        writing = asyncio.create_task(run)
        await until(lambda: sharded.written == set(USERS[1:101:2]), what="those of the shard that does not hang")
        writing.cancel()
        await asyncio.wait([writing])
