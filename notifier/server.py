"""The uvicorn server: its sockets, requests that take their connection over, and the drain before it stops.

uvicorn waits for open responses before the lifespan's shutdown, so streams must be ended from the signal: `shutdown`
here drains first. The application offers `drain(hurry)` in its lifespan state.

Must not know: channels, Redis, what a stream carries.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.supervisors import multiprocess

log = logging.getLogger("notifier.server")

TAKE_OVER: Final = "notifier.take_over"
"""The name in `scope["extensions"]` under which a request finds the way to take its connection over."""

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: a reconnect storm must not see refusals."""

USER_TIMEOUT_MS: Final = 20_000
"""TCP_USER_TIMEOUT (RFC 5482): frees half-open connections, which pings and send timeouts do not notice."""


class Protocol(HttpToolsProtocol):
    """Lets a request take its connection over, which then is a stream and nothing else.

    What a request needs and a stream does not (scope, headers, parser, the running ASGI call) is given back: the
    larger part of what an open connection would cost.
    """

    on_lost: Callable[[], None] | None = None
    """For whoever took the connection over: called when it ends, before its descriptor is closed (and may become
    another connection's)."""
    _taken = False
    _gone = False

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.scope["extensions"] = {TAKE_OVER: {"connection": Connection(self, self.cycle)}}

    def hand_over(self) -> bool:
        """Gives the connection to the stream that its request asked for, unless it is gone."""
        if self._gone or self.transport.is_closing():
            return False
        self._taken = True
        self.flow.resume_reading()  # a body, or a next request, may have stopped it
        self._forget_requests()
        self.parser = None  # type: ignore[assignment]
        self.pipeline.clear()
        return True

    def _forget_requests(self) -> None:
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self._taken:  # whoever listens has no more to say
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        if self.on_lost is not None:
            self.on_lost()
        super().connection_lost(exc)
        # The last request and this refer to each other, and asyncio's transport to itself. Left to the collector, a
        # wave of ends is a pause for those who stay.
        self._forget_requests()
        if hasattr(self.transport, "_read_ready_cb"):
            self.transport._read_ready_cb = None


class Connection:
    """What a request may do with its connection."""

    __slots__ = ("_protocol", "_request")

    def __init__(self, protocol: Protocol, request: RequestResponseCycle) -> None:
        self._protocol = protocol
        # This request: the next one may be in the same packet. Weakly, since the request holds the scope, and the scope
        # this: what refers to itself is freed by the collector only, a pause of 9 ms for each thousand requests.
        self._request = weakref.ref(request)

    def hold(self) -> None:
        """From now on what the request writes is kept: `take_over` hands it on, to go out with the first event."""
        if (request := self._request()) is not None:
            request.transport = _Held(request.transport)  # type: ignore[assignment]  # as much of it as a request uses

    def take_over(self) -> tuple[Protocol, bytes] | None:
        """The connection, once the response has begun, and what of it was held back; None when it is gone.

        The ASGI call should return now; nobody answers for it.
        """
        held = b""
        if (request := self._request()) is not None:
            # uvicorn does not complete the response of a call whose client has left.
            request.disconnected = True
            written_to: object = request.transport
            if isinstance(written_to, _Held):
                held = written_to.kept
        return (self._protocol, held) if self._protocol.hand_over() else None


class _Held:
    """Stands for a request's connection and keeps what is written. A request that fails meanwhile closes it: then that
    goes out."""

    __slots__ = ("_transport", "kept")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self.kept = b""

    def write(self, data: bytes) -> None:
        self.kept += data

    def close(self) -> None:
        self._transport.write(self.kept)
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class Server(uvicorn.Server):
    """Drains before it shuts down; a second signal stops it at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """An application that cannot be built would fail again: the supervisor stops instead of trying for ever."""
        try:
            if not self.config.loaded:
                self.config.load()
        except Exception:
            log.critical("the application cannot be built", exc_info=True)
            sys.exit(STARTUP_FAILURE)
        await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain = self.lifespan.state.get("drain")
        if drain is not None and not self.force_exit:
            await drain(lambda: self.force_exit)
        await super().shutdown(sockets)


class _Worker(multiprocess.Process):
    """A worker process that runs our server."""

    @property
    def server(self) -> Server:
        if not isinstance(self._server, Server):
            self._server = Server(config=self.config)
        return self._server


class _Supervisor(multiprocess.Multiprocess):
    """uvicorn's supervisor, over workers that each accept on a socket of their own.

    Workers on one socket would share badly: whoever wakes first takes the whole queue. With SO_REUSEPORT the kernel
    spreads connections evenly. The sockets stay open here, so that what waits in a dead worker's queue is served by its
    successor.
    """

    def __init__(self, how: Config, sockets: list[socket.socket]) -> None:
        super().__init__(how, sockets)
        self._taken: dict[_Worker, socket.socket] = {}
        # The supervisor has no parameter for the class of its workers; each of its methods names this one.
        multiprocess.Process = self._worker  # type: ignore[misc, assignment]

    def _worker(self, how: Config, sockets: list[socket.socket]) -> _Worker:
        sock = self._free_socket(sockets)
        worker = _Worker(how, [sock])
        self._taken[worker] = sock
        return worker

    def _free_socket(self, sockets: list[socket.socket]) -> socket.socket:
        """One that no living worker has; in a rolling restart, that of the oldest worker, which is replaced next."""
        self._taken = {worker: sock for worker, sock in self._taken.items() if worker.process.is_alive()}
        taken = list(self._taken.values())
        return min(sockets, key=lambda sock: (taken.count(sock), taken.index(sock) if sock in taken else -1))

    def join_all(self) -> None:
        """A second signal hurries the workers as it hurries a single process."""
        while any(worker.process.is_alive() for worker in self.processes):
            for worker in self.processes:
                worker.process.join(0.05)
            if self.signal_queue:
                for worker in self.processes:
                    worker.process.kill()


def listen(host: str, port: int, *, sockets: int = 1) -> list[socket.socket]:
    """Listening sockets on one address, whose connections inherit `TCP_USER_TIMEOUT`. Raises OSError."""
    alone = _bind(host, port, shared=False)
    if sockets == 1:
        return [alone]
    # Shared sockets would bind beside another service's as well; the first one proved that the port is free.
    alone.close()
    return [_bind(host, port, shared=True) for _ in range(sockets)]


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio recognises TCP and turns Nagle's delay off (40 ms on every small answer else).
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    made.set_inheritable(True)
    return made


def config(app: str, *, workers: int, drain_s: float, **options: Any) -> Config:
    """How uvicorn runs the service. `app` is an import path of a factory: workers build their own."""
    return Config(
        app,
        factory=True,
        http=Protocol,
        loop="asyncio",  # at the kernel's floor for fan-out, where uvloop costs more; see docs/decisions.md
        ws="none",
        lifespan="on",
        workers=workers,
        backlog=BACKLOG,
        access_log=False,  # the query may hold a token
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=max(1, int(drain_s)) + 5,
        **options,
    )


def run(how: Config, sockets: list[socket.socket]) -> int:
    """Serves until a signal; answers the exit code."""
    if how.workers > 1:
        _Supervisor(how, sockets).run()
        return 0
    server = Server(how)
    try:
        server.run(sockets)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0 if server.started else 3
