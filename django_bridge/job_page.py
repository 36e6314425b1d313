"""`progress_page`: a page with a button that runs a function, and with its live bar.

Must not know: how the function reports.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.conf import global_settings, settings
from django.contrib.auth.views import redirect_to_login
from django.db import connections
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve, reverse
from django.utils.functional import Promise
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from django_bridge import page, views
from django_bridge.task.decorator import name_of, progress, reports_itself, takes_task

log = logging.getLogger("django_bridge")

TEMPLATE: Final = "django_bridge/progress_page.html"
MAX_USER_RUNS: Final = 4
"""Runs of one user at once in one process, on all pages."""
MAX_RUNS: Final = 32
"""Runs of all users at once in one process."""


def progress_page(
    function: Callable[..., Any], task_name: str | Promise | None = None, *, template: str = TEMPLATE, **options: Any
) -> Callable[[HttpRequest], HttpResponseBase]:
    """A view for logged-in users: its button runs `function(request)` in a thread, as a task of the user.

        path("report/", progress_page(make_report))

    The function needs no decorator: a `Progress` in it reports to its task. `task_name` and `options` are those of
    `@progress`; a function with that decorator keeps its own. `template` gets `title`, and the widgets by
    `{% notifier %}`, and `is_busy` after a start that was refused, with the status 429: a user has at most
    `MAX_USER_RUNS` runs at once, a process `MAX_RUNS`. The thread ends with its process: work that must survive a
    restart belongs into a queue.
    """
    run = (
        function if reports_itself(function) else progress(task_name or name_of(function), **options)(_taking(function))
    )
    title = task_name or name_of(function)

    @never_cache
    @csrf_protect
    @require_http_methods(["GET", "HEAD", "POST"])
    def view(request: HttpRequest) -> HttpResponseBase:
        if page.TOKEN_QUERY in request.GET:
            return views.token(request)
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), _login_url())
        if request.method == "POST":
            user = request.user.pk
            if not _runs.enter(user):
                return render(request, template, {"title": title, "is_busy": True}, status=429)
            name = f"progress_page {title}"
            threading.Thread(target=_run, args=(run, request, user), name=name, daemon=True).start()
            return HttpResponseRedirect(request.get_full_path())
        return render(request, template, {"title": title})

    page.TOKEN_VIEWS.append(view)
    return view


def _taking(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with an argument `task`, as `@progress` needs it."""
    if takes_task(function):
        return function
    if inspect.iscoroutinefunction(function):

        async def work(request: HttpRequest, task: Any = None) -> Any:
            return await function(request)

        return work
    return lambda request, task=None: function(request)


class _Runs:
    """The runs of this process, counted by user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_user: Counter[Any] = Counter()

    def enter(self, user: Any) -> bool:
        """Count a run of the user. False, and it is not counted, at one of the bounds."""
        with self._lock:
            if self._by_user[user] >= MAX_USER_RUNS or self._by_user.total() >= MAX_RUNS:
                return False
            self._by_user[user] += 1
            return True

    def leave(self, user: Any) -> None:
        with self._lock:
            self._by_user[user] -= 1
            self._by_user += Counter()  # without the users that have none


_runs: Final = _Runs()


def _run(function: Callable[..., Any], request: HttpRequest, user: Any) -> None:
    try:
        (async_to_sync(function) if inspect.iscoroutinefunction(function) else function)(request)
    except Exception:  # the task has failed with it
        log.exception("%s failed", threading.current_thread().name)
    finally:
        _runs.leave(user)
        connections.close_all()


def _login_url() -> str:
    """`LOGIN_URL`; where it is Django's default and no view is there, as in a new project, that of the admin.

    A pattern that takes the whole path as its argument, as Wagtail's for pages, is no view there.
    """
    url = resolve_url(settings.LOGIN_URL)
    if settings.LOGIN_URL != global_settings.LOGIN_URL:
        return url
    path = url.partition("?")[0]
    try:
        match = resolve(path)
        is_view = path.strip("/") not in (str(value).strip("/") for value in (*match.args, *match.kwargs.values()))
    except Resolver404:
        is_view = False
    if not is_view:
        with suppress(NoReverseMatch):
            return reverse("admin:login")
    return url
