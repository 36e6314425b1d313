"""A stream for servers that do not offer their transport: feeds sse-starlette's response through a bounded queue.

Must not know: brokers, authentication, who publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from notifier.frames import EncodedFrame
from notifier.stream import Stream, TextStream

MAX_QUEUED: Final = 1000
"""Frames that may wait. With more, the stream is ended as slow."""


class QueuedStream(Stream):
    """Passes frames to an ASGI response through a bounded queue."""

    __slots__ = ("_closed", "_dequeued", "_on_drained", "_queue")

    def __init__(self, **fields: object) -> None:
        super().__init__(**fields)  # type: ignore[arg-type]  # the fields of Stream, by name
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._dequeued = 0
        self._on_drained: Callable[[], None] | None = None
        self._closed = False

    @property
    def backlog_bytes(self) -> int:
        # The queue is bounded in frames, not bytes: over the bound, report more bytes than any limit allows.
        return 1 << 40 if self._queue.qsize() > MAX_QUEUED else 0

    @property
    def accepted_bytes(self) -> int:
        return self._dequeued

    def call_when_drained(self, callback: Callable[[], None]) -> None:
        if self._queue.empty():
            callback()
        else:
            self._on_drained = callback

    def flush(self) -> None:
        out, self._out = self._out, []
        if not self._closed:
            for frame in out:
                self._queue.put_nowait(frame.plain)

    def end(self, farewell: EncodedFrame | None) -> None:
        if self._closed:
            return
        if farewell is not None:
            self._out.append(farewell)
        self.flush()
        self._closed = True
        self._queue.put_nowait(None)

    def write_remainder(self, data: bytes) -> None:
        raise AssertionError("a queue accepts a frame whole")

    async def frames(self) -> AsyncIterator[bytes]:
        """The frames to respond with, until the stream is ended."""
        while (frame := await self._queue.get()) is not None:
            self._dequeued += 1
            yield frame
            if self._queue.empty() and (on_drained := self._on_drained) is not None:
                self._on_drained = None
                on_drained()


class QueuedTextStream(TextStream, QueuedStream):
    __slots__ = ()

    def _write_out(self) -> None:
        QueuedStream.flush(self)
