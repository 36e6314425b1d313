"""The admin's lists: tasks, and messages that wait. To look at, not to change: the rows say what happened.

A message that was refused can be tried again or deleted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_bridge.models import OutboxMessage, TaskRecord

if TYPE_CHECKING:
    _Tasks = admin.ModelAdmin[TaskRecord]
    _Messages = admin.ModelAdmin[OutboxMessage]
else:
    _Tasks = _Messages = admin.ModelAdmin


@admin.register(TaskRecord)
class TaskRecordAdmin(_Tasks):
    list_display = ("name", "user", "status", "progress", "state", "started_at", "ended_at")
    list_filter = ("status", "started_at")
    list_select_related = ("user",)
    search_fields = ("id", "name", "state", "error")
    date_hierarchy = "started_at"

    @admin.display(description=_("progress"))
    def progress(self, record: TaskRecord) -> str:
        if record.percent is None:
            return str(record.done)
        return format_html('<progress max="100" value="{0}"></progress> {0} %', record.percent)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: TaskRecord | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: TaskRecord | None = None) -> bool:
        return False


@admin.register(OutboxMessage)
class OutboxMessageAdmin(_Messages):
    list_display = ("message_id", "subject", "state", "attempts", "error", "created_at", "due_at")
    list_filter = ("state", "created_at")
    search_fields = ("message_id", "payload", "error")
    actions = ("try_again",)

    @admin.display(description=_("subject"))
    def subject(self, message: OutboxMessage) -> str:
        try:
            return str(json.loads(message.payload)["subject"])
        except (ValueError, KeyError, TypeError):  # not as `send()` wrote it: that may be why it is here
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
