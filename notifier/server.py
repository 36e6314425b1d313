"""The uvicorn server: its sockets, its worker processes, and the drain before it stops.

uvicorn waits for open responses before it runs the lifespan's shutdown, so streams must be ended earlier: `shutdown`
here drains first. The application provides `drain(hurry)` in its lifespan state, and `reload()` for SIGHUP.

Must not know: what a connection carries (`protocol`), channels, Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import connection
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.lifespan.on import LifespanOn, LifespanSendMessage
from uvicorn.supervisors import multiprocess

from notifier import workers
from notifier.errors import ConfigurationError
from notifier.protocol import Protocol

log = logging.getLogger("notifier.server")

BACKLOG: Final = 4096
"""Connections that may wait to be accepted, so that a reconnect storm is not refused."""

USER_TIMEOUT_MS: Final = 20_000
"""TCP_USER_TIMEOUT (RFC 5482): closes half-open connections, which pings and send timeouts do not detect."""

SILENT_S: Final = 20
"""A worker that does not answer its supervisor for this long is replaced."""

START_S: Final = 180
"""A new worker may take this long until it answers, and until it serves where it replaces another. On a busy machine a
start takes much longer than `SILENT_S`: it would begin again for ever, and a rolling restart would be given up."""

_ENDING: Final = frozenset((signal.SIGINT, signal.SIGTERM))
"""The signals that end the supervisor, which are in its queue while it waits for a worker."""

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


class _Worker(multiprocess.Process):
    """A worker process that runs `Server`. It has the number of its socket, also after a restart.

    signals: those that the supervisor has received and not handled.
    """

    def __init__(self, settings: Config, sock: socket.socket, number: int, folder: str, signals: list[int]) -> None:
        self._place = f"{number}:{folder}" if folder else ""
        self._signals = signals
        self._has_answered = False
        super().__init__(settings, [sock])

    def ping(self, timeout: float = SILENT_S) -> bool:
        """True if the worker answers in time, the first time within `START_S`. False at once if it has ended, or ends
        meanwhile."""
        ends_at = time.monotonic() + (timeout if self._has_answered else START_S)
        with contextlib.suppress(OSError, EOFError):
            while self.parent_conn.poll():
                self.parent_conn.recv()  # an answer to an earlier ping
            self.parent_conn.send(b"ping")
            while (left_s := ends_at - time.monotonic()) > 0:
                ready = connection.wait([self.parent_conn, self.process.sentinel], min(left_s, 1))
                if self.parent_conn in ready:
                    self.parent_conn.recv()
                    self._has_answered = True
                if ready or self._is_ending:
                    return not ready or self.parent_conn in ready
        return False

    def wait_until_ready(self, timeout: float, should_exit: threading.Event | None = None) -> bool:
        """True once the worker serves, within `START_S`: `timeout` is that of a running one. False if it ends, and at a
        signal that ends the supervisor."""
        ends_at = time.monotonic() + START_S
        while time.monotonic() < ends_at and self.process.is_alive() and not self._is_ending:
            if self.is_ready(timeout=1):
                self._has_answered = True
                return True
            time.sleep(0.1)
        return False

    @property
    def _is_ending(self) -> bool:
        return not _ENDING.isdisjoint(self._signals)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        os.environ[workers.VARIABLE] = self._place
        super().target(sockets)

    @property
    def server(self) -> Server:
        if not isinstance(self._server, Server):
            self._server = Server(config=self.config)
        return self._server


class _Supervisor(multiprocess.Multiprocess):
    """uvicorn's supervisor, with workers that each accept on a socket of their own.

    On a shared socket, the worker that wakes first accepts the whole queue. With SO_REUSEPORT the kernel spreads the
    connections evenly. The sockets stay open here, so that the queue of a dead worker is served by its successor.
    """

    def __init__(self, settings: Config, sockets: list[socket.socket], folder: str) -> None:
        super().__init__(settings, sockets)
        self._folder = folder
        self._assigned: dict[_Worker, socket.socket] = {}
        # The supervisor has no parameter for its worker class; each of its methods uses this name.
        multiprocess.Process = self._worker  # type: ignore[misc, assignment]

    def _worker(self, settings: Config, sockets: list[socket.socket]) -> _Worker:
        sock = self._free_socket(sockets)
        worker = _Worker(settings, sock, sockets.index(sock), self._folder, self.signal_queue)
        self._assigned[worker] = sock
        return worker

    def _free_socket(self, sockets: list[socket.socket]) -> socket.socket:
        """A socket without a live worker; in a rolling restart, that of the oldest worker, which is replaced next."""
        self._assigned = {worker: sock for worker, sock in self._assigned.items() if worker.process.is_alive()}
        in_use = list(self._assigned.values())
        return min(sockets, key=lambda sock: (in_use.count(sock), in_use.index(sock) if sock in in_use else -1))

    def handle_hup(self) -> None:
        """Each worker reads its credentials again. uvicorn would replace the workers, and so end their streams."""
        for worker in self.processes:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)

    def handle_usr2(self) -> None:
        """Replace the workers, one after the other."""
        self.restart_all()

    @property
    def has_failed(self) -> bool:
        """True if a worker could not start: all others were stopped then."""
        return any(worker.process.exitcode == STARTUP_FAILURE for worker in self.processes)

    def join_all(self) -> None:
        """Wait for the workers. A second signal kills them, as it stops a single process."""
        while any(worker.process.is_alive() for worker in self.processes):
            for worker in self.processes:
                worker.process.join(0.05)
            if self.signal_queue:
                for worker in self.processes:
                    worker.process.kill()


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
        timeout_worker_healthcheck=SILENT_S,
        timeout_graceful_shutdown=max(1, int(drain_s)) + 5,
        **options,
    )


def run(settings: Config, sockets: list[socket.socket]) -> int:
    """Serve until a signal. Returns the exit code: `STARTUP_FAILURE` if the service, or one of its workers, could not
    start."""
    if settings.workers > 1:
        with _shared_folder() as folder:
            supervisor = _Supervisor(settings, sockets, folder)
            supervisor.run()
        return STARTUP_FAILURE if supervisor.has_failed else 0
    server = Server(settings)
    try:
        server.run(sockets)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0 if server.started else STARTUP_FAILURE


@contextlib.contextmanager
def _shared_folder() -> Iterator[str]:
    """A private folder for the workers' sockets; empty where no folder can be made."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="notifier-", ignore_cleanup_errors=True)
    except OSError as exc:
        log.warning("/metrics shows one worker at a time: no temporary folder: %s", exc)
        yield ""
        return
    with folder as name:
        yield name
