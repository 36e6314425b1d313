"""One process of the service, or several of them: workers, and the supervisor that replaces those that end or hang.

The supervisor waits for no worker. Twice a second it takes the answers to its pings, starts a worker for each one that
has ended or is silent, and goes on with a rolling restart. So a worker that hangs, in its start or later, keeps no
sibling from being replaced, and no signal from being handled.

Must not know: what a worker serves, Redis.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Final

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors import multiprocess

from notifier import workers
from notifier.server import Server

log = logging.getLogger("notifier.supervisor")

SILENT_S: Final = 20
"""A worker that does not answer its supervisor for this long is replaced."""

START_S: Final = 180
"""A new worker may take this long until it answers, and until it serves where it replaces another. On a busy machine a
start takes much longer than `SILENT_S`: it would begin again for ever, and a rolling restart would be given up."""


class Worker(multiprocess.Process):
    """A worker process that runs `Server`. It has the number of its socket, also after a restart."""

    def __init__(self, settings: Config, sock: socket.socket, number: int, folder: str) -> None:
        self.number = number
        self.serves = False
        """What it said in its last answer."""
        self._has_served = False
        self.must_reload = False
        """True if SIGHUP is to be sent to it, once it serves: in its start it would end the process."""
        self.sock = sock
        self._place = f"{number}:{folder}" if folder else ""
        self._has_answered = False
        self._started_at = self._asked_at = 0.0
        """`_asked_at`: 0 if no ping waits for its answer."""
        super().__init__(settings, [sock])

    def start(self) -> None:
        super().start()
        self._started_at = time.monotonic()

    def ping(self, timeout: float = SILENT_S) -> bool:
        """Take the answer to the last ping, and ask again. False if the worker has owed it for `timeout`, the first one
        for `START_S`."""
        now = time.monotonic()
        try:
            while self.parent_conn.poll():
                self.serves = self.parent_conn.recv()
                self._has_served |= self.serves
                self._has_answered, self._asked_at = True, 0.0
            if not self._asked_at:
                self.parent_conn.send(b"ping")
                self._asked_at = now
        except (OSError, EOFError, pickle.UnpicklingError):
            return False
        return now - self._asked_at < (timeout if self._has_answered else START_S)

    def reload(self) -> None:
        """Send SIGHUP if it is due."""
        if self.must_reload and self.serves and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGHUP)
            self.must_reload = False

    @property
    def is_late(self) -> bool:
        """True if it should have begun to serve."""
        return not self._has_served and time.monotonic() - self._started_at > START_S

    def end(self) -> None:
        """Kill it, also if it hangs."""
        self.kill()
        self.process.join()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        os.environ[workers.VARIABLE] = self._place
        super().target(sockets)

    @property
    def server(self) -> Server:
        if not isinstance(self._server, Server):
            self._server = Server(config=self.config)
        return self._server


class Supervisor(multiprocess.Multiprocess):
    """uvicorn's supervisor, with workers that each accept on a socket of their own.

    On a shared socket, the worker that wakes first accepts the whole queue. With SO_REUSEPORT the kernel spreads the
    connections evenly. The sockets stay open here, so that the queue of a dead worker is served by its successor.
    """

    def __init__(self, settings: Config, sockets: list[socket.socket], folder: str) -> None:
        super().__init__(settings, sockets)
        self._folder = folder
        self._outdated: list[Worker] = []
        """Those that a rolling restart has yet to replace, the next one first."""
        self._successor: Worker | None = None
        """A worker that starts on the socket of the first of these, and takes its place once it serves."""
        self._retired: Worker | None = None
        """A worker that was replaced, and ends its streams."""
        self._retired_at = 0.0

    @property
    def _workers(self) -> list[Worker]:
        return [worker for worker in self.processes if isinstance(worker, Worker)]

    @property
    def _starting(self) -> list[Worker]:
        return [] if self._successor is None else [self._successor]

    def _started(self, sock: socket.socket) -> Worker:
        worker = self.create(sock)
        worker.start()
        return worker

    def create(self, sock: socket.socket) -> Worker:
        """A worker that accepts on this socket, before its start."""
        return Worker(self.config, sock, self.sockets.index(sock), self._folder)

    def init_processes(self) -> None:
        self.processes.extend(map(self._started, self.sockets))

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that ended or hang, and go on with a rolling restart."""
        for index, worker in enumerate(self._workers):
            if self.should_exit.is_set():
                return
            if worker.is_alive(SILENT_S) and not worker.is_late:
                worker.reload()
            else:
                self._replace(index, worker)
        if not self.should_exit.is_set():
            self._proceed_with_restart()

    def _replace(self, index: int, worker: Worker) -> None:
        worker.end()
        if worker.exitcode == STARTUP_FAILURE:  # application, TLS or socket: every new worker would fail too
            log.error("worker %d (process %d) could not start, so the service ends", worker.number, worker.pid)
            self.should_exit.set()
            return
        log.warning("worker %d (process %d) hung or ended; another one starts", worker.number, worker.pid)
        if self._outdated[:1] == [worker] and self._successor is not None:
            self.processes[index], self._successor = self._successor, None
        else:
            self.processes[index] = self._started(worker.sock)

    def handle_hup(self) -> None:
        """Each worker reads its credentials again. uvicorn would replace the workers, and so end their streams."""
        for worker in (*self._workers, *self._starting):
            worker.must_reload = True

    def handle_usr2(self) -> None:
        """Replace the workers, one after the other. A worker that starts for an earlier such signal is replaced too."""
        self._outdated += [worker for worker in (*self._workers, *self._starting) if worker not in self._outdated]

    def handle_ttin(self) -> None:
        log.warning("the number of workers stays: each has a socket, which is opened at the start")

    handle_ttou = handle_ttin

    def _proceed_with_restart(self) -> None:
        """One step: at any time a single worker starts for another, or ends after it was replaced."""
        if self._retired is not None:
            if self._retired.process.is_alive():
                if time.monotonic() - self._retired_at > self._end_s:
                    log.warning("worker process %d was replaced and did not end; it is killed", self._retired.pid)
                    self._retired.end()
                return
            self._retired = None
        current = (*self.processes, *self._starting)
        self._outdated = [worker for worker in self._outdated if worker in current]
        if self._successor is not None:
            self._await_successor(self._successor)
        elif self._outdated:
            self._successor = self._started(self._outdated[0].sock)

    @property
    def _end_s(self) -> float:
        """How long a worker may take to drain and to shut down; uvicorn's bound holds for the second part."""
        return 2 * (self.config.timeout_graceful_shutdown or 0) + SILENT_S

    def _await_successor(self, successor: Worker) -> None:
        outdated = self._outdated[0]
        if not successor.is_alive(SILENT_S) or successor.is_late:
            successor.end()
            log.error("the rolling restart ends: process %d did not begin to serve", successor.pid)
            self._successor, self._outdated = None, []
        elif successor.serves:
            self.processes[self.processes.index(outdated)], self._successor = successor, None
            outdated.terminate()
            self._retired, self._retired_at = outdated, time.monotonic()

    def terminate_all(self) -> None:
        for worker in self._starting:
            worker.end()
        super().terminate_all()

    @property
    def has_failed(self) -> bool:
        """True if a worker could not start: all others were stopped then."""
        return any(worker.exitcode == STARTUP_FAILURE for worker in self.processes)

    def join_all(self) -> None:
        """Wait for the workers. A second signal kills them, as it stops a single process."""
        ending = [each.process for each in (*self.processes, self._retired) if each is not None]
        while any(process.is_alive() for process in ending):
            for process in ending:
                process.join(0.05)
            if self.signal_queue:
                for process in ending:
                    process.kill()


def run(settings: Config, sockets: list[socket.socket]) -> int:
    """Serve until a signal. Returns the exit code: `STARTUP_FAILURE` if the service, or one of its workers, could not
    start."""
    if settings.workers > 1:
        with _shared_folder() as folder:
            supervisor = Supervisor(settings, sockets, folder)
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
