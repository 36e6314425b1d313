"""A client that listens as a careful browser would: it keeps its cursor, comes back after every end, and writes down
what it was given. Many of them fit into one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.support import subscriber_token


@dataclass
class Heard:
    """One event of a stream."""

    id: str
    type: str
    data: Any
    at: float = 0.0
    """When it came (monotonic seconds)."""

    @property
    def seq(self) -> int:
        return int(self.id.rpartition("-")[2])


@dataclass(eq=False)
class Listener:
    """One user's stream. `run` goes on until it is cancelled; `cut` drops the connection as a network would."""

    port: int
    user: str
    groups: tuple[str, ...] = ()
    cursor: str = ""
    heard: list[Heard] = field(default_factory=list)
    connects: int = 0
    live: bool = False
    comes_back: bool = True
    pause_s: float = 0.02
    ended_cleanly: int = 0
    retry_ms: int = 0
    _writer: asyncio.StreamWriter | None = None

    @property
    def messages(self) -> list[Heard]:
        return [one for one in self.heard if one.type == "message"]

    @property
    def resets(self) -> list[Heard]:
        return [one for one in self.heard if one.type == "reset"]

    def of(self, kind: str) -> list[Heard]:
        return [one for one in self.heard if one.type == kind]

    @property
    def longest_degraded_s(self) -> float:
        """The longest time between `degraded` true and the false that followed."""
        seen = self.of("degraded")
        return max((end.at - begin.at for begin, end in pairwise(seen) if begin.data["degraded"]), default=0.0)

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

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        self._writer = writer
        self.connects += 1
        try:
            token = subscriber_token(self.user, groups=list(self.groups))
            request = f"GET /v1/stream HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n"
            if self.cursor:
                request += f"Last-Event-ID: {self.cursor}\r\n"
            writer.write(request.encode() + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                raise ValueError(head)
            text = b""
            while True:
                size = int(await reader.readuntil(b"\r\n"), 16)
                chunk = (await reader.readexactly(size + 2))[:-2]
                if size == 0:
                    self.ended_cleanly += 1
                    return
                text += chunk
                *blocks, text = text.split(b"\n\n")
                for block in blocks:
                    self._take(block.decode())
        finally:
            writer.transport.abort()

    def _take(self, block: str) -> None:
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
        found = Heard(fields.get("id", ""), fields["event"], json.loads(fields["data"]), time.monotonic())
        self.live = self.live or found.type == "hello"
        self.heard.append(found)


async def until(condition: Callable[[], Any], timeout_s: float = 20, what: str = "the condition") -> None:
    """Waits for a condition without holding the loop."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not come within {timeout_s} s")
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening(*listeners: Listener) -> Any:
    """Runs listeners, waits until each is live, and ends them."""
    running = [asyncio.create_task(one.run()) for one in listeners]
    try:
        await until(lambda: all(one.live for one in listeners), what="every stream's hello")
        yield running
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
