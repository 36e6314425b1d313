"""A client that behaves as a careful browser: it keeps its cursor, reconnects after every end, and records the events
that it receives. Many of them run in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

from tests.support import subscriber_token


@dataclass
class StreamEvent:
    """One event of a stream."""

    id: str
    type: str
    data: Any
    at: float = 0.0
    """When it arrived, in monotonic seconds."""

    @property
    def seq(self) -> int:
        return int(self.id.rpartition("-")[2])


@dataclass(eq=False)
class Listener:
    """One user's stream. `run` reconnects until it is cancelled; `cut` drops the connection without a farewell."""

    port: int
    user: str
    groups: tuple[str, ...] = ()
    cursor: str = ""
    query: str = ""
    """Of the stream's address, with its question mark."""
    events: list[StreamEvent] = field(default_factory=list)
    connects: int = 0
    live: bool = False
    comes_back: bool = True
    pause_s: float = 0.02
    forgets: bool = False
    """Resets its last id with each response, as some clients in other languages do."""
    bytes_per_s: float = 0
    """Reads no faster than this, and its kernel takes little more; 0: no limit."""
    ended_cleanly: int = 0
    retry_ms: int = 0
    _writer: asyncio.StreamWriter | None = None
    _has_left: bool = False
    _of: dict[str, list[StreamEvent]] = field(default_factory=lambda: defaultdict(list))
    """By type: conditions that are polled ask for them again and again."""

    @property
    def messages(self) -> list[StreamEvent]:
        return self._of["message"]

    @property
    def resets(self) -> list[StreamEvent]:
        return self._of["reset"]

    def of(self, kind: str) -> list[StreamEvent]:
        return self._of[kind]

    @property
    def longest_degraded_s(self) -> float:
        """The longest time between `degraded` true and the false that followed."""
        events = self.of("degraded")
        return max((end.at - begin.at for begin, end in pairwise(events) if begin.data["degraded"]), default=0.0)

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._listen()
            self.live = False
            if not self.comes_back:
                return
            await asyncio.sleep(self.pause_s)

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    def leave(self) -> None:
        """Cut, and do not come back, also where the next connection is being opened at this moment."""
        self.comes_back, self._has_left = False, True
        self.cut()

    async def _listen(self) -> None:
        limit = 1 << 12 if self.bytes_per_s else 1 << 22
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        if self._has_left:
            writer.transport.abort()
            return
        self._writer = writer
        self.connects += 1
        try:
            token = subscriber_token(self.user, groups=list(self.groups))
            request = f"GET /v1/stream{self.query} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n"
            if self.cursor:
                request += f"Last-Event-ID: {self.cursor}\r\n"
            writer.write(request.encode() + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise ValueError(head)
            if self.forgets:
                self.cursor = ""
            text, began, total = b"", time.monotonic(), 0
            while True:
                if self.bytes_per_s:
                    await asyncio.sleep(began + total / self.bytes_per_s - time.monotonic())
                size = int(await reader.readuntil(b"\r\n"), 16)
                chunk = (await reader.readexactly(size + 2))[:-2]
                if size == 0:
                    self.ended_cleanly += 1
                    return
                text += chunk
                total += size
                *blocks, text = text.split(b"\n\n")
                for block in blocks:
                    self._receive(block.decode())
        finally:
            writer.transport.abort()

    def _receive(self, block: str) -> None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        if "retry" in fields:
            self.retry_ms = int(fields["retry"])
        if "event" not in fields:
            return
        if "id" in fields:
            self.cursor = fields["id"]
        event = StreamEvent(fields.get("id", ""), fields["event"], _parsed(fields["data"]), time.monotonic())
        self.live = self.live or event.type == "hello"
        self._take(event)

    def _take(self, event: StreamEvent) -> None:
        self.events.append(event)
        self._of[event.type].append(event)


@lru_cache(maxsize=256)
def _parsed(data: str) -> Any:
    """The data of an event, which most streams of a test receive. Tests do not change it."""
    return json.loads(data)


async def until(condition: Callable[[], Any], timeout_s: float = 20, what: str = "the condition") -> None:
    """Wait for a condition without blocking the event loop."""
    loop = asyncio.get_running_loop()
    deadline, pause_s = loop.time() + timeout_s, 0.01
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await asyncio.sleep(pause_s)
        pause_s = min(0.05, pause_s * 1.1)


@contextlib.asynccontextmanager
async def listening(*listeners: Listener) -> Any:
    """Run listeners; enter when each is live; cancel them on exit."""
    running = [asyncio.create_task(listener.run()) for listener in listeners]
    try:
        await until(lambda: all(listener.live for listener in listeners), what="every stream's hello")
        yield running
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
