"""The admin's list of tasks. To look at, not to change: the rows say what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_bridge.models import TaskRecord

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[TaskRecord]
else:
    _Base = admin.ModelAdmin


@admin.register(TaskRecord)
class TaskRecordAdmin(_Base):
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
