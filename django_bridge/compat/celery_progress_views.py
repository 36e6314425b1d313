"""celery-progress's JSON views, answered from the database, so that polling pages keep working during a migration."""

from __future__ import annotations

from typing import Any, Final

from celery.backends.base import DisabledBackend
from celery.result import AsyncResult, GroupResult
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache

from django_bridge.models import TaskRecord

_ENDS: Final = {"succeeded": ("SUCCESS", True), "failed": ("FAILURE", False), "cancelled": ("REVOKED", False)}


@never_cache
def get_progress(request: HttpRequest, task_id: str) -> JsonResponse:
    """`{"state", "complete", "success", "progress": {...}, "result"}`; 404 for the task of another user."""
    row = TaskRecord.objects.filter(pk=task_id).first()
    if row is not None and row.user_id not in (None, _asking(request)):
        raise Http404
    return JsonResponse(_info(row))


@never_cache
def get_group_progress(request: HttpRequest, group_id: str) -> JsonResponse:
    """The sum over the tasks of a saved group."""
    group = GroupResult.restore(group_id)
    if group is None:
        raise Http404
    rows = TaskRecord.objects.in_bulk([child.id for child in group.children])
    if any(row.user_id not in (None, _asking(request)) for row in rows.values()):
        raise Http404
    infos = [_info(rows.get(child.id)) for child in group.children]
    total, current = (sum(info["progress"][key] for info in infos) for key in ("total", "current"))
    percent = float(round(100 * current / total, 2)) if total else 0.0
    return JsonResponse(
        {
            "complete": all(info["complete"] for info in infos),
            "success": all(info["success"] for info in infos),
            "progress": {"total": total, "current": current, "percent": percent},
        }
    )


def _asking(request: HttpRequest) -> Any:
    return getattr(getattr(request, "user", None), "pk", None)


def _info(row: TaskRecord | None) -> dict[str, Any]:
    if row is None:
        progress: dict[str, Any] = {"pending": True, "current": 0, "total": 100, "percent": 0}
        return {"state": "PENDING", "complete": False, "success": None, "progress": progress}
    if row.status in _ENDS:
        state, success = _ENDS[row.status]
        progress = {"pending": False, "current": 100, "total": 100, "percent": 100}
        result = _result(row.pk) if success else row.error or row.state
        return {"state": state, "complete": True, "success": success, "progress": progress, "result": result}
    total = row.total or 0
    percent = round(100 * row.done / total, 2) if total else 0
    progress = {"pending": False, "current": row.done, "total": total, "percent": percent, "description": row.state}
    return {"state": "PROGRESS", "complete": False, "success": None, "progress": progress}


def _result(task_id: str) -> Any:
    """The return value of the Celery task, where the project keeps results."""
    result = AsyncResult(task_id)
    return None if isinstance(result.backend, DisabledBackend) else result.result
