"""The uvicorn server: its sockets, and the drain before it stops.

uvicorn waits for open responses before it runs the lifespan's shutdown, so streams must be ended earlier: `shutdown`
here drains first. The application provides `drain(hurry)` in its lifespan state, and `reload()` for SIGHUP.

Must not know: what a connection carries (`protocol`), channels, Redis.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.lifespan.on import LifespanOn, LifespanSendMessage

from notifier.errors import ConfigurationError
from notifier.protocol import Protocol

log = logging.getLogger("notifier.server")

BACKLOG: Final = 4096
"""Connections that may wait to be accepted, so that a reconnect storm is not refused."""

USER_TIMEOUT_MS: Final = 20_000
"""TCP_USER_TIMEOUT (RFC 5482): closes half-open connections, which pings and send timeouts do not detect."""

MAX_UNSENT_BYTES: Final = 128 * 1024
"""TCP_NOTSENT_LOWAT: more that a client's window has no room for yet stays in this process, where it is counted."""


class _Lifespan(LifespanOn):
    """Reports a `ConfigurationError` at the start in one line: Starlette sends its traceback."""

    async def send(self, message: LifespanSendMessage) -> None:
        refusal = sys.exception()  # Starlette sends from within its `except`
        if message["type"] == "lifespan.startup.failed" and isinstance(refusal, ConfigurationError):
            message = {"type": "lifespan.startup.failed", "message": str(refusal)}
        await super().send(message)


class Server(uvicorn.Server):
    """Drains before it shuts down. A second signal stops it at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Exit with `STARTUP_FAILURE` if the application cannot be built: the supervisor then stops, since every new
        worker would fail too."""
        try:
            if not self.config.loaded:
                self.config.load()
        except ConfigurationError as exc:
            log.critical("%s", exc)
            sys.exit(STARTUP_FAILURE)
        except Exception:
            log.critical("the application cannot be built", exc_info=True)
            sys.exit(STARTUP_FAILURE)
        self.config.lifespan_class = _Lifespan
        self._has_early_hup = False
        _at_hup(self._note_early_hup)
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; then SIGHUP reloads, also one that came meanwhile. An application without `reload` ends at SIGHUP."""
        await super().startup(sockets)
        reload = self.lifespan.state.get("reload")
        _at_hup(reload or partial(self.handle_exit, signal.SIGTERM, None))
        if reload is not None and self._has_early_hup:
            reload()

    def _note_early_hup(self) -> None:
        self._has_early_hup = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        drain = self.lifespan.state.get("drain")
        if drain is not None and not self.force_exit:
            await drain(lambda: self.force_exit)
        await super().shutdown(sockets)


def _at_hup(handler: Callable[[], object]) -> None:
    """Call this at SIGHUP, where there is such a signal and this thread may handle it."""
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, handler)


def listen(host: str, port: int, *, sockets: int = 1) -> list[socket.socket]:
    """Listening sockets on one address; their connections inherit `TCP_USER_TIMEOUT` and `TCP_NOTSENT_LOWAT`. Raises
    OSError."""
    exclusive = _bind(host, port, shared=False)
    if sockets == 1:
        return [exclusive]
    # SO_REUSEPORT would also bind beside another service's sockets; the exclusive one proved that the port is free.
    exclusive.close()
    return [_bind(host, port, shared=True) for _ in range(sockets)]


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol given, asyncio recognises TCP and turns Nagle's algorithm off (else 40 ms for a small response).
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Linux; macOS with a newer Python
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.set_inheritable(True)
    return sock


def config(app: str, *, workers: int, drain_s: float, **options: Any) -> Config:
    """uvicorn's configuration for the service. `app` is the import path of a factory: each worker builds its own."""
    return Config(
        app,
        factory=True,
        http=Protocol,
        loop="notifier.event_loop:new_loop",  # faster than uvloop; see docs/decisions.md
        ws="none",
        lifespan="on",
        workers=workers,
        backlog=BACKLOG,
        access_log=False,  # the query may contain a token
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=max(1, int(drain_s)) + 5,
        **options,
    )
