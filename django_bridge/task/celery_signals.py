"""Celery tasks that report themselves: the worker's signals become the life of a `Task`, without code in the task.

    @shared_task(notifier_user="user_id")
    def import_file(user_id, path): ...

or, for every task of a project that has such an argument, `report_tasks(user="user_id")` beside the Celery app. The
`Task` has Celery's id; a retry is the same task, which waits. Must not know: transports.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celery import current_task, signals

from django_bridge.task.task import Task
from django_bridge.texts import fault_text
from notifier.errors import NotFound

log = logging.getLogger("django_bridge")

User = str | Callable[..., Any]
_HELD: Final = "notifier_task"
"""Where a request holds its `Task`."""


class _Project:
    """What `report_tasks` said."""

    user: User | None = None
    skip: frozenset[str] = frozenset()


def report_tasks(user: User, *, skip: Sequence[str] = ()) -> None:
    """Every Celery task that names a user is reported to it, without code in the task.

    `user` is the name of an argument that is a user's key, or a function of the task's arguments; where it finds
    nobody, or the task has no such argument, nothing is reported. `skip` names tasks that are left alone; those that
    take an argument `task` report by themselves. A task's own options go first: `notifier_user`, `notifier_name` (its
    name on screen; it may use the arguments), and `notifier_user=None` for none.
    """
    _Project.user, _Project.skip = user, frozenset(skip)


def reported_task() -> Task | None:
    """The `Task` of the Celery task that runs here, for a `Progress`; None where it is not reported."""
    return getattr(current_task.request, _HELD, None) if current_task else None


def connect() -> None:
    """Listens to the worker's signals. Called when Django starts."""
    for signal, receiver in (
        (signals.task_prerun, _begins),
        (signals.task_success, _succeeded),
        (signals.task_retry, _retries),
        (signals.task_failure, _failed),
        (signals.task_revoked, _revoked),
    ):
        signal.connect(_quiet(receiver), weak=False, dispatch_uid=f"notifier.{receiver.__name__}")


def _quiet(receiver: Callable[..., None]) -> Callable[..., None]:
    """What cannot be reported is logged; the work goes on."""

    @functools.wraps(receiver)
    def received(**told: Any) -> None:
        try:
            receiver(**told)
        except Exception:
            log.exception("a Celery task could not be reported")

    return received


def _begins(task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], **_: Any) -> None:
    user = getattr(task, "notifier_user", _Project.user)
    if user is None or task.name in _Project.skip:
        return
    given = _arguments(task, args, kwargs)
    from_user = given.get(user) if isinstance(user, str) else user(*args, **kwargs)
    if from_user is None or (not hasattr(task, "notifier_user") and "task" in inspect.signature(task.run).parameters):
        return
    reported = _known(task_id)
    if reported is None:
        reported = Task(from_user=from_user, task_name=_name(task, given))
        reported.id = task_id
    setattr(task.request, _HELD, reported)
    if not reported.ended:
        reported.begin()
        reported.works_here()


def _succeeded(sender: Any, **_: Any) -> None:
    reported = getattr(sender.request, _HELD, None)
    if reported is not None and not reported.ended:
        reported.end()


def _failed(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    # In the worker's main process where the one that did the work was killed: there it is known by its row.
    reported = getattr(sender.request, _HELD, None) or _known(task_id)
    if reported is not None and not reported.ended:
        reported.fail(exception)


def _retries(sender: Any, request: Any, reason: Any, **_: Any) -> None:
    reported = getattr(request, _HELD, None)
    if reported is not None and not reported.ended:
        most = sender.max_retries
        count = f"{request.retries + 1}" if most is None else f"{request.retries + 1} of {most}"
        reported.wait(f"Retry {count}: {fault_text(getattr(reason, 'exc', None) or reason)}"[:2000])


def _revoked(request: Any, **_: Any) -> None:
    reported = _known(request.id)
    if reported is not None and not reported.ended:
        reported.cancelled()


def _known(task_id: str) -> Task | None:
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
