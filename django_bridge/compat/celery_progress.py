"""celery-progress's `ProgressRecorder`, over a `Task` that has the id of the Celery task.

    from django_bridge.compat.celery_progress import ProgressRecorder

The Celery task's own end ends it. Must not know: pages, transports.
"""

from __future__ import annotations

import time
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

from celery.signals import task_postrun
from django.contrib.auth.models import AnonymousUser

from django_bridge.task.celery_signals import reported_task
from django_bridge.task.task import Task
from notifier.errors import Conflict, NotFound

PROGRESS_STATE: Final = "PROGRESS"
PACE_S: Final = 0.1
"""Between two calls that are told; the first, and one that reaches the total, always are."""

_running: dict[tuple[str, int], ProgressRecorder] = {}
"""Recorders of this process by their Celery tasks and tries, until these are over: another thread may have begun the
next try before this one is."""


class BaseProgressRecorder:
    """What all recorders have."""

    current: Any = 0
    total: Any = 0
    description = ""

    def set_progress(self, current: Any, total: Any, description: str = "") -> Any:
        """`current` of `total` is done; a total of 0 is not known."""
        self.current, self.total = current, total
        if description:
            self.description = description

    def increment_progress(self, by: Any = 1, description: str = "") -> None:
        """`by` more is done."""
        self.set_progress(self.current + by, self.total, description)


class ConsoleProgressRecorder(BaseProgressRecorder):
    """Prints."""

    def set_progress(self, current: Any, total: Any, description: str = "") -> Any:
        super().set_progress(current, total, description)
        print(f"processed {current} items of {total}. {description}")  # noqa: T201  # it is what it is for


class ProgressRecorder(BaseProgressRecorder):
    """Reports a bound Celery task's progress.

        @shared_task(bind=True)
        def my_task(self, seconds, user_id):
            progress_recorder = ProgressRecorder(self, user=user_id)
            for i in range(seconds):
                progress_recorder.set_progress(i + 1, seconds)

    `user` is new: whose browser shows it (where `report_tasks` finds the user, it need not be said). Without one
    nobody's does, the row is kept all the same, and the view of
    `celery_progress_urls` answers. When the Celery task succeeds, fails or is given up, so does the `Task`; a retry
    goes on with it. Outside of a worker, where the task has no id, nothing is reported.
    """

    def __init__(self, task: Any, user: Any = None) -> None:
        self.task = task
        self._user = user
        self._told_at = -PACE_S
        self._told = True
        self._ours = _begun(task, user) if task.request.id else None
        if self._ours is not None:
            _running[_try(task)] = self
            task_postrun.connect(_over, dispatch_uid="django_bridge.celery_progress")

    def set_progress(self, current: Any, total: Any, description: str = "") -> tuple[str, dict[str, Any]]:
        """Answers what celery-progress does: the state and its fields."""
        super().set_progress(current, total, description)
        now = time.monotonic()
        self._told = False
        if now - self._told_at >= PACE_S or (total and current >= total):
            self._told_at = now
            self.tell()
        percent = float(round(Decimal(current) / Decimal(total) * 100, 2)) if total > 0 else 0
        fields = {"pending": False, "current": current, "total": total, "percent": percent, "description": description}
        return PROGRESS_STATE, fields

    def tell(self) -> None:
        """Tells the latest numbers, where they are not told yet."""
        if self._ours is None or self._told or self._ours.ended:
            return
        self._told = True
        done, total = max(0, int(self.current)), int(self.total)
        self._ours.set_state(self.description or None, done=done, total=max(done, total) if total > 0 else None)

    def over(self, state: str, value: Any) -> None:
        """The Celery task has ended in this state, with this value or error."""
        task = self._ours
        if task is None or task.ended:
            return
        self.tell()
        if state == "FAILURE":
            task.fail(value)
        elif state in ("REVOKED", "IGNORED"):
            task.cancelled()
        elif state != "RETRY":
            task.end()


def _begun(task: Any, user: Any) -> Task:
    """The task of this id: the one that reports this Celery task anyway, or as a try before this left it, or new."""
    reported: Task | None = reported_task()
    if reported is not None and reported.id == task.request.id:
        return reported
    try:
        found = Task.resume(task.request.id)
        if not found.ended:
            return found
    except NotFound:
        pass
    name = task.name.rpartition(".")[2].replace("_", " ").capitalize()
    found = Task(from_user=AnonymousUser() if user is None else user, task_name=name)
    found.id = task.request.id
    found.begin()
    return found


def _try(task: Any) -> tuple[str, int]:
    return task.request.id, task.request.retries


def _over(task: Any, state: str, retval: Any = None, **more: Any) -> None:
    recorder = _running.pop(_try(task), None)
    if recorder is not None:
        with suppress(Conflict):  # ended by somebody else
            recorder.over(state, retval)
