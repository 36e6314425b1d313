"""When users were last seen: noted by the process, written to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest

from notifier import last_seen, portions
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import History
from notifier.last_seen import LastSeen
from tests.faults.clients import until


class Away(MemoryBroker):
    away = True

    async def seen(self, users: Mapping[str, int]) -> Sequence[str]:
        return list(users) if self.away else await super().seen(users)


async def test_times_wait_for_a_broker_that_is_away_and_are_known_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "WRITE_EVERY_S", 0.01)
    broker = Away(history=History(10, 10, 60, 10, 60), max_replay=10)
    seen = LastSeen(broker)
    writing = asyncio.create_task(seen.run_forever())
    try:
        seen.note("ann")
        known = await seen.of(["ann", "bob"])
        assert known.keys() == {"ann"}
        await seen.write()
        seen.note("bob")
        assert (await seen.of(["ann"])) == known
        assert await broker.last_seen(["ann"]) == {}
        broker.away = False
        await until(lambda: not seen._shards[0].unwritten, what="the write")
        assert (await broker.last_seen(["ann", "bob"])).keys() == {"ann", "bob"}
    finally:
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing


async def test_the_number_of_waiting_times_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_seen, "MAX_UNWRITTEN", 2)
    seen = LastSeen(Away(history=History(10, 10, 60, 10, 60), max_replay=10))
    for user in ("ann", "bob", "eve", "ann"):
        seen.note(user)
    assert (await seen.of(["ann", "bob", "eve"])).keys() == {"ann", "bob"}
    await seen.write()
    seen.note("eve")
    assert (await seen.of(["ann", "bob", "eve"])).keys() == {"ann", "bob"}


async def test_a_later_time_of_another_process_counts() -> None:
    broker = MemoryBroker(history=History(10, 10, 60, 10, 60), max_replay=10)
    seen = LastSeen(broker)
    seen.note("ann")
    assert (await seen.of(["ann"]))["ann"] > 1000
    await broker.seen({"ann": 10**13})
    assert await seen.of(["ann"]) == {"ann": 10**13}
