"""The contract of brokers: the inbox, read marks, deletion."""

from __future__ import annotations

import asyncio
import json

from notifier import event as events
from notifier.broker import Broker
from tests.broker.support import ANN, Recorder, listed, note, opened, until


async def test_the_inbox_lists_newest_first_and_pages_back(broker: Broker) -> None:
    ids = []
    for number in range(5):
        event = note(["user:ann", "all"], subject=str(number))
        ids.append(event.message_id)
        await broker.publish(event)
    first = await broker.inbox("ann", ANN, limit=2, before=None, unread_only=False)
    assert [message["subject"] for message in first.messages] == ["4", "3"]
    assert first.more
    assert first.unread == 5
    second = await broker.inbox("ann", ANN, limit=2, before=first.messages[-1]["id"], unread_only=False)
    assert [message["subject"] for message in second.messages] == ["2", "1"]
    last = await broker.inbox("ann", ANN, limit=2, before=second.messages[-1]["id"], unread_only=False)
    assert [message["subject"] for message in last.messages] == ["0"]
    assert not last.more
    await broker.mark("ann", ANN, "delete", [second.messages[-1]["id"]])
    again = await broker.inbox("ann", ANN, limit=2, before=second.messages[-1]["id"], unread_only=False)
    assert again.messages == last.messages
    gone = await broker.inbox("ann", ANN, limit=2, before="no-such-id", unread_only=False)
    assert not gone.messages
    assert not gone.more


async def test_other_events_are_not_messages(broker: Broker) -> None:
    await broker.publish(events.custom(to=["user:ann"], event_type="order.paid", data={}))
    assert await listed(broker) == []
    assert (await opened(broker)).unread == 0


async def test_a_read_mark_is_for_one_user_and_reaches_its_streams(broker: Broker, sink: Recorder) -> None:
    first, second = note("all", subject="first"), note("all", subject="second")
    for event in (first, second):
        await broker.publish(event)
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    marked = await broker.mark("ann", ANN, "read", [first.message_id, "unknown"])
    assert (list(marked.changed), marked.unread) == ([first.message_id], 1)
    assert await listed(broker) == [("second", False), ("first", True)]
    assert await listed(broker, unread_only=True) == [("second", False)]
    assert await listed(broker, "bob") == [("second", False), ("first", False)]
    await until(lambda: sink.states)
    expected = f'{{"read":["{first.message_id}"],"deleted":[],"unread":1}}'
    assert sink.states[0][2] == f"event: inbox\ndata: {expected}\n\n".encode()
    assert (await broker.mark("ann", ANN, "read", [first.message_id])).changed == []


async def test_reading_all_covers_present_messages_and_not_later_ones(broker: Broker) -> None:
    for number in range(3):
        await broker.publish(note(subject=str(number)))
    marked = await broker.mark("ann", ANN, "all", [])
    assert len(marked.changed) == 3
    assert marked.unread == 0
    await broker.publish(note(subject="new"))
    assert await broker.unread("ann", ANN) == 1
    assert [read for _, read in await listed(broker)] == [False, True, True, True]


async def test_reading_thousands_of_messages_at_once_reaches_the_streams(roomy_broker: Broker, sink: Recorder) -> None:
    notes = [note(id=f"{number:064}") for number in range(3000)]
    await asyncio.gather(*(roomy_broker.publish(event) for event in notes))
    await roomy_broker.subscribe(roomy_broker.topics("ann", ["user:ann"]))
    await roomy_broker.mark("ann", ANN, "all", [])
    await roomy_broker.mark("ann", ANN, "delete", [notes[0].message_id])
    await until(lambda: any(b'"read":[]' in wire for _, _, wire in sink.states))
    frames = [wire for _, _, wire in sink.states if b'"read":[]' not in wire]
    changes = [json.loads(wire.partition(b"data: ")[2]) for wire in frames]
    assert sorted(message_id for change in changes for message_id in change["read"]) == [e.message_id for e in notes]
    assert {change["unread"] for change in changes} == {0}
    assert all(events.is_safe_frame(wire) for wire in frames)
    assert roomy_broker.skipped == 0


async def test_deleting_hides_a_message_from_one_user(broker: Broker, sink: Recorder) -> None:
    event = note("all")
    await broker.publish(event)
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    marked = await broker.mark("ann", ANN, "delete", [event.message_id])
    assert (list(marked.changed), marked.unread) == ([event.message_id], 0)
    assert await listed(broker) == []
    assert len(await listed(broker, "bob")) == 1
    await until(lambda: sink.states)
    assert f'"deleted":["{event.message_id}"]'.encode() in sink.states[0][2]
    assert (await broker.mark("ann", ANN, "delete", [event.message_id])).changed == []


async def test_an_opening_counts_the_unread_messages_as_the_inbox_does(roomy_broker: Broker) -> None:
    broker, ids = roomy_broker, []
    for number in range(40):
        event = note([["user:ann"], ["group:staff"], ["all", "user:ann"]][number % 3], subject=str(number))
        ids.append(event.message_id)
        await broker.publish(event)
        if number % 8 == 5:
            await broker.mark("ann", ANN, "read", ids[-3:-1])
            await broker.mark("ann", ANN, "delete", ids[-4:-2])
        assert (await opened(broker)).unread == await broker.unread("ann", ANN)
    assert (await opened(broker)).unread == 25
    await broker.mark("ann", ANN, "all", [])
    assert (await opened(broker)).unread == 0
