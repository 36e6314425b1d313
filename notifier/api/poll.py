"""GET /v1/poll: a stream that ends at its first round, answered as JSON. For networks whose proxies hold streams back.

The hub opens it as any stream, so cursor, replay, resets, limits and drain are the same. It ends as soon as there is
anything for the client; the client's next poll goes on from the answer's cursor.

Must not know: brokers' kinds, how frames are delivered.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier.api.answers import PollAnswer
from notifier.api.granted import granted_by_query
from notifier.api.http import MAX_WAIT_S, WAIT_S, json_response, subscriber, wait_of
from notifier.api.openapi import GRANT, error_responses
from notifier.auth import Subscriber
from notifier.broker import Broker
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor, parse_cursor
from notifier.frames import OVERLOAD_RETRY_MS, RETRY_MS, EncodedFrame, farewell, place
from notifier.hub import Hub
from notifier.records import agent_of
from notifier.stream import Stream

OPENING_S: Final = 5.0
"""A poll waits this long for what it starts from, also if its `wait_s` is shorter."""

router = APIRouter(prefix="/v1", tags=["stream"], responses=error_responses(401, 403, 422))


class PolledStream(Stream):
    """Collects events until there is one for the client. The opening's `hello` is one where no cursor was given."""

    __slots__ = ("_asked", "events", "has_live", "news", "opened", "snapshot")
    polls = 1

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._asked = self.cursor
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done once the opening was written, or the stream has ended before it."""
        self.news: asyncio.Future[None] = loop.create_future()
        """Done once the poll can be answered."""
        self.events: list[dict[str, Any]] = []
        """At most a portion of a replay, or what one iteration of the event loop delivers: `news` detaches it."""
        self.snapshot: dict[str, Any] = {"tasks": None, "unread": None}
        self.has_live = False
        """True if an event came after the opening, so that the snapshot is older than the events."""

    @property
    def backlog_bytes(self) -> int:
        return 0

    @property
    def accepted_bytes(self) -> int:
        return len(self.events)

    @property
    def position(self) -> Cursor | None:
        """Where the next poll goes on."""
        return place(self.cursor) if self.opening else Cursor(self.epoch, self.seq)

    def call_when_drained(self, callback: Callable[[], None]) -> None:
        # With news the poll ends, and the next poll reads on.
        if not self.news.done():
            callback()

    def offer(self, frame: EncodedFrame) -> None:
        if not self.opening and not self.opened.done():
            self.flush()  # the opening: its snapshot is older than this frame
        super().offer(frame)

    def flush(self) -> None:
        out, self._out = self._out, []
        was_opened = self.opened.done()
        for frame in out:
            self._collect(frame, was_opened=was_opened)

    def _collect(self, frame: EncodedFrame, *, was_opened: bool) -> None:
        event = _event_of(frame)
        if event["event"] == "hello":
            self.snapshot = {name: event["data"][name] for name in self.snapshot}
            _finish(self.opened)
            if self._asked is None:
                _finish(self.news)
        elif event["event"] != "ping":
            self.events.append(event)
            self.has_live |= was_opened
            if self.opened.done():  # before, it is `degraded`: the opening may follow
                _finish(self.news)

    def end(self, farewell: EncodedFrame | None) -> None:
        if farewell is not None:
            self._out.append(farewell)
        self.flush()
        _finish(self.opened)
        _finish(self.news)

    def write_remainder(self, data: bytes) -> None:
        raise AssertionError("it has no socket")


def _event_of(frame: EncodedFrame) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in frame.plain.decode().split("\n") if line)
    return {"id": fields.get("id"), "event": fields["event"], "data": json.loads(fields["data"])}


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@router.get(
    "/poll",
    summary="Listen without a stream",
    responses={200: {"model": PollAnswer}, **error_responses(409, 503)},
    openapi_extra={
        "security": [{"subscriber": []}, {"subscriberCookie": []}],
        "parameters": [
            {"name": "after", "in": "query", "description": "The last cursor.", "schema": {"type": "string"}},
            {"name": "wait_s", "in": "query", "description": "Longest time without an answer, in seconds.",
             "schema": {"type": "integer", "default": WAIT_S, "minimum": 0, "maximum": MAX_WAIT_S}},
            GRANT,
        ],
    },
)  # fmt: skip
async def poll(request: Request) -> Response:
    """The events after a cursor, as soon as there are any, with the present tasks and unread count; without a cursor
    the present state, at once. For networks whose proxies hold streams back."""
    who = subscriber(request)
    wait_s = wait_of(request)
    asked = request.query_params.get("after") or None
    cursor = None if asked is None else parse_cursor(asked) or asked
    hub: Hub = request.app.state.hub
    broker: Broker = request.app.state.broker
    address = request.client.host if request.client else ""
    granted = granted_by_query(request, who)
    topics = broker.topics(who.user, who.heard)
    stream = PolledStream(
        user=who.user,
        address=address,
        channels=who.heard,
        topics=topics,
        cursor=cursor,
        ends_at=time.monotonic() + max(0.0, who.expires_at - time.time()),
        ends_why="expired",
        cancels_all=who.cancels_all,
        agent=agent_of(request.headers.get("user-agent", "")),
    )
    refused = hub.refusal(topics[0], address)
    if refused is None:
        # Without `granted.seen`: each poll would begin to be seen, and be answered at once with who is there.
        hub.grants.hear(stream, granted.ends)
        await _listen(hub, stream, request, wait_s)
    else:
        stream.end(farewell(refused, random.randint(*(RETRY_MS if refused == "drain" else OVERLOAD_RETRY_MS))))
    return json_response(await _answer(stream, broker, who))


async def _listen(hub: Hub, stream: PolledStream, request: Request, wait_s: float) -> None:
    """Attach the stream until there is news, the time is over, or the client has gone."""
    ends_at = time.monotonic() + wait_s
    gone = asyncio.ensure_future(_disconnected(request))
    attaching = asyncio.ensure_future(hub.attach(stream))
    attaching.add_done_callback(lambda attached: None if attached.cancelled() else _pass_on(attached, stream.opened))
    try:
        await asyncio.wait((stream.opened, gone), timeout=max(wait_s, OPENING_S), return_when=asyncio.FIRST_COMPLETED)
        if stream.opened.done():
            stream.opened.result()
            left_s = max(0.0, ends_at - time.monotonic())
            await asyncio.wait((stream.news, gone), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.detach(stream, "closed" if gone.done() else "answered")
        attaching.cancel()
        gone.cancel()


def _pass_on(attached: asyncio.Future[None], opened: asyncio.Future[None]) -> None:
    if (exc := attached.exception()) is not None and not opened.done():
        opened.set_exception(exc)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answer(stream: PolledStream, broker: Broker, who: Subscriber) -> dict[str, Any]:
    cursor = stream.position
    snapshot = stream.snapshot
    if stream.has_live:
        try:
            opening = await broker.open(who.user, stream.channels, None)
            snapshot = {"tasks": [task.public(who.may_cancel) for task in opening.tasks], "unread": opening.unread}
        except BrokerUnavailable:
            pass  # the state before these events; the next answer has the present state
    return {
        "cursor": None if cursor is None else str(cursor),
        "recovered": all(event["event"] != "reset" for event in stream.events),
        "events": stream.events,
        **snapshot,
    }
