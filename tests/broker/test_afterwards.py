"""What a broker says afterwards: records of connections, and where a message is."""

from __future__ import annotations

import asyncio

from notifier.broker import Broker
from notifier.broker.afterwards import MAX_RECORDS, RecordTexts
from notifier.exclusion import Exclusion
from notifier.message import corrected, message_event
from tests.broker.support import HISTORY


async def test_the_last_records_of_a_user_are_kept_and_a_later_one_counts(broker: Broker) -> None:
    for number in range(MAX_RECORDS + 5):
        note = broker.afterwards.note
        assert not await note({"ann": {f"{number:03}": f"open {number}"}, "bob": {}}, ttl_s=60)
        assert not await note({"ann": {f"{number:03}": f"closed {number}"}}, ttl_s=60)
    assert list(await broker.afterwards.records("ann")) == [f"closed {n}" for n in range(5, MAX_RECORDS + 5)]
    assert list(await broker.afterwards.records("bob")) == []
    await broker.afterwards.note({"ann": {}}, ttl_s=60)
    assert list(await broker.afterwards.records("ann")) == []


def summed(texts: RecordTexts) -> RecordTexts:
    """Joins the records that are numbers: their sum has the id of the first."""
    numbers = sorted(record_id for record_id, text in texts.items() if text.isdecimal())
    others = {record_id: text for record_id, text in texts.items() if record_id not in numbers}
    return others | ({numbers[0]: f"{sum(int(texts[each]) for each in numbers)}"} if numbers else {})


async def test_records_are_joined_before_one_is_removed(broker: Broker) -> None:
    streams = {f"{number:03}": f"stream {number}" for number in range(MAX_RECORDS - 2)}
    await broker.afterwards.note({"ann": streams}, ttl_s=60)
    ids = [f"{number:03}" for number in range(100, 170)]
    for first in range(0, len(ids), 2):  # two processes at the same time
        notes = [
            broker.afterwards.note({"ann": {record_id: "1"}, "bob": {}}, ttl_s=60, join=summed, joinable=["ann"])
            for record_id in ids[first : first + 2]
        ]
        assert not any(await asyncio.gather(*notes))
    kept = list(await broker.afterwards.records("ann"))
    assert kept[: len(streams)] == list(streams.values())
    assert sum(map(int, kept[len(streams) :])) == len(ids)
    assert len(kept) < 2 * MAX_RECORDS - 5
    await broker.forget("ann")
    assert list(await broker.afterwards.records("ann")) == []


async def test_a_forgotten_user_has_no_records(broker: Broker) -> None:
    await broker.afterwards.note({"ann": {"1": "a"}, "bob": {"1": "b"}}, ttl_s=60)
    await broker.forget("ann")
    assert list(await broker.afterwards.records("ann")) == []
    assert list(await broker.afterwards.records("bob")) == ["b"]


async def test_the_trail_of_a_message_says_where_it_is_and_who_sent_it(broker: Broker) -> None:
    fields = {"to": ["user:ann", "group:staff"], "subject": "s", "text": "t", "id": "m1"}
    event = message_event(fields, publisher="key:shop", excluded=Exclusion(frozenset(["bob"])))
    await broker.publish(event)
    channels = ["user:ann", "group:staff", "all"]
    trail = await broker.afterwards.trail("ann", "m1", channels)
    assert [place.channel for place in trail.places] == channels[:2]
    assert {(place.publisher, place.is_excluded, place.accepted_ms > 0) for place in trail.places} == {
        ("key:shop", False, True)
    }
    newest = (await broker.open("ann", channels, None)).cursor
    assert (trail.epoch, trail.places[0].seq, trail.is_read) == (newest.epoch, newest.seq, False)
    (place,) = (await broker.afterwards.trail("bob", "m1", ["group:staff"])).places
    assert place.is_excluded
    await broker.mark("ann", channels, "read", ["m1"])
    assert (await broker.afterwards.trail("ann", "m1", channels)).is_read
    assert (await broker.afterwards.trail("ann", "unknown", channels)).places == []


async def test_the_trail_of_a_message_that_was_removed_says_when_and_why(broker: Broker) -> None:
    fields = {"to": ["user:ann", "group:staff"], "subject": "s", "text": "t", "key": "k"}
    for number in range(14):
        await broker.publish(message_event({**fields, "id": f"m{number}"}, excluded=Exclusion(frozenset(["bob"]))))
    channels = ["user:ann", "group:staff"]
    replaced = (await broker.afterwards.trail("ann", "m12", channels)).places
    assert [(place.channel, place.removed) for place in replaced] == [(name, "replaced") for name in channels]
    assert all(0 < place.accepted_ms <= place.removed_ms + 1000 for place in replaced)
    assert (await broker.afterwards.trail("ann", "m1", channels)).places == []  # the last ten are known
    await broker.retract("m13", ["group:staff"])
    kept, removed = (await broker.afterwards.trail("ann", "m13", channels)).places
    assert (kept.removed, kept.seq) == ("", removed.seq)
    assert (removed.removed, removed.removed_ms >= replaced[0].removed_ms) == ("retracted", True)
    for _ in range(2):
        await broker.publish(message_event({**fields, "id": "again", "to": ["group:staff"]}))
    for number in range(HISTORY):
        await broker.publish(message_event({"id": f"n{number}", "to": ["group:staff"], "subject": "s"}))
    again = (await broker.afterwards.trail("ann", "again", ["group:staff"])).places
    assert again == [], "it was replaced by no other message, and trimmed by the bound of the history"
    await broker.forget("ann")
    left = (await broker.afterwards.trail("ann", "m12", ["user:ann"])).places
    assert left == [], "nothing that was removed stays of a user who is forgotten"
    (place,) = (await broker.afterwards.trail("bob", "m13", ["group:staff"])).places
    assert place.is_excluded


async def test_the_trail_of_a_message_says_when_it_was_corrected(broker: Broker) -> None:
    await broker.publish(message_event({"to": ["user:ann"], "subject": "s", "text": "t", "id": "m1"}))
    for number in range(12):
        await broker.correct("m1", ["user:ann"], lambda stored, number=number: corrected(stored, {"text": f"{number}"}))
    (place,) = (await broker.afterwards.trail("ann", "m1", ["user:ann"])).places
    assert len(place.corrected_ms) == 10
    assert place.accepted_ms <= place.corrected_ms[0] + 1000
    assert list(place.corrected_ms) == sorted(place.corrected_ms)
