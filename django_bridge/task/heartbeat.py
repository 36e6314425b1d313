"""Signs of life: while the work on a task goes on here, the service hears it, also from within one slow item.

Silence is how it notices that the process died. Must not know: a task's state, the database.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from django_bridge import publisher
from django_bridge.publisher.transport import TaskAnswer
from django_bridge.task import scheduler
from notifier.errors import Conflict, NotFound, NotifierError

log = logging.getLogger("django_bridge")

EVERY_S: Final = 10.0
"""Between two signs of life; the service calls a task stalled after three that are missing."""
FIRST_S: Final = 0.1
"""After the work has begun here. What is over by then costs no call for it; who dies before it is not missed."""


class Heartbeat:
    """Those of one task, from this process. They end with the object that `heard` belongs to."""

    def __init__(self, task_id: str, heard: Callable[[TaskAnswer], None]) -> None:
        self.given = 0
        """How many the service has heard."""
        self._task_id = task_id
        self._heard = weakref.WeakMethod(heard)
        self._lock = threading.Lock()
        self._works = False
        self._due: float | None = None
        self._over: publisher.Publisher | None = None

    def work_here(self) -> None:
        """The work begins here, if it has not."""
        if not self._works:
            self._works = True
            self.plan(FIRST_S)

    def plan(self, wait_s: float | None = None) -> None:
        """The next sign is to come by then, in `EVERY_S` if not said; none where nothing leaves the process."""
        current = publisher.current()
        wait_s = EVERY_S if wait_s is None else wait_s
        due = time.monotonic() + wait_s
        if current.is_remote and (self._due is None or due < self._due):
            self._due, self._over = due, current
            scheduler.current().after(wait_s, self._give)

    def rest(self) -> None:
        """No more of them. One that is on its way has arrived when this returns."""
        with self._lock:
            self._works, self._due = False, None

    def _give(self) -> None:
        heard = self._heard()
        with self._lock:
            if heard is None or self._due is None or time.monotonic() < self._due:  # another one is planned, or none
                return
            self._due = None
            if publisher.current() is not self._over:
                return
            try:
                answer = publisher.current().beat(self._task_id)
            except (Conflict, NotFound):  # the next change finds out what it means
                return
            except NotifierError as exc:
                log.debug("no sign of life of task %s: %s", self._task_id, exc)
                answer = None
            self.plan()
        if answer is not None:
            self.given += 1
            heard(answer)
