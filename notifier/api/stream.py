"""GET /v1/stream: from a request to an open stream.

A plain ASGI endpoint: FastAPI's routing would be more than half of the cost of a connect. `openapi` documents it.
Must not know: brokers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from sse_starlette.sse import EventSourceResponse
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from notifier.api.granted import Granted, granted_by_query
from notifier.api.http import connection_of, subscriber
from notifier.auth import Subscriber
from notifier.call import Admitted, Headers, stream_head
from notifier.event import Cursor, parse_cursor
from notifier.frames import OVERLOAD_RETRY_MS, RETRY_MS, EncodedFrame, farewell, place
from notifier.hub import Hub
from notifier.protocol import TAKE_OVER, ClientConnection, Protocol
from notifier.queued import QueuedStream, QueuedTextStream
from notifier.records import agent_of
from notifier.transport import LAST_CHUNK, TextTransportStream, TransportStream

if TYPE_CHECKING:
    from notifier.broker import Broker

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
_RAW_HEADERS: Final = tuple((name.lower().encode(), value.encode()) for name, value in HEADERS.items())
FIRST_EVENT_S: Final = 1.0
"""The response head leaves with the first event. If the broker takes longer than this, a ping is the first event."""
UNREAD_S: Final = 10.0
"""Time for the client to read the response before a refused stream; then the connection is dropped."""
FORWARDED: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto"))
CURSOR_NAMES: Final = ("last_event_id", "lastEventId", "lastEventID")


class StreamEndpoint:
    """The endpoint. One per application."""

    def __init__(self, app: FastAPI, hub: Hub, broker: Broker, *, life_s: float) -> None:
        self._app = app
        self._hub = hub
        self._broker = broker
        self._life_s = life_s

    def admit(self, protocol: Protocol, headers: Mapping[bytes, bytes], query: bytes) -> Admitted | None:
        """The opening of a stream that the protocol runs directly. None for requests of proxies: uvicorn's middleware
        finds their client's address. Raises `Unauthenticated`."""
        if not FORWARDED.isdisjoint(headers):
            return None
        requested_at = time.monotonic()
        connection = connection_of(self._app, "GET", headers, query)
        who = self._listener(connection)
        address = protocol.client[0] if protocol.client else ""
        fields = partial(self._fields, who, address, connection, requested_at)
        granted = granted_by_query(connection, who)
        more = protocol.added_headers(headers)
        return lambda _: self._open(protocol, fields(), granted, more)

    async def _open(self, protocol: Protocol, fields: dict[str, Any], granted: Granted, more: Headers) -> None:
        refused = self._hub.refusal(fields["topics"][0], fields["address"])
        head = stream_head((*_RAW_HEADERS, *more), protocol.server_state.default_headers)
        if not protocol.hand_over():
            return
        if refused is None:
            await self._attach(protocol, head, fields, granted)
        else:
            # Not by `TransportStream.end`, which aborts a connection with unsent bytes: those of the response before.
            protocol.transport.write(head + _refusal(refused, fields["cursor"]).chunk + LAST_CHUNK)
            protocol.transport.close()
            if protocol.transport.get_write_buffer_size():
                protocol.loop.call_later(UNREAD_S, protocol.transport.abort)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        requested_at = time.monotonic()
        connection = HTTPConnection(scope)
        who = self._listener(connection)
        granted = granted_by_query(connection, who)
        if scope["method"] == "HEAD":
            # No stream: its frames would be read as the response to the connection's next request.
            await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
            await send({"type": "http.response.body", "body": b""})
            return
        fields = self._fields(who, scope["client"][0] if scope.get("client") else "", connection, requested_at)
        refused = self._hub.refusal(fields["topics"][0], fields["address"])
        if refused is not None:
            await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
            await send({"type": "http.response.body", "body": _refusal(refused, fields["cursor"]).plain})
            return
        extension = scope.get("extensions", {}).get(TAKE_OVER)
        if extension is None:
            stream = (QueuedTextStream if fields["form"] else QueuedStream)(**fields)
            if granted.ends:
                self._hub.grants.hear(stream, granted.ends, granted.seen)
            await self._respond(stream, scope, receive, send)
        else:
            await self._write_through(fields, granted, extension["connection"], send)

    def _listener(self, connection: HTTPConnection) -> Subscriber:
        """Who opens it. Raises `Unauthenticated`."""
        return subscriber(connection, query=True)

    def _fields(self, who: Subscriber, address: str, connection: HTTPConnection, requested_at: float) -> dict[str, Any]:
        """The stream's attributes."""
        ends_at, ends_why = self._end_of(who)
        return {
            "user": who.user,
            "address": address,
            "channels": who.heard,
            "topics": self._broker.topics(who.user, who.heard),
            "cursor": _cursor(connection),
            "ends_at": ends_at,
            "ends_why": ends_why,
            "cancels_all": who.cancels_all,
            "form": _form(connection),
            "agent": agent_of(connection.headers.get("user-agent", "")),
            "requested_at": requested_at,
        }

    async def _write_through(
        self, fields: dict[str, Any], granted: Granted, connection: ClientConnection, send: Send
    ) -> None:
        """Send the head through ASGI, then hand the connection over to a stream that writes to the transport."""
        connection.hold()
        await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
        if (taken_over := connection.take_over()) is not None:
            await self._attach(*taken_over, fields, granted)

    async def _attach(self, protocol: Protocol, head: bytes, fields: dict[str, Any], granted: Granted) -> None:
        stream = (TextTransportStream if fields["form"] else TransportStream)(protocol.transport, head, **fields)
        if granted.ends:
            self._hub.grants.hear(stream, granted.ends, granted.seen)
        protocol.on_lost = partial(self._hub.detach, stream)
        first_event = asyncio.get_running_loop().call_later(FIRST_EVENT_S, self._hub.begin, stream)
        try:
            await self._hub.attach(stream)
        except BaseException:
            protocol.transport.abort()
            raise
        finally:
            if stream.begun:
                first_event.cancel()

    async def _respond(self, stream: QueuedStream, scope: Scope, receive: Receive, send: Send) -> None:
        """For servers that do not offer the transport. The hub sends the pings, so sse-starlette's are disabled."""
        response = EventSourceResponse(stream.frames(), headers=HEADERS, ping=24 * 3600)
        attaching = asyncio.ensure_future(self._hub.attach(stream))
        try:
            await asyncio.wait((attaching,), timeout=FIRST_EVENT_S)
            self._hub.begin(stream)
            await response(scope, receive, send)
        finally:
            attaching.cancel()
            self._hub.detach(stream)

    def _end_of(self, who: Subscriber) -> tuple[float, str]:
        """End of the stream's life (monotonic seconds), and the reason. Random, so that streams do not end together."""
        now = time.monotonic()
        left_s = max(0.0, who.expires_at - time.time())
        life_s = random.uniform(self._life_s / 2, self._life_s)
        return (now + left_s, "expired") if left_s <= life_s else (now + life_s, "rotate")


def _cursor(connection: HTTPConnection) -> Cursor | str | None:
    """The client's cursor: from the header, else from the query; the last value that is not empty."""
    values = connection.headers.getlist("last-event-id")
    cursor = _last(values)
    if cursor is None and connection.scope["query_string"]:
        cursor = _last([value for name, value in connection.query_params.multi_items() if name in CURSOR_NAMES])
    return None if cursor is None else parse_cursor(cursor) or cursor


def _form(connection: HTTPConnection) -> str:
    """`text` or `turbo`, if the query asks for one of these; other forms do not exist."""
    form = connection.query_params.get("format", "") if connection.scope["query_string"] else ""
    return form if form in ("text", "turbo") else ""


def _last(values: list[str]) -> str | None:
    return next((value for value in reversed(values) if value), None)


def _refusal(reason: str, cursor: Cursor | str | None) -> EncodedFrame:
    """The only event of a refused stream: `bye`. The status is 200, since a native EventSource never reconnects after
    any other."""
    retry_ms = random.randint(*(RETRY_MS if reason == "drain" else OVERLOAD_RETRY_MS))
    return farewell(reason, retry_ms, place(cursor))
