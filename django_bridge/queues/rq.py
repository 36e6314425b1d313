"""Jobs of RQ that report themselves: `Queue(job_class=ReportedJob)`, and `rq worker --job-class` with its path.

A job's changes of status are its reports, since RQ makes them in the process that queues, in the job's process, and in
the worker that notices that this was killed. Must not know: how a job is reported.
"""

from __future__ import annotations

from typing import Any

from django.db import connections
from rq.job import Job as RqJob
from rq.job import JobStatus

from django_bridge.queues import job as jobs
from django_bridge.queues.owner import SEARCH, User
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.task import Task

_QUEUED = (JobStatus.QUEUED, JobStatus.SCHEDULED, JobStatus.DEFERRED)
_LOST = "Its process ended without a result."


class ReportedJob(RqJob):
    """Options are attributes of a subclass, or keys of a job's `meta`."""

    notifier_user: User = SEARCH
    """The name of the argument that is a user or its key, or a function of all arguments; None: not reported."""
    notifier_name: Any = None
    """The name on screen, which may be lazy and use the arguments; None: after the function."""
    notifier_result: Any = None
    """A function from the returned value to the URL of the result, or to URL and text."""

    _reported: Task | None = None
    """The task of a job that this process runs."""
    _runs_here = False
    _error: BaseException | None = None

    def perform(self) -> Any:
        self._runs_here, self._error = True, None
        try:
            self._reported = jobs.logged(lambda: self._job().started())()
            with jobs.running(self._reported):
                return super().perform()
        except BaseException as exc:
            self._error = exc
            if isinstance(exc, TaskCancelled):
                self.retries_left = 0
            raise

    def execute_success_callback(self, death_penalty_class: Any, result: Any) -> None:
        super().execute_success_callback(death_penalty_class, result)
        jobs.succeeded(self._reported, result, self._option("notifier_result"))
        jobs.flush()

    def set_status(self, status: JobStatus, pipeline: Any = None) -> None:
        super().set_status(status, pipeline)
        jobs.logged(self._report)(status)

    def _report(self, status: JobStatus) -> None:
        if status not in (*_QUEUED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED):
            return
        task = self._reported or jobs.resumed(self.id)
        if status is JobStatus.FAILED:
            jobs.failed(task, self._error or _LOST)
        elif status not in _QUEUED:
            jobs.cancelled(task)
        elif task is None:
            self.meta.setdefault("notifier_retries", self.retries_left)
            self._job().queued()
            return
        elif task.status != "pending":
            limit = self.meta.get("notifier_retries")
            retry = self.number_of_retries or (limit or 1) - (self.retries_left or 0)
            jobs.waiting(task, retry, limit, self._error or _LOST)
        if self._runs_here:
            jobs.flush()
        elif status in (*_QUEUED, JobStatus.FAILED, JobStatus.STOPPED):
            _close_connections()

    def _job(self) -> jobs.Job:
        user, name = self._option("notifier_user"), self._option("notifier_name")
        return jobs.Job(self.id, self.func, self.args or (), self.kwargs, user, name)

    def _option(self, name: str) -> Any:
        return self.meta.get(name, getattr(type(self), name))


def _close_connections() -> None:
    """For a worker: a process that it forks must not share its connections."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
