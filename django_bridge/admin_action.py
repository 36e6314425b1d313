"""`progress_action`: an action of the admin that runs in the background, and shows its bar.

Must not know: how the function reports, what the page of a task looks like.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from django_bridge.task.decorator import progress, reports_itself, takes_task
from django_bridge.task.task import Task

log = logging.getLogger("django_bridge")

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

    The function runs in a thread, which ends with its process. With `queue`, the project's queue does the work:

        actions = [progress_action("Export", queue=export_rows.delay)]

    calls `export_rows.delay(task, [primary keys])`; the worker goes on with `Task.resume(task)`. `permissions` are
    those of Django's `@action`, `options` those of `@progress`. Raises `TypeError` for a function with `@progress`.
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
        task.begin()
        queue(task, list(rows.values_list("pk", flat=True)))
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
            except Exception:  # the task has failed with it
                log.exception("the action %s failed", name)
            finally:
                begun.put(None)
                connections.close_all()

        threading.Thread(target=run, name=f"progress_action {name}").start()
        return _to_its_page(modeladmin, request, begun.get(timeout=BEGIN_S))

    return start


def _to_its_page(modeladmin: Any, request: HttpRequest, task_id: str | None) -> HttpResponseRedirect:
    """The page with the bar; in an admin without the tasks, and where the task could not begin, the list again."""
    back = request.get_full_path()
    try:
        url = reverse(f"{modeladmin.admin_site.name}:django_bridge_taskrecord_bar", args=[task_id or "-"])
    except NoReverseMatch:
        url = ""
    if task_id is None or not url:
        level = messages.ERROR if task_id is None else messages.INFO
        messages.add_message(request, level, _("The task could not begin.") if task_id is None else _("Started"))
        return HttpResponseRedirect(back)
    return HttpResponseRedirect(f"{url}?{urlencode({'next': back})}")
