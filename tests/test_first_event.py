"""The first event of a stream has as `id:` where its client stands, whatever event it is.

A client that resets its last id with each response then returns with the cursor that it sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from notifier.errors import BrokerUnavailable
from notifier.event import Cursor
from notifier.hub import Hub
from tests.faults.clients import until
from tests.hubs import ScriptedBroker, body_of, running_hub, state, stream_on
from tests.test_stream import Wall

AT = Cursor("e", 3)
ASKED = [(AT, "e-3"), ("unreadable", "0-0"), (None, None)]
"""What a client sends as its cursor, and the id of the first event where no order is known."""


@pytest.fixture
async def broker() -> ScriptedBroker:
    """A broker with events after `AT`, that answers no opening yet."""
    broker = ScriptedBroker()
    for number in range(5):
        broker.seq += 1
        broker.log.append((broker.seq, "all", f"event: x\ndata: {number}\n\n".encode()))
    broker.gate.clear()
    return broker


def ids_and_events(wall: Wall) -> list[tuple[str | None, str]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in body_of(wall, pings=True).blocks]
    return [(fields.get("id"), fields["event"]) for fields in blocks]


async def opening_stream(hub: Hub, cursor: Cursor | str | None) -> tuple[Wall, asyncio.Task[None]]:
    """A stream whose opening is not answered yet."""
    wall = Wall()
    attaching = asyncio.create_task(hub.attach(stream_on(wall, cursor=cursor)))
    await until(lambda: len(hub))
    return wall, attaching


@pytest.mark.parametrize(("cursor", "first_id"), ASKED)
async def test_degraded_of_a_stream_that_comes_while_the_broker_is_away(
    broker: ScriptedBroker, cursor: Cursor | str | None, first_id: str | None
) -> None:
    broker.away, broker.is_ready = BrokerUnavailable("away"), False
    broker.gate.set()
    async with running_hub(broker, heartbeat_s=86_400) as hub:
        hub.degraded(True)
        wall = Wall()
        await hub.attach(stream_on(wall, cursor=cursor))
        assert ids_and_events(wall) == [(first_id, "degraded")]
        assert wall.written[0].partition(b"\r\n")[2].startswith(b"retry: ")


@pytest.mark.parametrize(("cursor", "first_id"), ASKED)
@pytest.mark.parametrize("away", [True, False])
async def test_degraded_of_a_stream_that_is_being_opened(
    broker: ScriptedBroker, cursor: Cursor | str | None, first_id: str | None, away: bool
) -> None:
    async with running_hub(broker, heartbeat_s=86_400) as hub:
        wall, attaching = await opening_stream(hub, cursor)
        hub.degraded(away)
        assert ids_and_events(wall) == [(first_id, "degraded")]
        hub.degraded(not away)
        assert ids_and_events(wall)[1:] == [(None, "degraded")]
        attaching.cancel()


async def drain(hub: Hub) -> None:
    await hub.drain(0, lambda: True)


async def disconnect(hub: Hub) -> None:
    hub.disconnect("all", "revoked")


async def overflow(hub: Hub) -> None:
    for _ in range(6000):
        state(hub, "all", "", "x")


@pytest.mark.parametrize(("cursor", "first_id"), ASKED)
@pytest.mark.parametrize("end", [drain, disconnect, overflow])
async def test_bye_of_a_stream_that_is_being_opened(
    broker: ScriptedBroker,
    cursor: Cursor | str | None,
    first_id: str | None,
    end: Callable[[Hub], Awaitable[None]],
) -> None:
    # One stream: a second one would have its first ping at the second tick of the timers.
    async with running_hub(broker, heartbeat_s=86_400) as hub:
        wall, attaching = await opening_stream(hub, cursor)
        await end(hub)
        await until(lambda: not len(hub))
        assert ids_and_events(wall) == [(first_id, "bye")]
        attaching.cancel()


@pytest.mark.parametrize(("cursor", "first_id"), ASKED)
async def test_ping_of_a_stream_that_is_being_opened(
    broker: ScriptedBroker, cursor: Cursor | str | None, first_id: str | None
) -> None:
    async with running_hub(broker, heartbeat_s=0.2) as hub:
        wall, attaching = await opening_stream(hub, cursor)
        await until(lambda: len(ids_and_events(wall)) > 1)
        assert ids_and_events(wall)[:2] == [(first_id, "ping"), (None, "ping")]
        attaching.cancel()


async def test_the_response_head_does_not_leave_without_a_first_event(broker: ScriptedBroker) -> None:
    async with running_hub(broker, heartbeat_s=86_400) as hub:
        wall, attaching = await opening_stream(hub, AT)
        hub.begin(next(iter(hub._streams)))
        assert ids_and_events(wall) == [("e-3", "ping")]
        hub.begin(next(iter(hub._streams)))
        broker.gate.set()
        await attaching
        hub.begin(next(iter(hub._streams)))
        assert [event for _, event in ids_and_events(wall)] == ["ping", "hello", "x", "x"]


async def test_after_any_first_event_hello_has_the_same_place(broker: ScriptedBroker) -> None:
    async with running_hub(broker, heartbeat_s=86_400) as hub:
        wall, attaching = await opening_stream(hub, AT)
        hub.degraded(True)
        hub.degraded(False)
        broker.gate.set()
        await attaching
        assert ids_and_events(wall)[:3] == [("e-3", "degraded"), (None, "degraded"), ("e-3", "hello")]


async def test_a_later_bye_has_no_id(broker: ScriptedBroker) -> None:
    broker.gate.set()
    async with running_hub(broker, heartbeat_s=86_400) as hub:
        wall = Wall()
        await hub.attach(stream_on(wall, cursor=AT))
        hub.disconnect("all", "revoked")
        assert ids_and_events(wall)[-1] == (None, "bye")
