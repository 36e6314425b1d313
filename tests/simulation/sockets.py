"""The connection of a stream: a server's transport with partial writes and small buffers, and the client's end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from tests.simulation.loop import SimulatedLoop


class StreamTransport(asyncio.WriteTransport):
    """What asyncio's socket transport is to a stream. `_sock.send` writes straight to the kernel's buffer."""

    def __init__(self, loop: SimulatedLoop, chance: Any, *, capacity: int, report: Callable[[str], None]) -> None:
        super().__init__()
        self._loop = loop
        self._chance = chance
        self._capacity = capacity
        self._report = report
        self._sock = self
        self._kernel = bytearray()
        self._backlog = bytearray()
        self._closing = False
        self._reset = False
        self._half_open = False
        self._is_write_scheduled = False
        self._lost = False
        self.on_lost: Callable[[], None] = lambda: None
        self.on_drained: Callable[[], None] | None = None
        self._readable = asyncio.Event()

    # The socket

    def send(self, data: bytes) -> int:
        if self._lost or self._reset:
            raise BrokenPipeError
        room = self._capacity - len(self._kernel)
        portion = self._chance.random()
        if room <= 0 or portion < 0.01:
            raise BlockingIOError
        if portion < 0.06:
            room = min(room, self._chance.randrange(1, len(data) + 1))
        accepted = data[:room]
        self._kernel += accepted
        if not self._half_open:
            self._readable.set()
        return len(accepted)

    # asyncio.WriteTransport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            self._report("a stream wrote to a transport that is closed")
            return
        data = bytes(data)
        if not self._backlog and not self._lost:
            with contextlib.suppress(OSError):
                data = data[self.send(data) :]
        self._backlog += data
        self._schedule_write()

    def get_write_buffer_size(self) -> int:
        return len(self._backlog)

    def get_protocol(self) -> Any:
        return self  # has `on_drained`

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The stream asks to be called when the backlog is empty."""

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def close(self) -> None:
        self._closing = True
        self._schedule_write()

    def abort(self) -> None:
        self._closing = self._reset = True
        self._backlog.clear()
        self._lose()

    def _schedule_write(self) -> None:
        if not self._is_write_scheduled:
            self._is_write_scheduled = True
            self._loop.arrive_at(self._loop.time() + self._chance.uniform(0, 0.002), self._write_backlog)

    def _write_backlog(self) -> None:
        """The kernel's buffer has room: what asyncio does in `_write_ready`."""
        self._is_write_scheduled = False
        if self._lost:
            return
        if self._backlog and len(self._kernel) < self._capacity:
            try:
                del self._backlog[: self.send(bytes(self._backlog))]
            except BlockingIOError:
                pass
            except OSError:
                self._lose()
                return
            if self._backlog and len(self._kernel) < self._capacity:
                self._schedule_write()
            elif not self._backlog and (on_drained := self.on_drained) is not None:
                self.on_drained = None
                on_drained()
        if self._closing and not self._backlog:
            self._lose()

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._readable.set()
            self._loop.call_soon(self.on_lost)

    # The client's end

    async def read(self, most: int) -> bytes:
        """Up to `most` bytes; empty at the end. Raises ConnectionResetError."""
        while True:
            if self._reset:
                raise ConnectionResetError
            if self._kernel and not self._half_open:
                data = bytes(self._kernel[:most])
                del self._kernel[:most]
                self._schedule_write()
                return data
            if self._lost and not self._half_open:
                return b""
            self._readable.clear()
            await self._readable.wait()

    def leave(self, *, server_notices_after_s: float) -> None:
        """The client is gone; the server's kernel notices later (its keep-alive or TCP_USER_TIMEOUT)."""
        self._half_open = True
        self._loop.arrive_at(self._loop.time() + server_notices_after_s, self._notice)

    def _notice(self) -> None:
        self._reset = True
        self._backlog.clear()
        self._lose()

    @property
    def is_open(self) -> bool:
        return not self._lost
