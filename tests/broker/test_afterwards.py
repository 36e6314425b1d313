"""What a broker says afterwards: records of connections, and where a message is."""

from __future__ import annotations

from notifier.broker import Broker
from notifier.broker.afterwards import MAX_RECORDS
from notifier.exclusion import Exclusion
from notifier.message import message_event


async def test_the_last_records_of_a_user_are_kept_and_a_later_one_counts(broker: Broker) -> None:
    for number in range(MAX_RECORDS + 5):
        note = broker.afterwards.note
        assert not await note({"ann": {f"{number:03}": f"open {number}"}, "bob": {}}, ttl_s=60)
        assert not await note({"ann": {f"{number:03}": f"closed {number}"}}, ttl_s=60)
    assert list(await broker.afterwards.records("ann")) == [f"closed {n}" for n in range(5, MAX_RECORDS + 5)]
    assert list(await broker.afterwards.records("bob")) == []
    await broker.afterwards.note({"ann": {}}, ttl_s=60)
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
