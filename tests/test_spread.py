"""An event of a topic tells the pages of a crowd over how many seconds they spread their fetches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from notifier.event import custom
from notifier.frames import MAX_SPREAD_S, UNSPREAD_STREAMS, with_spread
from tests.faults.clients import until
from tests.hubs import ScriptedBroker, attach_crowd, body_of, running_hub
from tests.test_stream import Wall

TOPIC = "topic:order:42"


def wire(kind: str, data: Any) -> bytes:
    frame = custom(to=[TOPIC], event_type=kind, data=data).frame_for(TOPIC)
    return b"id: e-1\n" + frame.encode()


def data_of(plain: bytes) -> Any:
    return json.loads(plain.partition(b"data: ")[2])


@pytest.mark.parametrize("kind", ["changed", "order.paid"])
@pytest.mark.parametrize(("streams", "spread_s"), [(21, 0.21), (100, 1), (200, MAX_SPREAD_S), (10_000, MAX_SPREAD_S)])
def test_the_fetches_of_a_crowd_are_spread_by_its_size(streams: int, spread_s: float, kind: str) -> None:
    event = wire(kind, {"topic": "order:42", "by": "Ann"})
    plain = with_spread(TOPIC, event, streams)
    assert data_of(plain) == {"spread_s": spread_s, "topic": "order:42", "by": "Ann"}
    assert plain.startswith(b"id: e-1\nevent: %b\n" % kind.encode())
    assert plain.endswith(b"\n\n")
    assert with_spread(TOPIC, event, UNSPREAD_STREAMS) == event


@pytest.mark.parametrize(
    "event",
    [
        wire("changed", {"topic": "order:42", "spread_s": 0}),
        wire("changed", {"order": 42}),
        wire("changed", "text"),
        wire("order.paid", {"topic": "order:42", "spread_s": 0}),
        wire("order.paid", {"sum": 12, "topic": "order:42"}),
    ],
)
def test_what_the_publisher_chose_and_other_events_stay(event: bytes) -> None:
    assert with_spread(TOPIC, event, 1000) == event


def test_an_event_of_a_group_is_not_spread() -> None:
    event = wire("chat.message", {"topic": "general", "text": "Hello"})
    assert with_spread("group:chat", event, 1000) == event


@pytest.mark.parametrize(("viewers", "expected"), [(UNSPREAD_STREAMS, {}), (UNSPREAD_STREAMS + 1, {"spread_s": 0.21})])
async def test_each_stream_of_a_topic_gets_the_spread(viewers: int, expected: Mapping[str, float]) -> None:
    broker = ScriptedBroker()
    async with running_hub(broker) as hub:
        walls = await attach_crowd(hub, viewers, TOPIC)
        broker.seq = 1
        hub.deliver(TOPIC, "e", 1, "", wire("changed", {"topic": "order:42"}))
        await until(lambda: all(changes(wall) for wall in walls), what="the event")
    assert [changes(wall) for wall in walls] == [[{**expected, "topic": "order:42"}]] * viewers


def changes(wall: Wall) -> list[Any]:
    return [data_of(block.encode()) for block in body_of(wall).blocks if "event: changed" in block]
