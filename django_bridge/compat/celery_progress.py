"""celery-progress's `ProgressRecorder`, over a `Task` that has the id of the Celery task.

    from django_bridge.compat.celery_progress import ProgressRecorder

It ends with the Celery task. Must not know: pages, transports.
"""

from __future__ import annotations

import time
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

from celery.signals import task_postrun
from django.contrib.auth.models import AnonymousUser

from django_bridge.queues.celery import reported_task
from django_bridge.task.task import Task
from notifier.errors import Conflict, NotFound

PROGRESS_STATE: Final = "PROGRESS"
PACE_S: Final = 0.1
"""Minimum interval between two reports. The first call, and one that reaches the total, are always reported."""

_running: dict[tuple[str, int], ProgressRecorder] = {}
"""Running recorders of this process by Celery task id and retry count: with threads, the next retry may begin before
this one is over."""


class BaseProgressRecorder:
    """The common API of all recorders."""

    current: Any = 0
    total: Any = 0
    description = ""

    def set_progress(self, current: Any, total: Any, description: str = "") -> Any:
        """Set how much is done; a total of 0 means unknown."""
        self.current, self.total = current, total
        if description:
            self.description = description

    def increment_progress(self, by: Any = 1, description: str = "") -> None:
        """Add `by` to what is done."""
        self.set_progress(self.current + by, self.total, description)


class ConsoleProgressRecorder(BaseProgressRecorder):
    """Prints the progress."""

    def set_progress(self, current: Any, total: Any, description: str = "") -> Any:
        super().set_progress(current, total, description)
        print(f"processed {current} items of {total}. {description}")  # noqa: T201  # the recorder's purpose


class ProgressRecorder(BaseProgressRecorder):
    """Reports a bound Celery task's progress.

        @shared_task(bind=True)
        def my_task(self, seconds, user_id):
            progress_recorder = ProgressRecorder(self, user=user_id)
            for i in range(seconds):
                progress_recorder.set_progress(i + 1, seconds)

    `user`, which celery-progress does not have, is the user whose browser shows the task; it can be omitted where
    `report_tasks` finds the user. Without a user no browser shows it, but the row is written and the view of
    `celery_progress_urls` answers. The `Task` succeeds, fails or is cancelled with the Celery task; a retry continues
    it. Outside a worker, where the task has no id, nothing is reported.
    """

    def __init__(self, task: Any, user: Any = None) -> None:
        self.task = task
        self._user = user
        self._reported_at = -PACE_S
        self._reported = True
        self._notifier_task = _begun(task, user) if task.request.id else None
        if self._notifier_task is not None:
            _running[_run(task)] = self
            task_postrun.connect(_over, dispatch_uid="django_bridge.celery_progress")

    def set_progress(self, current: Any, total: Any, description: str = "") -> tuple[str, dict[str, Any]]:
        """Returns the state and its fields, as celery-progress does."""
        super().set_progress(current, total, description)
        now = time.monotonic()
        self._reported = False
        if now - self._reported_at >= PACE_S or (total and current >= total):
            self._reported_at = now
            self.report()
        percent = float(round(Decimal(current) / Decimal(total) * 100, 2)) if total > 0 else 0
        fields = {"pending": False, "current": current, "total": total, "percent": percent, "description": description}
        return PROGRESS_STATE, fields

    def report(self) -> None:
        """Report the latest numbers, unless they are reported already."""
        if self._notifier_task is None or self._reported or self._notifier_task.ended:
            return
        self._reported = True
        done, total = max(0, int(self.current)), int(self.total)
        self._notifier_task.set_state(
            self.description or None, done=done, total=max(done, total) if total > 0 else None
        )

    def end(self, state: str, value: Any) -> None:
        """End the `Task` as the Celery task ended: in this state, with this return value or exception."""
        task = self._notifier_task
        if task is None or task.ended:
            return
        self.report()
        if state == "FAILURE":
            task.fail(value)
        elif state in ("REVOKED", "IGNORED"):
            task.cancelled()
        elif state != "RETRY":
            task.end()


def _begun(task: Any, user: Any) -> Task:
    """The `Task` with the Celery task's id: that of `report_tasks`, that of an earlier retry, or a new one."""
    reported: Task | None = reported_task()
    if reported is not None and reported.id == task.request.id:
        return reported
    try:
        earlier = Task.resume(task.request.id)
        if not earlier.ended:
            return earlier
    except NotFound:
        pass
    name = task.name.rpartition(".")[2].replace("_", " ").capitalize()
    begun = Task(from_user=AnonymousUser() if user is None else user, task_name=name)
    begun.id = task.request.id
    begun.begin()
    return begun


def _run(task: Any) -> tuple[str, int]:
    return task.request.id, task.request.retries


def _over(task: Any, state: str, retval: Any = None, **more: Any) -> None:
    recorder = _running.pop(_run(task), None)
    if recorder is not None:
        with suppress(Conflict):  # already ended by another process
            recorder.end(state, retval)
