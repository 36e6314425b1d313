"""A job of a queue as a `Task`: queued, running, waiting for its next attempt, ended. The adapters call it.

The `Task` has the job's id, so that the process that queues, the worker and a second worker after a crash report one
task. Must not know: queues.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

from django.conf import settings
from django.urls import Resolver404, resolve

from django_bridge import background
from django_bridge.event_loop import outside_loop
from django_bridge.languages import speaking
from django_bridge.loop.current import working_on
from django_bridge.queues.owner import SEARCH, User, arguments, owner_of
from django_bridge.task import scheduler
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.decorator import filled, link_of, name_of, reports_itself
from django_bridge.task.task import Task
from django_bridge.texts import shown_error
from notifier import rules
from notifier.errors import InvalidInput, NotFound

log = logging.getLogger("django_bridge")

P = ParamSpec("P")
R = TypeVar("R")

RETRY: Final = "Retry "
"""How the state of a task that waits for its next attempt begins. At its success this state is removed."""


def logged(report: Callable[P, R]) -> Callable[P, R | None]:
    """Log errors of a report and return None: the job runs on, unreported. `TaskCancelled` propagates."""

    @functools.wraps(report)
    def reported(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return report(*args, **kwargs)
        except TaskCancelled:
            raise
        except Exception:
            log.exception("a job could not be reported")
            return None

    return reported


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as its adapter describes it."""

    id: str
    """Of the queue; the same for each attempt."""
    function: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    user: User = SEARCH
    name: Any = None
    """A text, which may be lazy and may use the arguments (`"Import of {path}"`); None: the function's name."""

    @logged
    @outside_loop
    def queued(self) -> None:
        """Show the job as pending, before a worker can have it. A job that is known stays as it is."""
        if resumed(self.id) is None and (task := self._new_task()) is not None:
            task.begin_pending()

    @logged
    @outside_loop
    def started(self, state: str | None = None) -> Task | None:
        """The job's running task; None if it has no owner, or reports itself by `@progress`.

        Raises `TaskCancelled` if a user cancelled it before. A job that runs again after its end gets a new task.
        """
        task = resumed(self.id)
        if task is not None and task.status == "cancelled":
            raise TaskCancelled(task.id)
        if task is None or task.ended:
            task = self._new_task(again=task is not None)
        if task is None:
            return None
        task.begin(state)
        task.works_here()
        task.raise_if_cancelled()
        return task

    def _new_task(self, *, again: bool = False) -> Task | None:
        if reports_itself(self.function):
            return None
        kwargs = self.kwargs or {}
        owner = owner_of(self.user, self.function, self.args, kwargs)
        if owner is None:
            return None
        with speaking(owner):
            given = arguments(self.function, self.args, kwargs)
            name = name_of(self.function) if self.name is None else filled(self.name, given)
            task = Task(from_user=owner, task_name=name)
        if not again:
            task.id = _task_id(self.id)
        return task


@contextmanager
def running(task: Task | None) -> Iterator[None]:
    """A block that runs the function of a job. Raises `TaskCancelled` at its end if the function caught the first."""
    if task is None:
        yield
        return
    with working_on(task):
        yield
    if task.status == "cancelled":
        raise TaskCancelled(task.id)


@outside_loop
def resumed(job_id: str) -> Task | None:
    """The task of a job that has one."""
    try:
        return Task.resume(_task_id(job_id))
    except NotFound:
        return None


@logged
def succeeded(task: Task | None, value: Any = None, result: Callable[[Any], Any] | None = None) -> None:
    """End the task of a job. `result` makes the link of what the function returned; without it a URL is the link."""
    if task is not None and not task.ended:
        url, url_text = _link(value, result) or (None, None)
        task.end("" if task.state.startswith(RETRY) else None, url=url, url_text=url_text)


@logged
def _link(value: Any, result: Callable[[Any], Any] | None) -> tuple[Any, Any]:
    if result is None:
        return (value if _is_url(value) else None), None
    url, url_text = link_of(result, value)
    return rules.url(url if url is None else str(url)), url_text


@logged
def failed(task: Task | None, error: BaseException | str) -> None:
    """The job failed, and is not tried again."""
    if task is not None and not task.ended:
        task.fail(error)


@logged
def waiting(task: Task | None, retry: int, limit: int | None, error: object) -> None:
    """The job failed, and will be tried again: this many times so far, at most `limit` times."""
    if task is not None and not task.ended:
        count = f"{retry}" if limit is None else f"{retry} of {limit}"
        task.wait(f"{RETRY}{count}: {shown_error(error)}"[: rules.MAX_STATE_CHARS])


@logged
def cancelled(task: Task | None) -> None:
    """The job was cancelled by means of its queue."""
    if task is not None and not task.ended:
        task.cancelled(task.cancelled_text)


def flush(**_: Any) -> None:
    """The end of a process without Python's `atexit`, as those that queues fork: send what is not sent yet."""
    scheduler.at_exit()
    background.at_exit()


def _task_id(job_id: str) -> str:
    """The id of a job as that of a task: as it is where the rules for ids allow it."""
    try:
        return rules.identifier(job_id)
    except InvalidInput:
        return hashlib.sha256(str(job_id).encode(errors="replace")).hexdigest()[:32]


def _is_url(value: Any) -> bool:
    """Whether a returned value is a URL: http, https, or a path of this site or of its files."""
    try:
        if not isinstance(value, str) or not value.strip() or rules.url(value) is None:
            return False
    except InvalidInput:
        return False
    if value.startswith(("http://", "https://")):
        return True
    files = [prefix for prefix in (settings.MEDIA_URL, settings.STATIC_URL) if prefix and prefix != "/"]
    if not value.startswith("/") or value.startswith(tuple(files)):
        return value.startswith("/")
    try:
        resolve(value.partition("?")[0].partition("#")[0])
    except Resolver404:
        return False
    return True
