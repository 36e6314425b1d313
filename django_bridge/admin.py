"""The admin: tasks with live progress bars, kept messages, and the outbox. Rows are read-only, since they record what
happened; messages of the outbox can be retried or deleted.

With `NOTIFIER["TASKS_GROUP"]`, the list of tasks and the board are live: see `board`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_bridge.board import bar, board, board_token, link_of, live_list, row_of
from django_bridge.models import MessageRecipient, MessageRecord, OutboxMessage, TaskRecord
from django_bridge.payload import is_event, is_message, is_task_end, named

if TYPE_CHECKING:
    _Tasks = admin.ModelAdmin[TaskRecord]
    _Kept = admin.ModelAdmin[MessageRecord]
    _Waiting = admin.ModelAdmin[OutboxMessage]
    _Any = admin.ModelAdmin[Any]
else:
    _Tasks = _Kept = _Waiting = _Any = admin.ModelAdmin

LIVE: Final = 200
"""Rows that one request of the board may read."""
SHOWN: Final = 3
"""Recipients shown per message in the list."""


class _ReadOnly(_Any):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(TaskRecord)
class TaskRecordAdmin(_ReadOnly, _Tasks):
    list_display = ("name", "user", "status", "progress", "result", "state", "started_at", "ended_at")
    list_filter = ("status", "started_at")
    list_select_related = ("user",)
    search_fields = ("id", "name", "state", "error", "traceback")
    date_hierarchy = "started_at"
    change_list_template = "django_bridge/task_list.html"

    class Media:
        js = ("django_bridge/admin_tasks.js",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only with its user: the admin asks here too before it deletes that."""
        page = getattr(request.resolver_match, "url_name", None) or ""
        own = ("django_bridge_taskrecord_", f"{self.opts.app_label}_{self.opts.model_name}_")  # of a proxy, the second
        return obj is not None and page != "" and not page.startswith(own)

    @admin.display(description=_("progress"))
    def progress(self, record: TaskRecord) -> str:
        if record.percent is None:
            bar = str(record.done)
        else:
            bar = format_html('<progress max="100" value="{0}"></progress> {0} %', record.percent)
        if record.ended_at is not None:
            return bar
        return format_html('<span data-notifier-task="{}">{}</span>', record.pk, bar)

    @admin.display(description=_("result"))
    def result(self, record: TaskRecord) -> str:
        url, text = link_of(record)
        return format_html('<a class="button" href="{}">{}</a>', url, text) if url else ""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        live = live_list(request, self.admin_site) if self.has_view_permission(request) else {}
        return super().changelist_view(request, {**live, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern]:
        def at(route: str, name: str, view: Callable[..., HttpResponse]) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"django_bridge_taskrecord_{name}")

        return [
            at("live/", "live", self.live),
            at("board/", "board", self.board),
            at("board/token/", "board_token", self.board_token),
            at("bar/<str:task_id>/", "bar", self.bar),
            *super().get_urls(),
        ]

    def live(self, request: HttpRequest) -> JsonResponse:
        """The rows of the tasks `?id=...&id=...`, which began after the board was opened; 403 without the permission to
        view tasks."""
        if not self.has_view_permission(request):
            return JsonResponse({"tasks": []}, status=403)
        records = self.get_queryset(request).filter(pk__in=request.GET.getlist("id")[:LIVE]).select_related("user")
        return JsonResponse({"tasks": [row_of(record) for record in records]})

    def board(self, request: HttpRequest) -> HttpResponse:
        """The tasks of all users; 403 without the permission to view tasks."""
        self._require_view(request)
        return board(request, self.admin_site, self.get_queryset(request))

    def board_token(self, request: HttpRequest) -> HttpResponse:
        self._require_view(request)
        return board_token(request)

    def bar(self, request: HttpRequest, task_id: str) -> HttpResponse:
        """The page of one task of this user."""
        return bar(request, self.admin_site, task_id)

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


@admin.register(MessageRecord)
class MessageRecordAdmin(_ReadOnly, _Kept):
    list_display = ("subject", "sender_name", "to", "level", "sent_at")
    list_filter = ("level", "sent_at")
    search_fields = ("id", "subject", "text", "sender_name", "recipients__channel")
    date_hierarchy = "sent_at"
    readonly_fields = ("to",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[MessageRecord]:
        return (
            super()
            .get_queryset(request)
            .prefetch_related(Prefetch("recipients", _first_recipients(), "first_recipients"))
        )

    @admin.display(description=_("recipients"))
    def to(self, record: MessageRecord) -> str:
        channels = [recipient.channel for recipient in getattr(record, "first_recipients", ())]
        return ", ".join(channels[:SHOWN]) + (", …" if len(channels) > SHOWN else "")


@admin.register(OutboxMessage)
class OutboxMessageAdmin(_Waiting):
    list_display = ("message_id", "subject", "state", "attempts", "error", "created_at", "due_at")
    list_filter = ("state", "created_at")
    search_fields = ("message_id", "payload", "error")
    actions = ("try_again",)

    @admin.display(description=_("subject"))
    def subject(self, message: OutboxMessage) -> str:
        try:
            payload = json.loads(message.payload)
            if is_task_end(payload):
                return str(payload["task"]["name"])
            if is_message(payload):
                return str(payload["subject"])
            return str(payload["type"]) if is_event(payload) else named(payload)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ):  # not written by `send()`, which may be why it was refused
            return "?"

    @admin.action(description=_("Try again to send the selected messages"), permissions=["send"])
    def try_again(self, request: HttpRequest, messages: QuerySet[OutboxMessage]) -> None:
        count = messages.exclude(state=OutboxMessage.State.SENDING).update(
            state=OutboxMessage.State.WAITING, due_at=timezone.now(), attempts=0
        )
        self.message_user(request, _("%d messages will be tried again.") % count)

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_bridge.change_outboxmessage")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: OutboxMessage | None = None) -> bool:
        return False


def _first_recipients() -> QuerySet[MessageRecipient]:
    """Per message, one recipient more than are shown: a sliced prefetch, one query for the whole list."""
    return MessageRecipient.objects.order_by("pk")[: SHOWN + 1]
