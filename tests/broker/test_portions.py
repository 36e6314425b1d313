"""The contract of brokers: a replay in portions, each read from where the one before ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from notifier.broker import Broker
from notifier.broker.values import Opening
from notifier.event import Cursor
from tests.broker.support import ANN, HISTORY, new_task, note, opened, subjects

BYTES = 700
"""Some of the messages of a test, but not all."""


async def portions(broker: Broker, cursor: Cursor, portion_bytes: int = BYTES) -> AsyncIterator[Opening]:
    """The openings of one stream, until it has everything."""
    opening = await broker.open("ann", ANN, cursor, portion_bytes=portion_bytes)
    yield opening
    while opening.more:
        opening = await broker.open("ann", ANN, opening.cursor, portion_bytes=portion_bytes, continued=True)
        yield opening


async def missed(broker: Broker) -> Cursor:
    """Publish to all channels of ann, some events to several of them. Returns the cursor before."""
    start = (await opened(broker)).cursor
    for number, to in enumerate(["all", "user:ann", ["user:ann", "all", "group:staff"], "group:staff"] * 2):
        await broker.publish(note(to, subject=str(number)))
    return start


@pytest.mark.parametrize("portion_bytes", [1, 250, 500, BYTES, 5000])
async def test_the_portions_are_the_replay(broker: Broker, portion_bytes: int) -> None:
    start = await missed(broker)
    whole = await opened(broker, start)
    parts = [opening async for opening in portions(broker, start, portion_bytes)]
    assert [event for opening in parts for event in opening.replay] == list(whole.replay)
    assert all(opening.verdict == "ok" for opening in parts)
    assert (whole.missed, whole.more, parts[0].missed) == (8, False, 8)
    for opening in parts:
        sizes = [len(frame) for _, frame in opening.replay]
        assert len(sizes) == 1 or sum(sizes) <= portion_bytes
        assert opening.cursor.seq == opening.replay[-1][0]
    assert parts[-1].cursor == whole.cursor
    assert len(parts) == {1: 8, 250: 8, 5000: 1}.get(portion_bytes, len(parts))


async def test_events_published_meanwhile_are_in_a_later_portion_in_order(broker: Broker) -> None:
    start = await missed(broker)
    received: list[str] = []
    async for opening in portions(broker, start):
        received += subjects(opening)
        if len(received) < 8:
            await broker.publish(note("user:bob"))
            await broker.publish(
                note("group:staff" if opening.cursor.seq > 4 else "all", subject=f"new{len(received)}")
            )
    old, new = [word for word in received if word.isdigit()], [word for word in received if not word.isdigit()]
    assert old == [str(number) for number in range(8)]
    assert received == old + new
    assert new


async def test_a_portion_whose_successor_was_trimmed_is_followed_by_a_reset(broker: Broker) -> None:
    start = await missed(broker)
    opening = await broker.open("ann", ANN, start, portion_bytes=1)
    for _ in range(HISTORY):
        await broker.publish(note())
    opening = await broker.open("ann", ANN, opening.cursor, portion_bytes=1, continued=True)
    assert (opening.verdict, list(opening.replay), opening.more) == ("history_trimmed", [], False)
    assert opening.unread == (await opened(broker)).unread == HISTORY + 6
    assert opening.cursor == (await opened(broker)).cursor


async def test_the_first_and_the_last_portion_have_the_present_state(broker: Broker) -> None:
    start = await missed(broker)
    task = await broker.create_task(new_task())
    parts = [opening async for opening in portions(broker, start, 1)]
    state = (8, [task.id])
    assert [(opening.unread, [task.id for task in opening.tasks]) for opening in parts] == [
        state,
        *[(0, [])] * 6,
        state,
    ]


async def test_only_the_first_portion_judges_how_many_events_are_missed(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for to in ("user:ann", "group:staff"):
        for _ in range(HISTORY):
            await broker.publish(note(to))
    opening = await broker.open("ann", ANN, start, portion_bytes=1)
    for _ in range(HISTORY):
        await broker.publish(note("all"))
    assert (await opened(broker, opening.cursor)).verdict == "too_many_missed"
    rest = [opening async for opening in portions_after(broker, opening)]
    assert [opening.verdict for opening in rest] == ["ok"] * (3 * HISTORY - 1)


async def portions_after(broker: Broker, opening: Opening) -> AsyncIterator[Opening]:
    while opening.more:
        opening = await broker.open("ann", ANN, opening.cursor, portion_bytes=1, continued=True)
        yield opening


async def test_what_expires_between_two_portions_is_left_out(broker: Broker) -> None:
    for brief_s in (0.08, 1, 10):  # on a busy machine, the first may end before they are read
        start = (await opened(broker)).cursor
        await broker.publish(note(subject="first"))
        expires_at = datetime.now(UTC) + timedelta(seconds=brief_s)
        for brief in [note(subject="brief", expires_at=expires_at) for _ in range(3)]:  # later they are refused
            await broker.publish(brief)
        opening = await broker.open("ann", ANN, start, portion_bytes=1)
        if opening.missed == 4:
            break
    assert (opening.missed, opening.more) == (4, True)
    while datetime.now(UTC) <= expires_at + timedelta(milliseconds=1):
        await asyncio.sleep(0.01)
    last = await broker.open("ann", ANN, opening.cursor, portion_bytes=1, continued=True)
    assert (last.verdict, subjects(last), last.more) == ("ok", [], False)
    assert last.cursor.seq == opening.cursor.seq + 3


async def test_a_portion_of_another_order_is_a_reset(broker: Broker) -> None:
    await missed(broker)
    opening = await broker.open("ann", ANN, Cursor("zzzzzzzzzzzz", 1), portion_bytes=1, continued=True)
    assert (opening.verdict, opening.more, opening.unread) == ("epoch_changed", False, 8)
