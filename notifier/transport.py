"""Streams on a transport of asyncio: encoded HTTP chunks are written straight to the connection.

An event to many streams then costs little more than the kernel's `send` for each.

Must not know: the hub, brokers, authentication.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final, Protocol, cast

from notifier.frames import EncodedFrame
from notifier.stream import Stream, TextStream

LAST_CHUNK: Final = b"0\r\n\r\n"


class Connection(Protocol):
    """The part of a transport's protocol that a stream uses."""

    on_drained: Callable[[], None] | None  # called by `resume_writing`, once


class TransportStream(Stream):
    """Writes chunks to the connection's transport, after the response head that ASGI wrote (`head`; may be empty)."""

    __slots__ = ("_socket_send", "_transport", "_written")

    def __init__(self, transport: asyncio.WriteTransport, head: bytes, **fields: object) -> None:
        super().__init__(**fields)  # type: ignore[arg-type]  # the fields of Stream, by name
        if head:
            self._out.append(EncodedFrame.raw(head))
        self._transport = transport
        self._written = 0
        # asyncio's `write` costs as much again as the kernel's `send`. It is needed for what the kernel does not accept
        # at once, and for transports without a plain socket (TLS). The transport owns the socket: once it has closed
        # it, a late send fails instead of reaching another connection.
        self._socket_send = getattr(getattr(transport, "_sock", None), "send", None)
        # An earlier response on this connection may still be in the transport's buffer; nothing may overtake it.
        self.send = None if self.backlog_bytes else self._socket_send

    @property
    def backlog_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def accepted_bytes(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    @property
    def acknowledged_bytes(self) -> int:
        return self.accepted_bytes - _unacknowledged_bytes(self._transport)

    def call_when_drained(self, callback: Callable[[], None]) -> None:
        connection = cast(Connection, self._transport.get_protocol())
        connection.on_drained = None
        if self.backlog_bytes <= 1:
            callback()
            return
        connection.on_drained = callback
        # Resume at an empty buffer. Not `high=0`: TLS transports pause at `high`, others above it.
        self._transport.set_write_buffer_limits(high=1, low=0)

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
                wrote = 0  # full or closed; the transport finds out which
            if wrote == len(data):
                return
            data = data[wrote:]
        self.write_remainder(data)

    def write_remainder(self, data: bytes) -> None:
        if self._transport.is_closing():
            self.send = None
            return
        self._written += len(data)
        self._transport.write(data)
        # Nothing may overtake the transport's buffer: no direct sends until the reader has caught up.
        self.send = None if self.backlog_bytes or self._states else self._socket_send

    def release_states(self) -> None:
        super().release_states()
        if not self._transport.is_closing():
            self.send = self._socket_send

    def end(self, farewell: EncodedFrame | None) -> None:
        self.send = None
        if self._transport.is_closing():
            return
        if self.backlog_bytes:
            # No room for a farewell; waiting for it would let the reader keep the connection open at will.
            self._transport.abort()
            return
        if farewell is not None:
            self._out.append(farewell)
        self.flush()
        self.send = None
        self._transport.write(LAST_CHUNK)
        self._transport.close()


class TextTransportStream(TextStream, TransportStream):
    """Has no direct path: rounds write the frame of all streams there."""

    __slots__ = ()

    def __init__(self, transport: asyncio.WriteTransport, head: bytes, **fields: object) -> None:
        super().__init__(transport, head, **fields)
        self.send = self._socket_send = None

    def _write_out(self) -> None:
        TransportStream.flush(self)


def _unacknowledged_bytes(transport: asyncio.WriteTransport) -> int:
    """Bytes in the kernel that the peer has not acknowledged; 0 where the system does not say."""
    sock = transport.get_extra_info("socket")
    if sys.platform != "linux" or sock is None:
        return 0
    import fcntl  # not on every system
    import termios

    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")  # for sockets: SIOCOUTQ, tcp(7)
    except (OSError, ValueError):
        return 0  # closed
    return int.from_bytes(answer, sys.byteorder)
