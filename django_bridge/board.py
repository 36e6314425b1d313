"""The admin's pages of tasks: the board with those of all users, the stream of the list, and the page of one task with
its bar and output.

Must not know: rows' columns in the admin's list, how tasks report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from django_bridge.conf import settings
from django_bridge.models import TaskRecord, written
from django_bridge.page import config_of
from django_bridge.tokens import subscriber_token
from notifier import rules
from notifier.errors import InvalidInput

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

SHOWN: Final = 200
"""Tasks of the board when it opens: unfinished ones first, then the newest."""
ACT_PERMISSION: Final = "django_bridge.change_taskrecord"
"""To cancel tasks and answer what they ask; without it the board only shows them."""


def board(request: HttpRequest, site: AdminSite, tasks: QuerySet[TaskRecord]) -> HttpResponse:
    """The board over `tasks`; the caller has checked the permission to view them."""
    newest = tasks.select_related("user").order_by(F("ended_at").desc(nulls_first=True), "-started_at")[:SHOWN]
    context = {
        **site.each_context(request),
        "title": _("Task board"),
        "config": _config(request, site),
        "data": {
            "tasks": [row_of(task) for task in newest],
            "statuses": _statuses(),
            "texts": {"output": _("Output"), "cancel": _("Cancel")},
            "live": reverse(f"{site.name}:django_bridge_taskrecord_live"),
            "acts": request.user.has_perm(ACT_PERMISSION),
        },
    }
    return _page(request, site, "django_bridge/board.html", context)


def live_list(request: HttpRequest, site: AdminSite) -> dict[str, Any]:
    """What the list of tasks needs to be live; the caller has checked the permission to view them."""
    config = _config(request, site)
    return {
        "stream": config and {**config, "widgets": False},
        "texts": {"statuses": _statuses(), "open": _("Open")},
    }


def board_token(request: HttpRequest) -> JsonResponse:
    """The next token of the board's stream, as the view `token` answers for other pages."""
    return JsonResponse({"token": _token(request), "expires_in": settings().token_ttl_s})


def bar(request: HttpRequest, site: AdminSite, task_id: str) -> HttpResponse:
    """The bar, the questions and the output of one task of this user. Raises `Http404`, `PermissionDenied`."""
    record = written(TaskRecord).filter(pk=task_id).first()
    if record is None:
        raise Http404
    if record.user_id != request.user.pk:
        raise PermissionDenied
    back = request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure()):
        back = reverse(f"{site.name}:index")
    context = {**site.each_context(request), "title": record.name, "task_id": record.pk, "back": back}
    return _page(request, site, "django_bridge/bar.html", context)


def row_of(record: TaskRecord) -> dict[str, Any]:
    """A task as the board's script reads it."""
    return {
        "id": record.pk,
        "name": record.name,
        "user": str(record.user or ""),
        "status": record.status,
        "state": record.error or record.state,
        "done": record.done,
        "percent": record.percent,
        "started_at": record.started_at.isoformat(),
        "ended_at": record.ended_at and record.ended_at.isoformat(),
        "link": link_of(record),
    }


def link_of(record: TaskRecord) -> tuple[str, str]:
    """The URL and the button's text of a task's result; empty without one. A row may come from elsewhere: its URL is
    checked again."""
    try:
        url = rules.url(record.url or None) or ""
    except InvalidInput:
        url = ""
    return url, str(record.url_text or _("Open")) if url else ""


def _page(request: HttpRequest, site: AdminSite, template: str, context: dict[str, Any]) -> HttpResponse:
    request.current_app = site.name  # which admin the links of its templates belong to
    return TemplateResponse(request, template, context)


def _statuses() -> dict[str, str]:
    return {"waiting": _("waiting"), **{str(value): str(text) for value, text in TaskRecord.Status.choices}}


def _config(request: HttpRequest, site: AdminSite) -> dict[str, Any] | None:
    """The configuration of a stream that hears the tasks of all users; None without a group for them."""
    if not settings().tasks_group:
        return None
    # Not shared with the user's other tabs: their streams do not hear the group.
    config = config_of(request.user) or {}
    token_url = reverse(f"{site.name}:django_bridge_taskrecord_board_token")
    return {**config, "token": _token(request), "tokenUrl": token_url, "shared": False, "widgets": True}


def _token(request: HttpRequest) -> str:
    group = settings().tasks_group
    acts = request.user.has_perm(ACT_PERMISSION)
    return subscriber_token(request.user, groups=[group] if group else [], cancels=acts, answers=acts)
