"""Celery tasks that report themselves: a `Task` follows the worker's signals, without code in the Celery task.

    @shared_task(notifier_user="user_id")
    def import_file(user_id, path): ...

Or `report_tasks(user="user_id")` beside the Celery app, for all tasks of the project with that argument. The `Task` has
the id of the Celery task; a retry continues it, pending until then. Must not know: transports.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celery import current_task, signals

from django_bridge import background
from django_bridge.loop import current
from django_bridge.task import scheduler
from django_bridge.task.task import Task
from django_bridge.texts import shown_error
from notifier.errors import NotFound

log = logging.getLogger("django_bridge")

User = str | Callable[..., Any]
RETRY: Final = "Retry "
"""How the state of a task that waits for its next run begins. At its success this state is removed."""
_ATTRIBUTE: Final = "notifier_task"
"""The attribute of a Celery request that holds its `Task`."""
_TOKEN: Final = "notifier_token"  # noqa: S105  # a name
"""The attribute that holds what ends its time as the current task."""


class _Project:
    """The arguments of `report_tasks`."""

    user: User | None = None
    skip: frozenset[str] = frozenset()


def report_tasks(user: User, *, skip: Sequence[str] = ()) -> None:
    """Report every Celery task of the project that has a user, without code in the tasks.

    `user` is the name of an argument that is a user's key, or a function of the task's arguments. If it yields None, or
    the task has no such argument, the task is not reported. `skip` names tasks that are not reported; neither are tasks
    with an argument `task`, which report themselves. Options of a Celery task take precedence: `notifier_user` (None:
    not reported), and `notifier_name`, its name on screen, which may use the arguments: `"Import of {path}"`.
    """
    _Project.user, _Project.skip = user, frozenset(skip)


def reported_task() -> Task | None:
    """The `Task` of the Celery task that is running, for a `Progress`; None if it is not reported."""
    return getattr(current_task.request, _ATTRIBUTE, None) if current_task else None


def connect() -> None:
    """Connect to the worker's signals. Called when Django starts."""
    for signal, receiver in (
        (signals.task_prerun, _on_prerun),
        (signals.task_postrun, _on_postrun),
        (signals.task_success, _on_success),
        (signals.task_retry, _on_retry),
        (signals.task_failure, _on_failure),
        (signals.task_revoked, _on_revoked),
    ):
        signal.connect(_logged(receiver), weak=False, dispatch_uid=f"notifier.{receiver.__name__}")
    # The processes of Celery's prefork pool end without Python's atexit.
    signals.worker_process_shutdown.connect(_on_process_end, weak=False, dispatch_uid="notifier._on_process_end")


def _logged(receiver: Callable[..., None]) -> Callable[..., None]:
    """Log errors of a receiver: the Celery task runs on, unreported."""

    @functools.wraps(receiver)
    def received(**arguments: Any) -> None:
        try:
            receiver(**arguments)
        except Exception:
            log.exception("a Celery task could not be reported")

    return received


def _on_prerun(task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], **_: Any) -> None:
    user = getattr(task, "notifier_user", _Project.user)
    if user is None or task.name in _Project.skip:
        return
    given = _arguments(task, args, kwargs)
    from_user = given.get(user) if isinstance(user, str) else user(*args, **kwargs)
    if from_user is None or (not hasattr(task, "notifier_user") and "task" in inspect.signature(task.run).parameters):
        return
    reported = _resumed(task_id)
    if reported is None:
        reported = Task(from_user=from_user, task_name=_name(task, given))
        reported.id = task_id
    setattr(task.request, _ATTRIBUTE, reported)
    setattr(task.request, _TOKEN, current.enter(reported))
    if not reported.ended:
        reported.begin()
        reported.works_here()


def _on_postrun(task: Any, **_: Any) -> None:
    token = getattr(task.request, _TOKEN, None)
    if token is not None:
        current.leave(token)


def _on_success(sender: Any, **_: Any) -> None:
    reported = getattr(sender.request, _ATTRIBUTE, None)
    if reported is not None and not reported.ended:
        reported.end("" if reported.state.startswith(RETRY) else None)


def _on_failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    # If the pool process was killed, this runs in the worker's main process: the task is loaded from its row.
    reported = getattr(sender.request, _ATTRIBUTE, None) or _resumed(task_id)
    if reported is not None and not reported.ended:
        reported.fail(exception)


def _on_retry(sender: Any, request: Any, reason: Any, **_: Any) -> None:
    reported = getattr(request, _ATTRIBUTE, None)
    if reported is not None and not reported.ended:
        limit = sender.max_retries
        count = f"{request.retries + 1}" if limit is None else f"{request.retries + 1} of {limit}"
        reported.wait(f"{RETRY}{count}: {shown_error(getattr(reason, 'exc', None) or reason)}"[:2000])


def _on_revoked(request: Any, **_: Any) -> None:
    reported = _resumed(request.id)
    if reported is not None and not reported.ended:
        reported.cancelled()


def _on_process_end(**_: Any) -> None:
    scheduler.at_exit()
    background.at_exit()


def _resumed(task_id: str) -> Task | None:
    try:
        return Task.resume(task_id)
    except NotFound:
        return None


def _arguments(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = inspect.signature(task.run).bind_partial(*args, **kwargs)
    bound.apply_defaults()
    return {**bound.arguments, **kwargs}


def _name(task: Any, given: Mapping[str, Any]) -> str:
    name = getattr(task, "notifier_name", None) or task.name.rpartition(".")[2].replace("_", " ").capitalize()
    return str(name).format_map(given)
