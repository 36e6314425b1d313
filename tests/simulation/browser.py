"""A client that reads a stream as browsers do: reconnects with its last id after the pause that the stream names."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from notifier.event import Cursor, parse_cursor
from tests.eventstream import Dispatched, Parser
from tests.simulation.oracle import Witness
from tests.simulation.sockets import StreamTransport

if TYPE_CHECKING:
    from tests.simulation.world import World


class Dechunker:
    """The body of a response in chunks, piece by piece."""

    def __init__(self) -> None:
        self._data = b""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        self._data += data
        body = b""
        while (line := self._data.find(b"\r\n")) >= 0:
            size = int(self._data[:line], 16)
            end = line + 2 + size
            if len(self._data) < end + 2:
                break
            assert self._data[end : end + 2] == b"\r\n", "a chunk does not end where it says"
            assert not self.ended, "bytes after the last chunk"
            body += self._data[line + 2 : end]
            self.ended = not size
            self._data = self._data[end + 2 :]
        return body


class Browser:
    """One client. `habit` is how it reads: fast, slow, or with long pauses."""

    def __init__(self, world: World, number: int, user: str, channels: tuple[str, ...], habit: str) -> None:
        self.world = world
        self.chance = world.chance(f"browser-{number}")
        self.user, self.channels, self.habit = user, channels, habit
        self.is_forgetful = self.chance.random() < 0.3
        """Resets its last id with the first event of each response."""
        self.last_id = ""
        self.retry_ms = 1000
        self.transport: StreamTransport | None = None
        self.is_greeted = False
        self.stalled_until = 0.0
        topics = world.processes[0].broker.topics(user, channels)
        self.witness = Witness(f"client {number} ({user})", topics, world.ledger, self._report)

    def _report(self, what: str) -> None:
        self.world.report(f"{self.witness.name}: {what}")

    async def run(self) -> None:
        while True:
            await self._connect_once()
            self.transport, self.is_greeted = None, False
            pause_s = min(self.retry_ms / 1000, 20.0)
            await asyncio.sleep(pause_s * (1 if self.world.is_quiet else self.chance.choice((0.2, 1, 1, 3))))

    async def _connect_once(self) -> None:
        process = self.chance.choice([process for process in self.world.processes if process.is_up] or [None])
        if process is None:
            return
        asked = parse_cursor(self.last_id) if self.last_id else None
        capacity = self.chance.choice((600, 2_000, 20_000))
        self.transport = process.accept(self.user, self.channels, asked, capacity)
        if self.transport is None:
            return
        self.world.note(f"{self.witness.name} connects with {asked} to {process.name}")
        try:
            await self._read(self.transport, asked)
        except ConnectionResetError:
            self.world.note(f"{self.witness.name} is cut at {self.last_id}")

    async def _read(self, transport: StreamTransport, asked: Cursor | None) -> None:
        self.witness.connects()
        dechunker = Dechunker()
        parser = Parser(last_event_id="" if self.is_forgetful else self.last_id)
        parser._id = parser.last_event_id
        while data := await transport.read(self._portion()):
            for event in parser.feed(dechunker.feed(data)):
                self.last_id = event.id
                self._dispatch(event, asked)
            if parser.retry_ms is not None:
                self.retry_ms = parser.retry_ms
            await asyncio.sleep(self._pause_s())

    def _portion(self) -> int:
        if self.world.is_quiet or self.habit == "fast":
            return 1 << 16
        return self.chance.choice((50, 200, 1000))

    def _pause_s(self) -> float:
        if self.world.is_quiet:
            return 0.001
        if (stall_s := self.stalled_until - self.world.loop.time()) > 0:
            return stall_s
        if self.habit == "slow":
            return self.chance.uniform(0, 0.5)
        if self.habit == "paused" and self.chance.random() < 0.05:
            return self.chance.uniform(0, 8)
        return self.chance.uniform(0, 0.005)

    def _dispatch(self, event: Dispatched, asked: Cursor | None) -> None:
        cursor = parse_cursor(event.id)
        at = (cursor.epoch, cursor.seq) if cursor else None
        place = self.witness.place
        self.world.note(f"{self.witness.name} gets {event.event} {event.id} {event.data[:60]}")
        data: Any = json.loads(event.data)
        if event.event == "hello":
            self.witness.hello(at, data, (asked.epoch, asked.seq) if asked else None)
            self.is_greeted = True
        elif event.event == "reset":
            self.witness.reset(at, data)
            self.world.counts["resets"] += 1
            if self.world.is_gentle:
                self._report(f"was reset although no incident needs it: {data['reason']}")
        elif event.event == "task":
            self.witness.tasks[data["id"]] = data
        elif event.event in ("x", "message"):
            # Without a new id, the parser repeats the last.
            self.witness.event(None if at == place else at, event.data)
        else:
            if event.event == "degraded":
                self.witness.order_ends()
            self.witness.place_again(at, event.event)

    def leave(self, server_notices_after_s: float) -> None:
        """Lose the connection on the client's side."""
        transport = self.transport
        if transport is not None and transport.is_open:
            transport.leave(server_notices_after_s=server_notices_after_s)
            self.world.restart_browser(self)
