"""`progress_action`: an action of the admin that runs in the background, and shows its bar.

Must not know: how the function reports, what the page of a task looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from django_bridge import thread_runs
from django_bridge.commit import after_commit
from django_bridge.task.decorator import progress, reports_itself, takes_task
from django_bridge.task.task import Task

BEGIN_S: Final = 10.0
"""How long the request waits for the task to begin."""

Action = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponseRedirect]


def progress_action(
    name: str | Promise,
    *,
    queue: Callable[..., Any] | None = None,
    permissions: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """An action of the admin as a task of the user who starts it; the browser goes to a page with its bar and output.

        @progress_action("Export")
        def export(modeladmin, request, queryset):
            for row in Progress(queryset, parts=100):
                ...

    The function runs in a thread, which ends with its process; the bounds are those of `progress_page`. With `queue`,
    the project's queue does the work:

        actions = [progress_action("Export", queue=export_rows.delay)]

    calls `export_rows.delay(task, [primary keys])` on commit; the worker goes on with `Task.resume(task)`.
    `permissions` are those of Django's `@action`, `options` those of `@progress`. Raises `TypeError` for a function
    with `@progress`.
    """
    if queue is not None:
        if options:
            raise TypeError("with queue=, the options of @progress belong to the queue's function")
        return _action(_in_queue(name, queue), name, permissions, getattr(queue, "__qualname__", None) or repr(queue))

    def decorate(function: Callable[..., Any]) -> Action:
        if reports_itself(function):
            raise TypeError(f"{function.__name__} has @progress; @progress_action brings it already")
        return _action(_in_thread(name, function, options), name, permissions, function.__name__)

    return decorate


def _action(start: Action, name: str | Promise, permissions: Sequence[str] | None, identifier: str) -> Action:
    action: Any = start
    action.__name__ = "".join(letter if letter.isalnum() else "_" for letter in identifier)
    # What Django's `@action` sets. Importing it needs the admin among the installed apps.
    action.short_description = name
    if permissions is not None:
        action.allowed_permissions = permissions
    decorated: Action = action
    return decorated


def _in_queue(name: str | Promise, queue: Callable[..., Any]) -> Action:
    def start(modeladmin: Any, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseRedirect:
        task = Task(from_user=request.user, task_name=name)
        keys = list(rows.values_list("pk", flat=True))

        def hand_over() -> None:
            task.begin()
            queue(task, keys)

        after_commit(hand_over)
        return _to_its_page(modeladmin, request, task.id)

    return start


def _in_thread(name: str | Promise, function: Callable[..., Any], options: dict[str, Any]) -> Action:
    def start(modeladmin: Any, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponseRedirect:
        begun: SimpleQueue[str | None] = SimpleQueue()

        def work(modeladmin: Any, request: HttpRequest, rows: QuerySet[Any], task: Any = None) -> Any:
            begun.put(task.id)
            passed = {"task": task} if takes_task(function) else {}
            return function(modeladmin, request, rows, **passed)

        def run() -> None:
            try:
                progress(name, **options)(work)(modeladmin, request, rows)
            finally:
                begun.put(None)

        if not thread_runs.start(run, name=f"progress_action {name}", user=request.user.pk):
            return _back(request, messages.ERROR, _("Too many runs at once: start it again when one has ended"))
        try:
            task_id = begun.get(timeout=BEGIN_S)
        except Empty:  # it begins later
            return _back(request, messages.INFO, _("Started"))
        if task_id is None:
            return _back(request, messages.ERROR, _("The task could not begin."))
        return _to_its_page(modeladmin, request, task_id)

    return start


def _to_its_page(modeladmin: Any, request: HttpRequest, task_id: str) -> HttpResponseRedirect:
    """The page with the bar; in an admin without the tasks the list again."""
    try:
        url = reverse(f"{modeladmin.admin_site.name}:django_bridge_taskrecord_bar", args=[task_id])
    except NoReverseMatch:
        return _back(request, messages.INFO, _("Started"))
    return HttpResponseRedirect(f"{url}?{urlencode({'next': request.get_full_path()})}")


def _back(request: HttpRequest, level: int, text: object) -> HttpResponseRedirect:
    """The list again, with a message."""
    messages.add_message(request, level, str(text))
    return HttpResponseRedirect(request.get_full_path())
