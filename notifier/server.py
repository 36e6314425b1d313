"""The uvicorn server: its sockets, the connection's transport in the request's scope, and the drain before it stops.

uvicorn waits for open responses before the lifespan's shutdown, so streams must be ended from the signal: `shutdown`
here drains first. The application offers `drain(hurry)` in its lifespan state.

Must not know: channels, Redis, what a stream carries.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import multiprocess

log = logging.getLogger("notifier.server")

TRANSPORT: Final = "notifier.transport"
"""The name in `scope["extensions"]` under which a request finds its connection's transport."""

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: a reconnect storm must not see refusals."""

USER_TIMEOUT_MS: Final = 20_000
"""TCP_USER_TIMEOUT (RFC 5482): frees half-open connections, which pings and send timeouts do not notice."""


class Protocol(HttpToolsProtocol):
    """Puts the transport into each request's scope, so that a stream can write to it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


class Server(uvicorn.Server):
    """Drains before it shuts down; a second signal stops it at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

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
    """uvicorn's supervisor, which a second signal hurries as it hurries a single process."""

    def join_all(self) -> None:
        while any(worker.process.is_alive() for worker in self.processes):
            for worker in self.processes:
                worker.process.join(0.05)
            if self.signal_queue:
                for worker in self.processes:
                    worker.process.kill()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket whose connections inherit `TCP_USER_TIMEOUT`. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio recognises TCP and turns Nagle's delay off (40 ms on every small answer else).
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    try:
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


def run(how: Config, sock: socket.socket) -> int:
    """Serves until a signal; answers the exit code."""
    if how.workers > 1:
        # The supervisor has no parameter for the class of its workers; each of its methods names this one.
        multiprocess.Process = _Worker  # type: ignore[misc]
        _Supervisor(how, sockets=[sock]).run()
        return 0
    server = Server(how)
    try:
        server.run(sockets=[sock])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0 if server.started else 3
