"""Views for a project's users: renewal of a page's token, and the history of messages and tasks."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST, require_safe

from django_bridge.conf import settings
from django_bridge.grants import renewed
from django_bridge.history import messages_of, tasks_of
from django_bridge.tokens import subscriber_token
from notifier.errors import NotAllowed

PAGE: Final = 25
"""Rows on one page of the history."""
MAX_GRANTS: Final = 50
"""Grants of one renewal."""


@never_cache
@require_GET
def token(request: HttpRequest) -> JsonResponse:
    """`{"token": ..., "expires_in": seconds}` for the user of the session; 401 for anonymous users. Never cached."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "log in first"}, status=401)
    return JsonResponse({"token": subscriber_token(request.user), "expires_in": settings().token_ttl_s})


@csrf_exempt  # it changes nothing, and another site's page cannot read the answer
@never_cache
@require_POST
def grants(request: HttpRequest) -> JsonResponse:
    """`{"grants": [...], "denied": [names], "unknown": [names]}` for the JSON body `{"grants": [...]}`.

    401 for anonymous users, 403 for grants of another user.
    """
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "log in first"}, status=401)
    try:
        old = json.loads(request.body)["grants"]
        if not isinstance(old, list) or not all(isinstance(token, str) for token in old) or len(old) > MAX_GRANTS:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"detail": f"the body must be an object with 'grants', at most {MAX_GRANTS}"}, status=400)
    try:
        return JsonResponse(asdict(renewed(request.user, old)))
    except NotAllowed as exc:
        return JsonResponse({"detail": exc.detail}, status=403)


@never_cache
@require_safe
@login_required
def history(request: HttpRequest) -> HttpResponse:
    """The page `django_bridge/history.html`: the user's tasks, and its messages with `KEEP_MESSAGES`."""
    return render(request, "django_bridge/history.html", history_of(request))


def history_of(request: HttpRequest) -> dict[str, Any]:
    """The context of `django_bridge/history_list.html`, for your own page that includes it.

    Page numbers are read from the query: `?messages=2&tasks=3`.
    """
    context = {"notifier_tasks": _page(tasks_of(request.user), request.GET.get("tasks"))}
    if settings().keep_messages:
        context["notifier_messages"] = _page(messages_of(request.user), request.GET.get("messages"))
    return context


def _page(rows: QuerySet[Any], number: str | None) -> Any:
    return Paginator(rows, PAGE).get_page(number)
