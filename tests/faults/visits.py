"""One connection of a device: a stream or a poll, which notes what its client really received.

Nothing here asks the service what it believes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support import bearer, subscriber_token

SMALL_BUFFER_BYTES = 4096
POLLED = "polled"
"""How a client received what the answer to a poll had."""


def seq_of(cursor: str) -> int:
    """The number in a cursor; 0 if it has none."""
    seq = cursor.rpartition("-")[2]
    return int(seq) if seq.isdecimal() else 0


@dataclass(eq=False)
class Device:
    """A browser of the user: it keeps its cursor from one connection to the next."""

    name: str
    user: str
    groups: tuple[str, ...]
    cursor: str = ""

    @property
    def headers(self) -> dict[str, str]:
        token = subscriber_token(self.user, groups=list(self.groups))
        return {**bearer(token), "User-Agent": self.name}


@dataclass(eq=False)
class Visit:
    """One connection. `start` is the cursor that it sent."""

    device: Device
    start: str
    form: str = ""
    received: dict[str, str] = field(default_factory=dict)
    """By id of a message: `written`, `replayed` if it was in the replay after `hello`, `POLLED`, or `corrected` if only
    its correction came."""
    seqs: dict[str, int] = field(default_factory=dict)
    """By id of a message: the place that its event had on this connection."""
    marks: set[str] = field(default_factory=set)
    """Fences that came: see `History.fence`."""
    reset: str = ""
    """The reason of its reset."""
    connection: str = ""
    is_open: bool = False
    ended: str = ""
    """`cut` by the client, `killed` with its process, else the reason of the `bye`."""
    answered_at: float = 0.0
    """When a poll had its answer (s since 1970)."""
    skips: set[str] = field(default_factory=set)
    """Messages that left out this connection."""
    is_slow: bool = False
    _left_of_replay: int = 0
    _writer: asyncio.StreamWriter | None = None
    _task: asyncio.Task[None] | None = None
    _reads: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, port: int, *, slow: bool = False) -> None:
        """Connect, and return when `hello`, the reset and the replay are there."""
        sock = socket.socket()
        sock.setblocking(False)
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=SMALL_BUFFER_BYTES if slow else 1 << 20)
        headers = {"Host": "test", **self.device.headers} | ({"Last-Event-ID": self.start} if self.start else {})
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        query = f"?format={self.form}" if self.form else ""
        self._writer.write(f"GET /v1/stream{query} HTTP/1.1\r\n{head}\r\n".encode())
        status = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in status.split(b"\r\n")[0], status
        opened = asyncio.get_running_loop().create_future()
        self._reads.set()
        self._task = asyncio.create_task(self._read(reader, opened))
        await asyncio.wait_for(opened, 20)

    async def _read(self, reader: asyncio.StreamReader, opened: asyncio.Future[None]) -> None:
        text = b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while size := int(await reader.readuntil(b"\r\n"), 16):
                text += (await reader.readexactly(size + 2))[:-2]
                *blocks, text = text.split(b"\n\n")
                for block in blocks:
                    self._receive(block.decode())
                if self.connection and not self._left_of_replay and not opened.done():
                    self.is_open = True
                    opened.set_result(None)
                await self._reads.wait()
        self.is_open = False
        self.ended = self.ended or "killed"
        if self._writer is not None:
            self._writer.transport.abort()

    def _receive(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" not in fields:
            return
        name, data = fields["event"], json.loads(fields["data"]) if self.form != "turbo" else fields["data"]
        if "id" in fields:
            self.device.cursor = fields["id"]
        if name == "hello":
            data = json.loads(fields["data"])
            self.connection, self._left_of_replay = data["connection"], data["replayed"]
            if not data["recovered"]:
                self._left_of_replay = 1  # the reset
        elif name == "reset":
            self.reset, self._left_of_replay = data["reason"], 0
        elif name == "bye":
            self.ended = data["reason"] if isinstance(data, dict) else "bye"
        else:
            self._note(name, data, "replayed" if self._left_of_replay else "written", fields.get("id"))
            if "id" in fields and self._left_of_replay:
                self._left_of_replay -= 1

    def _note(self, name: str, data: Any, how: str, event_id: str | None) -> None:
        if name == "message":
            self.received.setdefault(data["id"], how if event_id else "corrected")
            if event_id:
                self.seqs[data["id"]] = seq_of(event_id)
        elif name == "fence":
            self.marks.add(data["mark"] if isinstance(data, dict) else json.loads(data)["mark"])

    async def poll(self, client: httpx.AsyncClient) -> None:
        """One poll that does not wait. Its record may be that of the polls before, so what it answers is replayed, or
        written."""
        self.form = "poll"
        query = {"wait_s": "0", **({"after": self.start} if self.start else {})}
        answer = (await client.get("/v1/poll", params=query, headers=self.device.headers)).raise_for_status().json()
        for event in answer["events"]:
            if event["event"] == "reset":
                self.reset = event["data"]["reason"]
            else:
                self._note(event["event"], event["data"], POLLED, event["id"])
        self.device.cursor = answer["cursor"] or self.device.cursor
        self.answered_at = time.time()
        self.ended = "answered"

    def stop_reading(self) -> None:
        self.is_slow = True
        self._reads.clear()

    def go_on_reading(self) -> None:
        self._reads.set()

    async def cut(self) -> None:
        """Leave without a farewell."""
        self.ended = self.ended or "cut"
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writer is not None:
            self._writer.transport.abort()
        self.is_open = False
