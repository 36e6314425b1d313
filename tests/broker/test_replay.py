"""The contract of brokers: what a stream starts from, replay and reset."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifier.broker import Broker
from notifier.event import Cursor
from tests.broker.support import ANN, HISTORY, note, opened, subjects


async def test_without_a_cursor_nothing_is_replayed(broker: Broker) -> None:
    await broker.publish(note())
    opening = await opened(broker)
    assert (opening.verdict, opening.recovered, list(opening.replay)) == ("new", True, [])
    assert opening.cursor.seq == 1


async def test_replay_is_in_order_over_all_channels_and_each_event_once(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for number, to in enumerate(["all", "user:ann", "group:staff", ["user:ann", "all", "group:staff"], "user:bob"]):
        await broker.publish(note(to, subject=str(number)))
    opening = await opened(broker, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["0", "1", "2", "3"])
    assert [seq for seq, _ in opening.replay] == sorted(seq for seq, _ in opening.replay)


async def test_replay_goes_on_from_the_cursor(broker: Broker) -> None:
    receipts = [await broker.publish(note(subject=str(i))) for i in range(4)]
    opening = await opened(broker, Cursor(receipts[1].epoch, receipts[1].seq))
    assert subjects(opening) == ["2", "3"]


async def test_a_cursor_before_the_stored_history_is_reset(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for _ in range(HISTORY):
        last = await broker.publish(note())
    assert (await opened(broker, start)).verdict == "ok"
    await broker.publish(note())
    opening = await opened(broker, start)
    assert (opening.verdict, opening.recovered, list(opening.replay)) == ("history_trimmed", False, [])
    assert (await opened(broker, Cursor(last.epoch, last.seq))).verdict == "ok"


async def test_trimming_one_channel_keeps_a_cursor_after_it_valid(broker: Broker) -> None:
    for _ in range(HISTORY + 3):
        await broker.publish(note())
    at = (await opened(broker)).cursor
    await broker.publish(note("all", subject="late"))
    opening = await opened(broker, at)
    assert (opening.verdict, subjects(opening)) == ("ok", ["late"])


@pytest.mark.parametrize(
    ("cursor", "verdict"),
    [
        ("garbage", "cursor_unknown"),
        (Cursor("zzzzzzzzzzzz", 1), "epoch_changed"),
    ],
)
async def test_a_cursor_that_is_unknown_here_is_reset(broker: Broker, cursor: Any, verdict: str) -> None:
    await broker.publish(note())
    assert (await opened(broker, cursor)).verdict == verdict


async def test_a_cursor_of_the_future_is_unknown(broker: Broker) -> None:
    receipt = await broker.publish(note())
    assert (await opened(broker, Cursor(receipt.epoch, receipt.seq + 1))).verdict == "cursor_unknown"


async def test_more_missed_events_than_are_replayed_make_a_reset(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for _ in range(HISTORY):
        for to in ("user:ann", "group:staff", "all"):
            await broker.publish(note(to))
    assert (await opened(broker, start)).verdict == "too_many_missed"


async def test_an_expired_message_is_neither_replayed_nor_listed(broker: Broker) -> None:
    lasting = []
    for brief_s in (0.06, 1, 10):  # on a busy machine, the first may end before it is read
        start = (await opened(broker)).cursor
        soon = datetime.now(UTC) + timedelta(seconds=brief_s)
        await broker.publish(note(subject="brief", expires_at=soon))
        await broker.publish(note(subject="lasting"))
        lasting.append("lasting")
        if (shown := subjects(await opened(broker, start))) == ["brief", "lasting"]:
            break
    assert shown == ["brief", "lasting"]
    while datetime.now(UTC) <= soon + timedelta(milliseconds=1):
        await asyncio.sleep(0.01)
    assert subjects(await opened(broker, start)) == ["lasting"]
    page = await broker.inbox("ann", ANN, limit=10, before=None, unread_only=False)
    assert [message["subject"] for message in page.messages] == lasting
    assert page.unread == len(lasting)
