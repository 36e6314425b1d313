"""Direct calls leave the event loop to others, and end with their connection."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from notifier.api import stream
from notifier.api.batch import BATCH_SLICE
from notifier.auth import subscriber_token
from notifier.broker.memory.broker import MemoryBroker
from notifier.event import Event
from notifier.http1 import MAX_PIPELINED
from notifier.transport import TransportStream
from tests.api.request_corpus import KEY, SECRET
from tests.api.sides import Connected, Side, side
from tests.raw_http import request

EVENT = b'{"to":["all"],"type":"first"}'
POST = request("POST", "/v1/events", f"Content-Length: {len(EVENT)}", body=EVENT, key=KEY)
STREAM = request("GET", "/v1/stream", f"Authorization: Bearer {subscriber_token(SECRET, '7')}")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The events that reach the broker."""
    events: list[Event] = []
    submit = MemoryBroker.submit

    def counting(self: MemoryBroker, event: Event, *more: object) -> object:
        events.append(event)
        return submit(self, event, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBroker, "submit", counting)
    return events


@pytest.mark.parametrize(("items", "recipients"), [(10 * BATCH_SLICE, 1), (10, BATCH_SLICE)])
async def test_a_large_batch_lets_other_work_have_its_turn(published: list[Event], items: int, recipients: int) -> None:
    seen: list[int] = []

    async def watch() -> None:
        while True:
            seen.append(len(published))
            await asyncio.sleep(0)

    item = {"kind": "event", "to": [f"user:{number}" for number in range(recipients)], "type": "x"}
    body = json.dumps([item] * items).encode()
    data = request("POST", "/v1/batch", f"Content-Length: {len(body)}", body=body, key=KEY)
    async with side(direct=True) as service:
        watching = asyncio.create_task(watch())
        (answer,) = await service.ask([data])
        watching.cancel()
    assert answer.status == 200
    assert len(published) == items
    assert len({count for count in seen if 0 < count < items}) >= 8


async def test_a_stream_begins_with_one_write_and_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    flush = TransportStream.flush

    def counting(stream: TransportStream) -> None:
        if stream._out:
            written.append(len(stream._out))
        flush(stream)

    monkeypatch.setattr(TransportStream, "flush", counting)
    data = request("GET", "/v1/stream", key=subscriber_token(SECRET, "42"))
    async with side(direct=True) as service:
        _, writer, _ = await service.connect([])
        before = asyncio.all_tasks()
        received = await service.open(data)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before  # one of the start may end
        writer.close()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written[0] == 2  # the head of the response, and `hello` with the snapshot
    assert len(written) <= 2  # a `bye` at the end of the service


async def test_the_requests_of_one_packet_do_not_keep_the_loop(published: list[Event]) -> None:
    """Beyond a bound they go through ASGI, one after the other, and further ones are refused."""
    async with side(direct=True) as service:
        answers = await service.ask([POST * 1000], answers=1000)
    statuses = [answer.status for answer in answers]
    assert statuses == [200] * (len(statuses) - 1) + [400]
    assert MAX_PIPELINED <= len(published) == len(statuses) - 1 <= 3 * MAX_PIPELINED
    assert answers.ended


async def test_nothing_is_published_for_a_connection_that_is_closing(published: list[Event]) -> None:
    """As at a shutdown: the answer to the request under way is the last."""
    async with side(direct=True) as service:
        reader, writer, protocol = await service.connect([POST[:-5]])
        protocol.shutdown()
        protocol.data_received(POST[-5:] + POST + POST)
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in received
    assert len(published) == 1


async def test_a_refused_client_that_reads_no_answers_is_not_read_either() -> None:
    async with side(direct=True) as service:
        data = request("GET", "/healthz") * 2 + b"nonsense\r\n\r\n"
        _, writer, protocol = await service.connect([data])
        assert not protocol.transport.is_reading()
        writer.close()


@pytest.mark.parametrize("direct", [True, False])
async def test_a_stream_with_more_behind_its_request_sees_its_client_leave(direct: bool) -> None:
    async with side(direct=direct) as service:
        reader, writer, protocol = await service.connect([STREAM + b"nonsense\r\n\r\n"])
        await asyncio.wait_for(reader.readuntil(b"event: hello"), 10)
        assert protocol.transport.is_reading()
        writer.close()
        async with asyncio.timeout(10):
            while not protocol.transport.is_closing():
                await asyncio.sleep(0.01)


async def behind_an_unread_response(service: Side, earlier: bytes) -> Connected:
    """A stream too many, behind a response that its client has not read."""
    places = [await service.connect([STREAM]) for _ in range(20)]
    for reader, _, _ in places:
        await asyncio.wait_for(reader.readuntil(b"event: hello"), 10)
    connected = await service.connect([])
    _, writer, protocol = connected
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket
    protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    protocol.transport.write(earlier)
    assert protocol.transport.get_write_buffer_size() > 0
    protocol.data_received(STREAM)
    await service.ask([request("GET", "/healthz")])  # after the refusal
    for _, other, _ in places:
        other.close()
    return connected


@pytest.mark.parametrize("direct", [True, False])
async def test_a_refused_stream_does_not_cut_the_response_before_it(direct: bool) -> None:
    """Not even for a client that has not read it."""
    earlier = b"x" * 40_000
    async with side(direct=direct) as service:
        reader, writer, _ = await behind_an_unread_response(service, earlier)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = await asyncio.wait_for(reader.readuntil(b"event: bye"), 10)
        writer.close()
    assert received.startswith(earlier + b"HTTP/1.1 200 OK\r\n")


async def test_a_refused_client_that_never_reads_does_not_keep_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "UNREAD_S", 0.05)
    async with side(direct=True) as service:
        _, writer, protocol = await behind_an_unread_response(service, b"x" * 40_000)
        async with asyncio.timeout(10):
            while protocol.transport.get_write_buffer_size():
                await asyncio.sleep(0.01)
        writer.close()
