"""One open stream: what it is told is put in order, and written to its connection within bounds.

Two ways out. `TransportStream` writes ready HTTP chunks straight to the connection, which is what makes one event to
many streams cost what the kernel's `send` costs. `QueuedStream` feeds sse-starlette's response over a bounded queue,
for servers that do not offer the transport.

Must not know: brokers, auth, who publishes.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Final

from notifier.event import Cursor
from notifier.frames import EncodedFrame
from notifier.rounds import OPENING, Item

MAX_REPEAT_KEYS: Final = 16
"""Ids of messages that come in parts which a stream remembers; the parts follow each other closely."""
MAX_STATES: Final = 1000
"""Tasks whose newest state waits for a slow reader. More are dropped: the next snapshot has them."""
MAX_QUEUED: Final = 1000
"""Frames waiting in a `QueuedStream`; one more and it is ended as slow."""

LAST_CHUNK: Final = b"0\r\n\r\n"


class Stream(ABC):
    """A stream of one user. The hub sets its cursor and opening state; see `rounds.Stream`."""

    __slots__ = (
        "_out", "_repeats", "_states", "address", "channels", "cursor", "ends_at", "ends_why", "epoch", "greeted",
        "held", "opening", "revoked", "send", "seq", "slot", "topics", "user",
    )  # fmt: skip

    def __init__(
        self,
        *,
        user: str,
        address: str,
        channels: tuple[str, ...],
        topics: tuple[str, ...],
        cursor: Cursor | str | None,
        ends_at: float,
        ends_why: str,
    ) -> None:
        self.user = user
        self.address = address
        self.channels = channels
        self.topics = topics
        self.cursor = cursor
        self.ends_at = ends_at
        self.ends_why = ends_why
        self.epoch = ""
        self.seq = OPENING
        self.send: Callable[[bytes], int] | None = None
        self.opening = 1
        self.greeted = False
        self.revoked: str | None = None
        self.slot = 0
        self.held: list[Item] = []
        self._out: list[EncodedFrame] = []
        self._states: dict[str, EncodedFrame] | None = None
        self._repeats: dict[str, None] | None = None

    @property
    @abstractmethod
    def backlog_bytes(self) -> int:
        """Bytes that wait because the reader does not take them."""

    @property
    @abstractmethod
    def accepted_bytes(self) -> int:
        """A number that grows whenever the reader takes something."""

    @abstractmethod
    def flush(self) -> None:
        """Writes what was offered."""

    @abstractmethod
    def rest(self, data: bytes) -> None:
        """Takes the end of a write of which the socket took only the beginning."""

    @abstractmethod
    def end(self, farewell: EncodedFrame | None) -> None:
        """Writes a farewell when there is room for it, and closes. Calling it again does nothing."""

    def offer(self, frame: EncodedFrame) -> None:
        """Takes a frame for the next flush."""
        self._out.append(frame)

    def offer_state(self, key: str, frame: EncodedFrame) -> None:
        """Takes a frame of which only the newest counts: behind a slow reader it replaces the one before it."""
        if key and (self._states or self.backlog_bytes):
            if self._states is None:
                self._states = {}
            if key in self._states or len(self._states) < MAX_STATES:
                self._states[key] = frame
        else:
            self._out.append(frame)

    def release_states(self) -> None:
        """The reader caught up: the newest states go out."""
        if self._states:
            self._out.extend(self._states.values())
            self._states = None

    def forget_states(self) -> None:
        """Drops the states that wait: newer ones are about to be written."""
        self._states = None

    def is_repeat(self, key: str) -> bool:
        """Whether this key was handed out before; remembers it."""
        if self._repeats is None:
            self._repeats = {}
        if key in self._repeats:
            return True
        self._repeats[key] = None
        if len(self._repeats) > MAX_REPEAT_KEYS:
            del self._repeats[next(iter(self._repeats))]
        return False


class TransportStream(Stream):
    """Writes chunks to the connection's transport, after the head of the answer that ASGI has made."""

    __slots__ = ("_straight", "_transport", "_written")

    def __init__(self, transport: asyncio.WriteTransport, head: bytes, **fields: object) -> None:
        super().__init__(**fields)  # type: ignore[arg-type]  # the fields of Stream, by name
        if head:
            self._out.append(EncodedFrame.bare(head))
        self._transport = transport
        self._written = 0
        # asyncio's own writes cost as much again as the kernel's. They are needed for what the kernel does not take at
        # once, and where the transport is not that of a plain socket (TLS). The socket is the transport's: when that
        # closes it, a late send fails and goes nowhere else.
        self._straight = getattr(getattr(transport, "_sock", None), "send", None)
        # An answer before this one may still wait in the transport: nothing may overtake it.
        self.send = None if self.backlog_bytes else self._straight

    @property
    def backlog_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def accepted_bytes(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    def flush(self) -> None:
        out = self._out
        if not out:
            return
        data = out[0].chunk if len(out) == 1 else b"".join([frame.chunk for frame in out])
        out.clear()
        if self.send is not None:
            try:
                wrote = self.send(data)
            except OSError:
                wrote = 0  # full, or gone: the transport finds out which
            if wrote == len(data):
                return
            data = data[wrote:]
        self.rest(data)

    def rest(self, data: bytes) -> None:
        if self._transport.is_closing():
            self.send = None
            return
        self._written += len(data)
        self._transport.write(data)
        # Nothing may overtake what waits, so the short way is closed until the reader has caught up.
        self.send = None if self.backlog_bytes or self._states else self._straight

    def release_states(self) -> None:
        super().release_states()
        if not self._transport.is_closing():
            self.send = self._straight

    def end(self, farewell: EncodedFrame | None) -> None:
        self.send = None
        if self._transport.is_closing():
            return
        if self.backlog_bytes:
            # No room for a farewell, and waiting for room would hold the connection for as long as it likes.
            self._transport.abort()
            return
        if farewell is not None:
            self._out.append(farewell)
        self.flush()
        self.send = None
        self._transport.write(LAST_CHUNK)
        self._transport.close()


class QueuedStream(Stream):
    """Hands frames to an ASGI response over a bounded queue."""

    __slots__ = ("_closed", "_queue", "_taken")

    def __init__(self, **fields: object) -> None:
        super().__init__(**fields)  # type: ignore[arg-type]  # the fields of Stream, by name
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._taken = 0
        self._closed = False

    @property
    def backlog_bytes(self) -> int:
        # Frames have no common size; the bound is in frames, and what is over it counts as over any number of bytes.
        return 1 << 40 if self._queue.qsize() > MAX_QUEUED else 0

    @property
    def accepted_bytes(self) -> int:
        return self._taken

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

    def rest(self, data: bytes) -> None:
        raise AssertionError("a queue takes all or nothing")

    async def frames(self) -> AsyncIterator[bytes]:
        """What the response writes, until the stream is ended."""
        while (frame := await self._queue.get()) is not None:
            self._taken += 1
            yield frame
