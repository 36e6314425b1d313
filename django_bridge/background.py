"""A thread with a bounded queue, for work that its callers do not wait for; and the one that delivers messages. Also:
what runs at the end of a process.

Must not know: what the actions do.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import close_old_connections, connections

log = logging.getLogger("django_bridge")

T = TypeVar("T")
Action = Callable[[], object]

MAX_QUEUED: Final = 1000
"""Messages that wait for the delivering thread. Where the queue is full, `put` returns False."""
FLUSH_S: Final = 3.0
"""The longest that the end of the process waits for queued actions."""
FORK_WAIT_S: Final = 1.0
"""The longest that a fork waits for queued actions, and again for the one that is running."""


class Worker:
    """Runs actions one after the other in a thread, which starts with the first one and ends with the process.

    The thread has database connections of its own, kept as long as `CONN_MAX_AGE` says. Errors of an action are logged.
    """

    def __init__(self, name: str, max_queued: int) -> None:
        self.pid = os.getpid()
        self.on_idle: Callable[[], float | None] = lambda: None
        """Called whenever the queue is empty. Returns the seconds until it is called again; None: after an action."""
        self.on_left: Action = lambda: None
        """Called at the end of the process if actions are left after `FLUSH_S`."""
        self._name = name
        self._queue: queue.Queue[Action] = queue.Queue(max_queued)
        self._starting = threading.Lock()
        self._running = threading.Lock()
        """Locked while an action runs, and during a fork."""
        self._forking: int | None = None
        """The thread that holds `_running` for its fork."""
        self._thread: threading.Thread | None = None

    def put(self, action: Action) -> bool:
        """Queue an action. False if the queue is full."""
        try:
            self._queue.put_nowait(action)
        except queue.Full:
            return False
        if self._thread is None:
            self._start()
        return True

    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def wait(self, timeout_s: float) -> bool:
        """Wait until all queued actions have run. False if some are left after `timeout_s`."""
        if self.pid != os.getpid() or self.is_current_thread():
            return True
        with self._queue.all_tasks_done:
            return self._queue.all_tasks_done.wait_for(lambda: not self._queue.unfinished_tasks, timeout_s)

    def before_fork(self) -> None:
        """Run what is queued, close the thread's connections, and let no action begin until `after_fork`.

        A child must inherit neither a lock that the thread holds nor a connection that it shares with its parent.
        """
        if self._thread is None or self.is_current_thread():
            return
        self.put(connections.close_all)
        self.wait(FORK_WAIT_S)
        if self._running.acquire(timeout=FORK_WAIT_S):
            self._forking = threading.get_ident()

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._running.release()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause_s: float | None = None
        while True:
            try:
                action: Action | None = self._queue.get(timeout=pause_s)
            except queue.Empty:
                action = None
            with self._running:
                if action is not None:
                    _logged(action)
                if self._queue.empty():
                    pause_s = _logged(self.on_idle)
                    _logged(close_old_connections)
            if action is not None:
                self._queue.task_done()
            del action  # the reference would keep its objects alive during the next wait


def _logged(action: Callable[[], T]) -> T | None:
    try:
        return action()
    except Exception:
        log.exception("%s failed", getattr(action, "__qualname__", action))
        return None


_lock = threading.RLock()
_worker: Worker | None = None


def current() -> Worker:
    """The thread of this process that delivers messages. A forked child gets a new one."""
    global _worker
    with _lock:
        if _worker is None:
            os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
        if _worker is None or _worker.pid != os.getpid():
            _worker = Worker("notifier-delivery", MAX_QUEUED)
            run_at_exit(at_exit)
        return _worker


def run_at_exit(action: Action) -> None:
    """Run an action at the normal end of this process, at least once."""
    atexit.register(action)
    # Before Python 3.14, a child that `multiprocessing` has forked ends without the functions of `atexit`.
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, action, exitpriority=0)


def at_exit() -> None:
    """The end of the process: wait for the queue, at most `FLUSH_S`."""
    worker = _worker
    if worker is not None and not worker.wait(FLUSH_S):
        _logged(worker.on_left)


def _before_fork() -> None:
    if _worker is not None and _worker.pid == os.getpid():
        _worker.before_fork()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


def _after_fork() -> None:
    if _worker is not None and _worker.pid == os.getpid():
        _worker.after_fork()
