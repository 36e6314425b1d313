"""One connection: its requests, until a stream takes it over.

Must not know: channels, Redis, the content of a stream.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from notifier.direct import DirectProtocol

TAKE_OVER: Final = "notifier.take_over"
"""Key in `scope["extensions"]` of the request's `ClientConnection`."""


class Protocol(DirectProtocol):
    """An HTTP connection that a request can hand over to a stream for the rest of its life.

    What only a request needs (scope, headers, parser, the running ASGI call) is released then: more than half of the
    memory of an open connection.
    """

    __slots__ = ("_lost", "on_drained", "on_lost")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_lost: Callable[[], None] | None = None
        """Set by the stream: called when the connection ends, before its descriptor is closed and may be reused."""
        self.on_drained: Callable[[], None] | None = None
        """Set by the stream: called once when the kernel has accepted what the transport buffered."""
        self._lost = False

    def begin_asgi_request(self) -> None:
        super().begin_asgi_request()
        self.scope["extensions"] = {TAKE_OVER: {"connection": ClientConnection(self, self.cycle)}}

    def hand_over(self) -> bool:
        """Hand the connection over to a stream. False if it is lost."""
        if self._lost or self.transport.is_closing() or not self.stop_reading():
            return False
        self._forget_requests()
        return True

    def _forget_requests(self) -> None:
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]

    def resume_writing(self) -> None:
        super().resume_writing()
        if (on_drained := self.on_drained) is not None:
            self.on_drained = None
            on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)
        # The last request and this protocol refer to each other, and asyncio's transport to itself. Break these cycles:
        # after many ends at once, the garbage collector would pause the streams that stay.
        self._forget_requests()
        if hasattr(self.transport, "_read_ready_cb"):
            self.transport._read_ready_cb = None


class ClientConnection:
    """A request's access to its connection."""

    __slots__ = ("_protocol", "_request")

    def __init__(self, protocol: Protocol, request: RequestResponseCycle) -> None:
        self._protocol = protocol
        # The request itself, since the protocol may already be at the next one in the same packet. Weakly, since the
        # request refers to the scope and the scope to this: a cycle is left to the garbage collector, which pauses 9 ms
        # for each thousand requests.
        self._request = weakref.ref(request)

    def hold(self) -> None:
        """Buffer what the request writes from now on: `take_over` returns it, to be sent with the first event."""
        if (request := self._request()) is not None:
            request.transport = _Buffer(request.transport)  # type: ignore[assignment]  # the methods a request calls

    def take_over(self) -> tuple[Protocol, bytes] | None:
        """The connection, once the response has begun, with the buffered bytes; None if it is lost.

        The ASGI call should return then without completing the response.
        """
        buffered = b""
        if (request := self._request()) is not None:
            # uvicorn does not complete the response if the client has disconnected.
            request.disconnected = True
            written_to: object = request.transport
            if isinstance(written_to, _Buffer):
                buffered = written_to.data
        return (self._protocol, buffered) if self._protocol.hand_over() else None


class _Buffer:
    """Replaces a request's transport and buffers writes. `close`, called for a request that failed, sends them."""

    __slots__ = ("_transport", "data")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self._transport.write(self.data)
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()
