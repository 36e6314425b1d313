"""`progress_page`: a page with a button that runs a function, and with its live bar.

Must not know: how the function reports.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.conf import global_settings, settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve, reverse
from django.utils.functional import Promise
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from django_bridge import page, thread_runs, views
from django_bridge.task.decorator import name_of, progress, reports_itself, takes_task

TEMPLATE: Final = "django_bridge/progress_page.html"


def progress_page(
    function: Callable[..., Any], task_name: str | Promise | None = None, *, template: str = TEMPLATE, **options: Any
) -> Callable[[HttpRequest], HttpResponseBase]:
    """A view for logged-in users: its button runs `function(request)` in a thread, as a task of the user.

        path("report/", progress_page(make_report))

    The function needs no decorator: a `Progress` in it reports to its task. `task_name` and `options` are those of
    `@progress`; a function with that decorator keeps its own. `template` gets `title`, and the widgets by
    `{% notifier %}`, and `is_busy` after a start that was refused, with the status 429: a user has at most
    `thread_runs.MAX_USER_RUNS` runs at once, a process `MAX_RUNS`. The thread ends with its process: work that must
    survive a restart belongs into a queue.
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
            work = partial(async_to_sync(run) if inspect.iscoroutinefunction(run) else run, request)
            if not thread_runs.start(work, name=f"progress_page {title}", user=request.user.pk):
                return render(request, template, {"title": title, "is_busy": True}, status=429)
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
