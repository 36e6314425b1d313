"""Tasks of Huey that report themselves: `report_tasks(huey)`, beside the instance.

Huey's signals and hooks run in the thread of the task. Must not know: how a job is reported.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from contextvars import Token
from typing import Any

from huey import CancelExecution, signals

from django_bridge.loop import current
from django_bridge.queues import job as jobs
from django_bridge.queues.owner import SEARCH, User
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.task import Task


def report_tasks(huey: Any, user: User = SEARCH, *, skip: Collection[str] = ()) -> None:
    """Report every task of this instance that has an owner. `skip` names tasks that are not reported.

    Settings of a task take precedence: `@huey.task(notifier_user=..., notifier_name=..., notifier_result=...)`, as in
    `django_bridge.queues.rq.ReportedJob`.
    """
    reports = _Reports(user, skip)
    huey.signal(signals.SIGNAL_ENQUEUED, signals.SIGNAL_SCHEDULED)(reports.on_queued)
    huey.signal(signals.SIGNAL_ERROR)(reports.on_error)
    huey.signal(signals.SIGNAL_RETRYING)(reports.on_retry)
    huey.signal(signals.SIGNAL_REVOKED, signals.SIGNAL_EXPIRED)(reports.on_removed)
    huey.signal(signals.SIGNAL_INTERRUPTED)(reports.on_interrupted)
    huey.pre_execute(name="notifier")(reports.before)
    huey.post_execute(name="notifier")(reports.after)
    huey.on_shutdown(name="notifier")(jobs.flush)


class _Reports:
    def __init__(self, user: User, skip: Collection[str]) -> None:
        self._user, self._skip = user, skip
        self._runs: dict[str, tuple[Task, Token[Any]]] = {}
        """Tasks that run in this process, by id."""
        self._errors: dict[str, BaseException] = {}
        """Of tasks that are about to be tried again."""

    def on_queued(self, signal: str, task: Any) -> None:
        self._job(task).queued()

    def before(self, task: Any) -> None:
        try:
            reported = self._job(task).started()
        except TaskCancelled as exc:
            raise CancelExecution(str(exc)) from exc
        if reported is not None:
            self._runs[task.id] = reported, current.enter(reported)

    def after(self, task: Any, value: Any, error: BaseException | None) -> None:
        reported = self._left(task)
        if reported is None:
            return
        if error is None:
            jobs.succeeded(reported, value, getattr(type(task), "notifier_result", None))
        elif task.retries:
            self._errors[task.id] = error
        elif isinstance(error, CancelExecution):
            jobs.cancelled(reported)
        else:
            jobs.failed(reported, error)

    def on_error(self, signal: str, task: Any, error: BaseException) -> None:
        if isinstance(error, TaskCancelled):
            task.retries = 0

    def on_retry(self, signal: str, task: Any) -> None:
        error = self._errors.pop(task.id, None)
        if error is not None:
            limit = type(task).default_retries
            jobs.waiting(jobs.resumed(task.id), max(1, limit - task.retries + 1), limit or None, error)

    def on_removed(self, signal: str, task: Any) -> None:
        jobs.cancelled(jobs.resumed(task.id))

    def on_interrupted(self, signal: str, task: Any) -> None:
        reported = self._left(task) or jobs.resumed(task.id)
        jobs.failed(reported, "The worker was stopped.")

    def _left(self, task: Any) -> Task | None:
        reported, token = self._runs.pop(task.id, (None, None))
        if token is not None:
            current.leave(token)
        return reported

    def _job(self, task: Any) -> jobs.Job:
        kind = type(task)
        function = inspect.getclosurevars(kind.execute).nonlocals["func"]
        user = None if kind.__name__ in self._skip else getattr(kind, "notifier_user", self._user)
        return jobs.Job(task.id, function, task.args, task.kwargs, user, getattr(kind, "notifier_name", None))
