"""What many streams leave behind is written in portions: the loop has its turn between them, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from notifier import connection_records, last_seen
from notifier.broker.afterwards import RecordTexts
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import History
from notifier.connection_records import ConnectionRecords
from notifier.last_seen import LastSeen
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
        note = self.afterwards.note

        async def noted(users: Mapping[str, RecordTexts], *, ttl_s: int) -> Sequence[str]:
            self._noted(users)
            await note({user: texts for user, texts in users.items() if user not in self.away}, ttl_s=ttl_s)
            return [user for user in users if user in self.away]

        self.afterwards.note = noted  # type: ignore[method-assign]

    @property
    def ready(self) -> bool:
        return self.is_ready

    def _noted(self, users: Mapping[str, object]) -> None:
        self.in_turn[self.turns.count] = self.in_turn.get(self.turns.count, 0) + len(users)

    async def seen(self, users: Mapping[str, int]) -> Sequence[str]:
        self._noted(users)
        await super().seen({user: at_ms for user, at_ms in users.items() if user not in self.away})
        return [user for user in users if user in self.away]


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Noting]:
    monkeypatch.setattr(last_seen, "PORTION", 200)
    broker = Noting()
    yield broker
    broker.turns.stop()


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
    assert max(broker.in_turn.values()) <= connection_records.PORTION
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


async def test_records_while_the_broker_is_away(broker: Noting) -> None:
    """Only one portion is tried: nothing else is encoded for nothing."""
    records = await records_of_open_streams(broker)
    broker.away, broker.is_ready = set(USERS), False
    await records.write()
    assert sum(broker.in_turn.values()) == connection_records.PORTION
    broker.away, broker.is_ready = set(), True
    await records.write()
    for user in USERS:
        assert len(await broker.afterwards.records(user)) == 1


async def test_a_user_who_is_forgotten_between_two_portions(broker: Noting) -> None:
    records = await records_of_open_streams(broker)
    early, late = USERS[0], USERS[-1]
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
