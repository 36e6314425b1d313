"""The heartbeat of a task: while this process works on it, the service gets a beat every `EVERY_S`, also during one
slow item. The service calls a running task without beats stalled.

Must not know: a task's state, the database.
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
"""Between two beats; the service calls a task stalled when three are missing."""
FIRST_S: Final = 0.1
"""From the start of the work to the first beat. Shorter work costs no call, and a crash within it is not noticed."""


class Heartbeat:
    """The beats of one task from this process. They end when the object that `on_answer` is bound to is collected."""

    def __init__(self, task_id: str, on_answer: Callable[[TaskAnswer], None]) -> None:
        self.answered = 0
        """Beats that the service has answered."""
        self._task_id = task_id
        self._on_answer = weakref.WeakMethod(on_answer)
        self._lock = threading.Lock()
        """Locked while a beat is sent."""
        self._stops = 0
        """How often the beats were stopped: a beat that was being sent meanwhile schedules no other one."""
        self._is_working = False
        self._due: float | None = None
        """When the next beat is due, by the monotonic clock; None: none is scheduled."""
        self._publisher: publisher.Publisher | None = None
        """The publisher at the time of scheduling. Under another one (changed settings) the beat is dropped."""

    def start(self) -> None:
        """Start beating, unless it has started."""
        if not self._is_working:
            self._is_working = True
            self.schedule(FIRST_S)

    def schedule(self, wait_s: float | None = None) -> None:
        """Schedule the next beat in `wait_s` (None: `EVERY_S`) at the latest; none if calls stay in this process."""
        current = publisher.current()
        wait_s = EVERY_S if wait_s is None else wait_s
        due = time.monotonic() + wait_s
        if current.is_remote and (self._due is None or due < self._due):
            self._due, self._publisher = due, current
            scheduler.current().run_after(wait_s, self._beat)

    def stop(self, *, waits: bool) -> None:
        """Send no more beats. `waits` until a beat that is being sent has been answered."""
        self._stops += 1
        self._is_working, self._due = False, None
        if waits:
            with self._lock:
                self._due = None

    def _beat(self) -> None:
        on_answer = self._on_answer()
        with self._lock:
            if on_answer is None or self._due is None or time.monotonic() < self._due:  # stopped, or rescheduled
                return
            self._due, stops = None, self._stops
            if publisher.current() is not self._publisher:
                return
            try:
                answer = publisher.current().beat(self._task_id)
            except (Conflict, NotFound):  # ended or unknown: the next change handles it
                return
            except NotifierError as exc:
                log.debug("heartbeat of task %s failed: %s", self._task_id, exc)
                answer = None
            if stops == self._stops:
                self.schedule()
        if answer is not None:
            self.answered += 1
            on_answer(answer)
