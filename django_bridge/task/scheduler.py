"""The bridge's scheduler: one thread per process, for calls that are due while the caller is busy. And what a forked
child does anew.

The thread starts with the first action and ends with the process. Actions call the service, never the database: one
that waited for a row which the caller's transaction has locked would delay the heartbeats of all tasks of the process.
Must not know: what the actions do.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from django_bridge.background import run_at_exit

log = logging.getLogger("django_bridge")

Action = Callable[[], None]

_Entry = tuple[float, int, Callable[[], Action | None]]
"""When it is due, its order among equals, and what gives the action; None once its object is collected."""

MAX_RETRIES: Final = 1000
"""Tasks that were collected and not reported, and are kept until they are."""


class Flushable(Protocol):
    """An object with work to finish before the process exits."""

    def flush(self) -> None: ...


class Forked(Protocol):
    """An object with locks, or with work for the scheduler."""

    def begin_in_child(self) -> None:
        """Threads of the parent may have held the locks when it forked; its work stays with the parent."""


class Scheduler:
    """Runs bound methods at a time, unless their object has been collected by then."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._wake = threading.Condition()  # a reentrant lock: the collector may call `run_soon` inside `run_after`
        self._order = itertools.count()
        # At most three entries for each living task; those of collected tasks go when they are due.
        self._due: list[_Entry] = []
        self._soon: deque[Action] = deque()
        """Actions of collected tasks, one for each. Strong references: nothing else keeps their objects alive."""
        self._retries = 0
        """Entries of `_due` that keep their objects."""
        self._thread: threading.Thread | None = None
        self._to_flush: weakref.WeakSet[Flushable] = weakref.WeakSet()

    def run_after(self, wait_s: float, action: Action) -> None:
        """Run a bound method in `wait_s` seconds, unless its object is collected before."""
        with self._wake:
            entry: _Entry = (time.monotonic() + wait_s, next(self._order), weakref.WeakMethod(action))
            heapq.heappush(self._due, entry)
            self._start()

    def retry_after(self, wait_s: float, action: Action) -> None:
        """Run an action in `wait_s` seconds, and keep its object until then; at most `MAX_RETRIES` wait.

        Further ones are run only while their object lives.
        """
        with self._wake:
            if self._retries >= MAX_RETRIES:
                self.run_after(wait_s, action)
                return
            self._retries += 1
            entry: _Entry = (time.monotonic() + wait_s, next(self._order), partial(self._retried, action))
            heapq.heappush(self._due, entry)
            self._start()

    def run_soon(self, action: Action) -> None:
        """Run an action next, or at exit if the process ends first. Safe to call from the garbage collector."""
        with self._wake:
            self._soon.append(action)
            self._start()

    def flush_at_exit(self, owner: Flushable) -> None:
        """Call `owner.flush()` when the process exits normally, unless `owner` is collected before."""
        self._to_flush.add(owner)

    def flush(self) -> None:
        """Run the `run_soon` actions that are left, and flush what `flush_at_exit` named."""
        with self._wake:
            actions = list(self._soon)
            self._soon.clear()
        for action in actions:
            _run_logged(action)
        for owner in list(self._to_flush):
            _run_logged(owner.flush)

    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def _retried(self, action: Action) -> Action:
        self._retries -= 1
        return action

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notifier-scheduler", daemon=True)
            self._thread.start()
        self._wake.notify()

    def _run(self) -> None:
        while True:
            action = self._next()
            if action is not None:
                _run_logged(action)
            del action  # the reference would keep its object alive during the next wait

    def _next(self) -> Action | None:
        with self._wake:
            while True:
                if self._soon:
                    return self._soon.popleft()
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._due)[2]()
                self._wake.wait(wait_s)


def _run_logged(action: Action) -> None:
    try:
        action()
    except Exception:
        log.exception("%s failed", getattr(action, "__qualname__", action))


_lock = threading.RLock()
_scheduler: Scheduler | None = None
_forked: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()
_is_hooked = False
"""Whether `_after_fork_in_child` is registered."""


def current() -> Scheduler:
    """The scheduler of this process. A forked child has none of its parent's threads: it gets a new one."""
    global _scheduler
    with _lock:
        _register_fork_hook()
        if _scheduler is None or _scheduler.pid != os.getpid():
            _scheduler = Scheduler()
            run_at_exit(at_exit)
        return _scheduler


def begin_in_child(owner: Forked) -> None:
    """Call `owner.begin_in_child()` in every forked child, unless `owner` is collected before."""
    with _lock:
        _register_fork_hook()
    _forked.add(owner)


def _register_fork_hook() -> None:
    global _is_hooked
    if not _is_hooked:
        _is_hooked = True
        os.register_at_fork(after_in_child=_after_fork_in_child)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it
    for owner in list(_forked):
        _run_logged(owner.begin_in_child)


def at_exit() -> None:
    """The end of the process: flush what `flush_at_exit` named."""
    if _scheduler is not None and _scheduler.pid == os.getpid():
        _scheduler.flush()
