"""The console for operators: the figures of all processes, over a stream of its own, and a user's messages.

    a console's stream in a process -> each second it asks all processes (`StreamCalls.ask_all`) -> its streams get them

While no console is open, a process only waits. The stream's channel is no channel that a publisher or a token can name:
no application's user hears it. Must not know: what the page shows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from importlib.metadata import version
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection
from starlette.responses import Response

from notifier import rules
from notifier.api.answers import InboxMessage
from notifier.api.http import json_response, publisher, publisher_of, whole_number
from notifier.api.openapi import error_responses
from notifier.api.publishing import Publishing
from notifier.api.stream import StreamEndpoint
from notifier.auth import ADMIN, Subscriber
from notifier.broker import Broker
from notifier.errors import BrokerUnavailable, NotFound
from notifier.event import own_frame
from notifier.hub import Hub

USER: Final = "notifier-console"
"""The user of the consoles' streams in limits and records."""
CHANNEL: Final = "console:figures"
OWN: Final = (f"user:{USER}", CHANNEL)
"""The channels of these streams."""
QUESTION: Final = "figures"
"""What a process with a console asks all processes."""
INTERVAL_S: Final = 1.0
CROWDED_S: Final = 5.0
"""How often the channels are counted: that looks at every channel of the process."""
MAX_CROWDED: Final = 20
MAX_PAGE: Final = 100

log = logging.getLogger("notifier.console")

router = APIRouter(
    prefix="/v1/console",
    tags=["administration"],
    responses=error_responses(401, 403, 404, 422, 503),
)


class CrowdedChannel(BaseModel):
    channel: str
    streams: int


class ProcessFigures(BaseModel):
    """What one process tells. Counters count from its start."""

    process: str = Field(description="Its id, another one after each start.")
    host: str
    pid: int
    version: str
    up_ms: int = Field(description="Milliseconds since its start.")
    streams: int = Field(description="Its open streams, without those of consoles.")
    topics: int
    publishes: int = Field(description="Calls and items of batches that it accepted by HTTP.")
    events: int = Field(description="Events that it received for its streams.")
    deliveries: int = Field(description="Events written to its streams.")
    resets: int
    ready: bool
    draining: bool
    broker: Literal["ok", "degraded", "away"]
    shards_away: list[int]
    top: list[CrowdedChannel] = Field(description="Its channels with the most streams.")


class ConsoleFigures(BaseModel):
    at: str
    processes: list[ProcessFigures]
    missing: int | None = Field(
        description="Processes that did not answer in time; null where the others cannot be asked: the broker is away."
    )


class UserMessages(BaseModel):
    user: str
    messages: list[InboxMessage]
    more: bool
    unread: int


class Console:
    """Tells the figures of this process to the others, and those of all to the consoles of this process."""

    def __init__(self, hub: Hub, broker: Broker, publishing: Publishing) -> None:
        self._hub = hub
        self._broker = broker
        self._publishing = publishing
        self._began = time.monotonic()
        self._version = version("sse-notifier")
        self._topic = broker.topics(USER, [CHANNEL])[0]
        self._delivered = 0
        """Figures delivered to consoles: they are no deliveries of the service."""
        self._crowded: list[dict[str, Any]] = []
        self._crowded_at = float("-inf")

    async def run_forever(self) -> None:
        """Run until cancelled. An unexpected exception must end the process."""
        tells = False
        while True:
            try:
                if not tells:
                    await self._hub.calls.tell(QUESTION, self.own)
                    tells = True
            except BrokerUnavailable as exc:
                log.warning("this process is not shown by other processes' consoles yet: %s", exc)
            if self._hub.listeners(self._topic):
                frame = own_frame("figures", await self.all())
                self._delivered += self._hub.listeners(self._topic)
                self._hub.deliver_state(self._topic, CHANNEL, frame)
            await asyncio.sleep(INTERVAL_S)

    async def all(self) -> dict[str, Any]:
        """The figures of all processes that answer in time; where they cannot be asked, of this one."""
        missing: int | None = None
        processes: list[Any] = []
        try:
            answers, asked = await self._hub.calls.ask_all(QUESTION)
            processes = list(answers)
            missing = max(0, asked - len(processes))
        except BrokerUnavailable:
            pass
        if all(figures["process"] != self._hub.calls.process for figures in processes):
            processes.append(self.own())
            missing = missing and missing - 1
        processes.sort(key=lambda figures: (figures["host"], figures["pid"]))
        return {"at": rules.iso_ms(int(time.time() * 1000)), "processes": processes, "missing": missing}

    def own(self) -> dict[str, Any]:
        """The figures of this process."""
        hub, shards_away = self._hub, list(self._broker.shards_away)
        consoles = hub.listeners(self._topic)
        broker = "away" if not self._broker.ready else "degraded" if shards_away else "ok"
        return {
            "process": hub.calls.process,
            "host": platform.node(),
            "pid": os.getpid(),
            "version": self._version,
            "up_ms": int((time.monotonic() - self._began) * 1000),
            "streams": len(hub) - consoles,
            "topics": hub.topic_count - (len(OWN) if consoles else 0),
            "publishes": self._publishing.accepted,
            "events": hub.events,
            "deliveries": max(0, hub.deliveries - self._delivered),
            "resets": hub.counts["resets"],
            "ready": self._broker.ready and not hub.draining,
            "draining": hub.draining,
            "broker": broker,
            "shards_away": shards_away,
            "top": self._top(),
        }

    def _top(self) -> list[dict[str, Any]]:
        if time.monotonic() - self._crowded_at >= CROWDED_S:
            pairs = self._hub.crowded(MAX_CROWDED + len(OWN))
            self._crowded = [{"channel": name, "streams": n} for name, n in pairs if name not in OWN][:MAX_CROWDED]
            self._crowded_at = time.monotonic()
        return self._crowded


class ConsoleStream(StreamEndpoint):
    """`GET /v1/console/stream`: a stream of figures, for an API key with the scope `admin`."""

    def _listener(self, connection: HTTPConnection) -> Subscriber:
        publisher_of(connection.app.state.auth, connection.headers.get("authorization"), ADMIN)
        return Subscriber(USER, None, OWN, expires_at=float("inf"))


@router.get("", summary="Figures of all processes", responses={200: {"model": ConsoleFigures}})
async def console_figures(request: Request) -> Response:
    """What every process tells of itself, and how many did not answer."""
    _require_console(request)
    return json_response(await request.app.state.console.all())


@router.get(
    "/inbox",
    summary="A user's messages",
    responses={200: {"model": UserMessages}},
    openapi_extra={
        "parameters": [
            {"name": "user", "in": "query", "required": True, "schema": {"type": "string"}},
            {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "default": 25, "minimum": 1, "maximum": MAX_PAGE},
            },
        ]
    },
)
async def console_inbox(request: Request) -> Response:
    """The newest messages to the user and to `all`. Those to groups are not among them: only tokens say which groups a
    user has."""
    _require_console(request)
    user = rules.name(request.query_params.get("user"), "user")
    limit = whole_number(request, "limit", default=25, low=1, high=MAX_PAGE)
    broker: Broker = request.app.state.broker
    page = await broker.inbox(user, (f"user:{user}", "all"), limit=limit, before=None, unread_only=False)
    answer = {"user": user, "messages": list(page.messages), "more": page.more, "unread": page.unread}
    return json_response(answer)


def _require_console(request: Request) -> None:
    """Raises `Unauthenticated` or `NotAllowed` without an admin's key, and `NotFound` where there is no console."""
    publisher(request, ADMIN)
    if not request.app.state.settings.console:
        raise NotFound("the console is disabled; NOTIFIER_CONSOLE=true enables it")
