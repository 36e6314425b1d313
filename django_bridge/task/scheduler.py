"""The bridge's own clock: one thread in each process, for what must happen while the caller is busy elsewhere.

It starts with the first action and ends with the process. Actions talk to the service and never to the database: a row
that the caller's transaction has locked would hold up everybody else's signs of life. Must not know: what is done.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

log = logging.getLogger("django_bridge")

Action = Callable[[], None]


class Scheduler:
    """Runs methods at a time; of objects that are gone by then, none."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._wake = threading.Condition()  # its lock may be taken again by the same thread: see `last`
        self._order = itertools.count()
        # As many entries as there are living tasks, two at most for each; those of dead ones go when they are due.
        self._due: list[tuple[float, int, weakref.WeakMethod[Action]]] = []
        self._last: deque[Action] = deque()
        """What is to be done soon although nobody holds it any more; one for each task that was left so."""
        self._thread: threading.Thread | None = None
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()

    def after(self, wait_s: float, action: Action) -> None:
        """Runs a bound method in `wait_s` seconds, if its object lives as long."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + wait_s, next(self._order), weakref.WeakMethod(action)))
            self._start()

    def last(self, action: Action) -> None:
        """Runs an action soon, also when the process ends first. May be called by the garbage collector."""
        with self._wake:
            self._last.append(action)
            self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notifier-scheduler", daemon=True)
            self._thread.start()
        self._wake.notify()

    def at_exit(self, owner: Any) -> None:
        """Calls `owner.settle()` when the process ends in order, if the owner lives as long."""
        self._owners.add(owner)

    def settle(self) -> None:
        with self._wake:
            last = list(self._last)
            self._last.clear()
        for action in last:
            _quietly(action)
        for owner in list(self._owners):
            _quietly(owner.settle)

    def _run(self) -> None:
        while True:
            action = self._next()
            if action is not None:
                _quietly(action)
            del action  # what it belongs to may go now

    def _next(self) -> Action | None:
        with self._wake:
            while True:
                if self._last:
                    return self._last.popleft()
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._due)[2]()
                self._wake.wait(wait_s)


def _quietly(action: Action) -> None:
    try:
        action()
    except Exception:
        log.exception("%s failed", getattr(action, "__qualname__", action))


_lock = threading.RLock()
_scheduler: Scheduler | None = None


def current() -> Scheduler:
    """This process's. A forked child has none of its parent's threads, and starts its own."""
    global _scheduler
    with _lock:
        if _scheduler is None:
            atexit.register(_settle)
        if _scheduler is None or _scheduler.pid != os.getpid():
            _scheduler = Scheduler()
        return _scheduler


def _settle() -> None:
    if _scheduler is not None and _scheduler.pid == os.getpid():
        _scheduler.settle()
