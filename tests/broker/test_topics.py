"""The contract of brokers: topics are channels with smaller bounds, and no part of an inbox."""

from __future__ import annotations

from notifier.broker import Broker, Opening
from notifier.event import Cursor, custom
from notifier.message import message_of
from tests.broker.support import Recorder, note, opened, subjects, until

TOPIC = "topic:order:42"
PAGE = ("user:ann", "group:staff", "all", TOPIC)
"""The channels of a stream of ann whose page shows the order."""


async def opened_page(broker: Broker, cursor: Cursor | str | None = None) -> Opening:
    return await broker.open("ann", PAGE, cursor)


async def test_an_event_to_a_topic_reaches_its_streams_and_no_others(broker: Broker, sink: Recorder) -> None:
    (heard,) = broker.topics("ann", [TOPIC])
    (other,) = broker.topics("ann", ["topic:order:43"])
    await broker.subscribe([heard, other])
    receipt = await broker.publish(custom(to=[TOPIC], event_type="order.paid", data=1))
    await until(lambda: sink.events)
    assert [(topic, seq) for topic, seq, _ in sink.events] == [(heard, receipt.seq)]


async def test_events_of_a_topic_are_replayed_in_one_order_with_others(broker: Broker) -> None:
    start = (await opened_page(broker)).cursor
    for number, to in enumerate(["all", TOPIC, "user:ann", "topic:order:43", [TOPIC, "user:ann", "group:staff"]]):
        await broker.publish(note(to, subject=str(number)))
    opening = await opened_page(broker, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["0", "1", "2", "4"])
    assert subjects(await opened(broker, start)) == ["0", "2", "4"]


async def test_a_topic_keeps_its_own_number_of_events(broker: Broker) -> None:
    """3 in these brokers, which keep 5 of other channels."""
    start = (await opened_page(broker)).cursor
    for _ in range(3):
        await broker.publish(custom(to=[TOPIC, "user:ann"], event_type="changed"))
    assert (await opened_page(broker, start)).verdict == "ok"
    await broker.publish(custom(to=[TOPIC, "user:ann"], event_type="changed"))
    assert (await opened_page(broker, start)).verdict == "history_trimmed"
    assert (await opened(broker, start)).verdict == "ok"


async def test_a_message_to_a_topic_is_in_no_inbox(broker: Broker) -> None:
    start = (await opened_page(broker)).cursor
    await broker.publish(note([TOPIC, "all"], subject="both"))
    await broker.publish(note(TOPIC, subject="topic"))
    opening = await opened_page(broker, start)
    assert (opening.unread, subjects(opening)) == (1, ["both", "topic"])
    assert [message_of(frame) is not None for _, frame in opening.replay] == [True, True]


async def test_a_topic_without_events_does_not_reset_a_stream(broker: Broker) -> None:
    await broker.publish(note())
    await broker.publish(custom(to=["topic:order:43"], event_type="changed"))
    start = (await opened_page(broker)).cursor
    await broker.publish(note(subject="new"))
    opening = await opened_page(broker, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["new"])


async def test_a_text_for_the_processes_reaches_those_that_subscribe(broker: Broker, sink: Recorder) -> None:
    (topic,) = broker.topics("ann", ["user:ann"])
    assert not await broker.control(topic, "early")
    await broker.subscribe([topic])
    if await broker.control(topic, '{"call": 1}'):
        await until(lambda: sink.controls)
    # A broker of one process has no other process to reach.
    assert sink.controls in ([b'{"call": 1}'], [])
    assert (sink.events, sink.ended) == ([], [])
