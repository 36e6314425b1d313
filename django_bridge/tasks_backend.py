"""`ReportedBackend`: wraps a backend of Django's Tasks, and its tasks report themselves.

    TASKS = {
        "default": {
            "BACKEND": "django_bridge.tasks_backend.ReportedBackend",
            "OPTIONS": {"BACKEND": "django_tasks_db.DatabaseBackend"},
        }
    }

For `django.tasks` (Django 6) and for the package `django_tasks`. The backend's signals say when a task is queued,
starts and ends; the call of its function gives the value and the exception. Must not know: how a job is reported.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.utils.module_loading import import_string

from django_bridge.models import TaskRecord
from django_bridge.queues import job as jobs
from django_bridge.queues.job import Job
from django_bridge.queues.owner import SEARCH
from django_bridge.task.task import Task

_OWN_OPTIONS: Final = ("BACKEND", "USER", "NAME", "RESULT", "SKIP")


class ReportedBackend:
    """An instance is one of the class of `OPTIONS["BACKEND"]`, and of this one. Options for the wrapped backend stay.

    `OPTIONS["USER"]`: the name of the argument that is a user or its key, or (the path of) a function of all arguments.
    By default it is the first argument that is a user, `user` or `user_id`, or the user of the request (see
    `django_bridge.middleware.current_user`). `NAME`: the name on screen, which may be lazy and use the arguments.
    `RESULT`: (the path of) a function from the returned value to the URL of the result, or to URL and text. Each is one
    value, or a dict from the paths of tasks to values. `SKIP`: the paths of tasks that are not reported.
    """

    def __new__(cls, alias: str, params: Mapping[str, Any]) -> ReportedBackend:
        if cls is not ReportedBackend:
            return super().__new__(cls)
        path = params.get("OPTIONS", {}).get("BACKEND")
        if not path:
            raise ImproperlyConfigured(f"TASKS[{alias!r}]['OPTIONS']['BACKEND'] is missing: the backend to wrap.")
        wrapper: ReportedBackend = super().__new__(_reported(path))
        return wrapper

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        options = dict(params.get("OPTIONS", {}))
        self._own = {name: options.pop(name) for name in _OWN_OPTIONS if name in options}
        super().__init__(alias, {**params, "OPTIONS": options})  # type: ignore[call-arg]  # the wrapped class has it

    def validate_task(self, task: Any) -> None:
        super().validate_task(task)  # type: ignore[misc]  # as above
        # Each task of this backend comes by here when it is made, also in the worker.
        if not isinstance(task, _ReportedTask):
            object.__setattr__(task, "__class__", _reported_task(task.__class__))

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        with self._transaction():
            return super().enqueue(task, args, kwargs)  # type: ignore[misc]  # as above

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        if self._queue_is_table():
            return await sync_to_async(self.enqueue)(task, args, kwargs)
        return await super().aenqueue(task, args, kwargs)  # type: ignore[misc]  # as above

    def job(self, result: Any) -> Job:
        """The job of a task's result. Raises `ImportError` for an option that is the path of no function."""
        user, task = self._option("USER", result.task.module_path, SEARCH), result.task
        return Job(
            id=result.id,
            function=task.func,
            args=(None, *result.args) if task.takes_context else result.args,
            kwargs=result.kwargs,
            user=None if task.module_path in self._own.get("SKIP", ()) else user,
            name=self._option("NAME", task.module_path),
        )

    def result_link(self, task: Any) -> Any:
        """The function of the option `RESULT` for a task; None: there is none."""
        return self._option("RESULT", task.module_path)

    def _option(self, name: str, path: str, default: Any = None) -> Any:
        value = self._own.get(name, default)
        if isinstance(value, Mapping):
            value = value.get(path, default)
        is_path = name != "NAME" and isinstance(value, str) and "." in value
        return import_string(value) if is_path else value

    def _transaction(self) -> AbstractContextManager[Any]:
        """Where the queue is a table: the worker sees the job and the row of its task together."""
        return transaction.atomic(router.db_for_write(TaskRecord)) if self._queue_is_table() else nullcontext()

    def _queue_is_table(self) -> bool:
        return self.is_a("DatabaseBackend")

    def is_a(self, name: str) -> bool:
        """Whether the wrapped class has this name, or a base with it: its package need not be installed."""
        return any(kind.__name__ == name for kind in type(self).__mro__)


@dataclass(slots=True)
class _Run:
    """A task that runs in this thread or coroutine."""

    result: Any
    outer: _Run | None
    """The task that added this one to a queue which ran it at once."""
    task: Task | None = None
    is_called: bool = False
    value: Any = None
    exc: BaseException | None = None


_RUN: Final[ContextVar[_Run | None]] = ContextVar("notifier_run", default=None)


class _ReportedTask:
    """What a task of the wrapped backend gets."""

    __slots__ = ()

    def call(self, *args: Any, **kwargs: Any) -> Any:
        run = _RUN.get()
        if run is None or run.is_called:
            return super().call(*args, **kwargs)  # type: ignore[misc]  # the class of the wrapped backend has it
        run.is_called = True
        try:
            state = f"Attempt {run.result.attempts}" if run.result.attempts > 1 else None
            run.task = jobs.logged(lambda: run.result.task.get_backend().job(run.result).started(state))()
            with jobs.running(run.task):
                run.value = super().call(*args, **kwargs)  # type: ignore[misc]  # as above
        except BaseException as exc:
            run.exc = exc
            raise
        return run.value

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        run = _RUN.get()
        if run is None or run.is_called:
            return await super().acall(*args, **kwargs)  # type: ignore[misc]  # as above
        return await sync_to_async(self.call)(*args, **kwargs)


@functools.cache
def _reported(path: str) -> Any:
    """The class for a wrapped backend. Connects to the signals of its package."""
    wrapped = import_string(path)
    package = next((name for name in map(_package, wrapped.__mro__) if name), None)
    if package is None:
        raise ImproperlyConfigured(f"{path} is no backend of django.tasks or django_tasks.")
    signals = import_module(f"{package}.signals")
    for signal, receiver in (("enqueued", _on_enqueued), ("started", _on_started), ("finished", _on_finished)):
        getattr(signals, f"task_{signal}").connect(receiver, weak=False, dispatch_uid=f"notifier.{signal}")
    return type(wrapped)(f"Reported{wrapped.__name__}", (ReportedBackend, wrapped), {"__module__": __name__})


def _package(kind: Any) -> str | None:
    package, base, _ = kind.__module__.partition(".backends.base")
    return package if base else None


@functools.cache
def _reported_task(wrapped: Any) -> Any:
    members = {"__slots__": (), "__module__": __name__}
    return type(wrapped)(f"Reported{wrapped.__name__}", (_ReportedTask, wrapped), members)


# A worker's sender may be the backend, or its class: the task knows it.


def _backend(result: Any) -> ReportedBackend | None:
    backend = result.task.get_backend()
    return backend if isinstance(backend, ReportedBackend) else None


def _on_enqueued(task_result: Any, **_: Any) -> None:
    if (backend := _backend(task_result)) is not None:
        jobs.logged(lambda: backend.job(task_result).queued())()


def _on_started(task_result: Any, **_: Any) -> None:
    if _backend(task_result) is not None:
        outer = _RUN.get()
        _RUN.set(_Run(task_result, outer if outer is not None and outer.is_called else None))


def _on_finished(task_result: Any, **_: Any) -> None:
    if (backend := _backend(task_result)) is None:
        return
    run = _RUN.get()
    if run is None or run.result.id != task_result.id:  # the process that ran it is gone
        run = _Run(task_result, run, task=jobs.logged(jobs.resumed)(task_result.id))
    _RUN.set(run.outer)
    if task_result.status == "SUCCESSFUL":
        jobs.succeeded(run.task, run.value, jobs.logged(backend.result_link)(task_result.task))
    else:
        jobs.failed(run.task, run.exc or sys.exception() or RuntimeError("The task failed."))
    if backend.is_a("RQBackend"):
        jobs.flush()
