"""Celery tasks that report themselves, by Celery's signals. Must not know: how a job is reported."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery import current_app, current_task, signals

from django_bridge.loop import current
from django_bridge.queues import job as jobs
from django_bridge.queues.owner import SEARCH, User
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.task import Task

_RUN: Final = "notifier_run"
"""The attribute of a Celery request with its `Task`, and with what ends that this is the current one."""


class _Project:
    """The arguments of `report_tasks`."""

    user: User = None
    skip: frozenset[str] = frozenset()


def report_tasks(user: User = SEARCH, *, skip: Sequence[str] = ()) -> None:
    """Report every Celery task of the project that has a user, without code in the tasks.

    `user` is the name of an argument that is a user's key, or a function of the task's arguments; by default the owner
    is found as docs/queues.md says. `skip` names tasks that are not reported; neither are tasks with an argument
    `task`, which report themselves. Options of a task take precedence: `notifier_user` (None: not reported),
    `notifier_name`, `notifier_result`, as in `django_bridge.queues.rq.ReportedJob`.
    """
    _Project.user, _Project.skip = user, frozenset(skip)


def reported_task() -> Task | None:
    """The `Task` of the Celery task that is running, for a `Progress`; None if it is not reported."""
    return _task_of(current_task.request) if current_task else None


def connect() -> None:
    """Connect to Celery's signals. Called when Django starts."""
    for signal, receiver in (
        (signals.before_task_publish, _on_publish),
        (signals.task_prerun, _on_prerun),
        (signals.task_postrun, _on_postrun),
        (signals.task_success, _on_success),
        (signals.task_retry, _on_retry),
        (signals.task_failure, _on_failure),
        (signals.task_revoked, lambda request, **_: jobs.cancelled(jobs.resumed(request.id))),
        (signals.worker_process_shutdown, jobs.flush),
    ):
        signal.connect(jobs.logged(receiver), weak=False, dispatch_uid=f"notifier.{receiver.__name__}")


def _on_publish(sender: str, headers: Mapping[str, Any], body: Any, **_: Any) -> None:
    task = current_app.tasks.get(sender)
    if task is not None and not headers.get("retries") and isinstance(body, tuple):
        _job(task, headers["id"], body[0], body[1]).queued()


def _on_prerun(task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], **_: Any) -> None:
    try:
        reported = _job(task, task_id, args, kwargs).started()
    except TaskCancelled:  # no signal stops a Celery task: its first part does
        reported = jobs.resumed(task_id)
    if reported is not None:
        setattr(task.request, _RUN, (reported, current.enter(reported)))


def _on_postrun(task: Any, **_: Any) -> None:
    if (run := getattr(task.request, _RUN, None)) is not None:
        current.leave(run[1])


def _on_success(sender: Any, result: Any, **_: Any) -> None:
    jobs.succeeded(_task_of(sender.request), result, getattr(sender, "notifier_result", None))


def _on_failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    # If the pool process was killed, this runs in the worker's main process: the task is loaded from its row.
    jobs.failed(_task_of(sender.request) or jobs.resumed(task_id), exception)


def _on_retry(sender: Any, request: Any, reason: Any, **_: Any) -> None:
    jobs.waiting(_task_of(request), request.retries + 1, sender.max_retries, getattr(reason, "exc", None) or reason)


def _task_of(request: Any) -> Task | None:
    return getattr(request, _RUN, (None,))[0]


def _job(task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> jobs.Job:
    reports_itself = not hasattr(task, "notifier_user") and "task" in inspect.signature(task.run).parameters
    user = None if task.name in _Project.skip or reports_itself else getattr(task, "notifier_user", _Project.user)
    return jobs.Job(task_id, task.run, args, kwargs, user, getattr(task, "notifier_name", None))
