"""GET /v1/stream: from a request to an open stream.

A plain ASGI endpoint: what FastAPI's routing adds would be the larger part of what a connect costs. Its documentation
stands in `openapi`. Must not know: brokers.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sse_starlette.sse import EventSourceResponse
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from notifier.api.http import subscriber
from notifier.auth import Subscriber
from notifier.event import Cursor, parse_cursor
from notifier.frames import OVERLOAD_RETRY_MS, RETRY_MS, farewell
from notifier.hub import Hub
from notifier.server import TAKE_OVER, Connection
from notifier.stream import QueuedStream, TransportStream

if TYPE_CHECKING:
    from notifier.broker import Broker

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
_RAW_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
HEAD_WAITS_S: Final = 0.02
"""For so long the answer's head waits for the first event, to go out with it."""
CURSOR_NAMES: Final = ("last_event_id", "lastEventId", "lastEventID")


class StreamEndpoint:
    """Opens streams. One per application."""

    def __init__(self, hub: Hub, broker: Broker, *, life_s: float) -> None:
        self._hub = hub
        self._broker = broker
        self._life_s = life_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        who = subscriber(connection, query=True)
        if scope["method"] == "HEAD":
            # A stream would write its frames to the connection, where they would be read as the next answer.
            await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
            await send({"type": "http.response.body", "body": b""})
            return
        cursor = _cursor(connection)
        address = scope["client"][0] if scope.get("client") else ""
        topics = self._broker.topics(who.user, who.channels)
        refused = self._hub.refusal(topics[0], address)
        if refused is not None:
            await _refuse(send, refused)
            return
        ends_at, ends_why = self._end_of(who)
        fields = {
            "user": who.user,
            "address": address,
            "channels": who.channels,
            "topics": topics,
            "cursor": cursor,
            "ends_at": ends_at,
            "ends_why": ends_why,
        }
        extension = scope.get("extensions", {}).get(TAKE_OVER)
        if extension is None:
            await self._respond(QueuedStream(**fields), scope, receive, send)
        else:
            await self._write_through(fields, extension["connection"], send)

    async def _write_through(self, fields: dict[str, Any], connection: Connection, send: Send) -> None:
        """Headers go through ASGI; from then on frames are written to the transport, and this call is over."""
        connection.hold()
        await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
        if (taken := connection.take_over()) is None:
            return
        protocol, head = taken
        stream = TransportStream(protocol.transport, head, **fields)
        protocol.on_lost = partial(self._hub.detach, stream)
        waiting = asyncio.get_running_loop().call_later(HEAD_WAITS_S, stream.flush)
        try:
            await self._hub.attach(stream)
        except BaseException:
            protocol.transport.abort()
            raise
        finally:
            waiting.cancel()
        stream.flush()  # where that takes longer, the head goes now

    async def _respond(self, stream: QueuedStream, scope: Scope, receive: Receive, send: Send) -> None:
        """For servers that do not offer the transport. The hub sends the pings, so sse-starlette's are put off."""
        response = EventSourceResponse(stream.frames(), headers=HEADERS, ping=24 * 3600)
        attaching = asyncio.ensure_future(self._hub.attach(stream))
        try:
            await response(scope, receive, send)
        finally:
            attaching.cancel()
            self._hub.detach(stream)

    def _end_of(self, who: Subscriber) -> tuple[float, str]:
        """When the stream's life is over, and why: at random, so that streams do not end together."""
        now = time.monotonic()
        left_s = max(0.0, who.expires_at - time.time())
        life_s = random.uniform(self._life_s / 2, self._life_s)
        return (now + left_s, "expired") if left_s <= life_s else (now + life_s, "rotate")


def _cursor(connection: HTTPConnection) -> Cursor | str | None:
    """The client's cursor: the header wins over the query; the last value that is not empty counts."""
    values = connection.headers.getlist("last-event-id")
    found = _last(values)
    if found is None and connection.scope["query_string"]:
        found = _last([value for name, value in connection.query_params.multi_items() if name in CURSOR_NAMES])
    return None if found is None else parse_cursor(found) or found


def _last(values: list[str]) -> str | None:
    return next((value for value in reversed(values) if value), None)


async def _refuse(send: Send, reason: str) -> None:
    """No room now: 200 all the same, since any other status makes a native EventSource give up for good."""
    body = farewell(reason, random.randint(*(RETRY_MS if reason == "drain" else OVERLOAD_RETRY_MS))).plain
    await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
    await send({"type": "http.response.body", "body": body})
