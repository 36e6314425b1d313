"""The row of a task, `TaskRecord`: written from its state and read back.

A row is written in the caller's transaction, inside a savepoint: a write that fails does not break that transaction,
and a rollback of it undoes the write. Each write has the whole state, so the next one after a rollback repairs the row.
Must not know: transports.
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime
from typing import Any

from django.conf import settings as django_settings
from django.db import Error, IntegrityError, router, transaction

from django_bridge.conf import settings
from django_bridge.models import TaskRecord, written
from notifier.errors import no_task
from notifier.task import Task

log = logging.getLogger("django_bridge")


def write(task: Task, user_key: Any, traceback: str = "", *, replaces_end: bool = False) -> None:
    """Write the state to the row, unless the row has a newer state or has ended: processes may share a task.

    replaces_end: write it in any case. A process that was told of the end by the service may have written it first,
    without its error, link and traceback. A `django.db.Error` is logged, and raised under `RAISE`.
    """
    fields = _fields(task, user_key)
    if traceback:
        fields["traceback"] = traceback
    row = written(TaskRecord).filter(pk=task.id)
    older = row if replaces_end else row.filter(updated_at__lte=fields["updated_at"], ended_at=None)
    try:
        with transaction.atomic(using=router.db_for_write(TaskRecord)):
            if not older.update(**fields) and not row.exists():
                TaskRecord.objects.create(pk=task.id, **fields)
    except IntegrityError:  # another process has just created the row
        older.update(**fields)
    except Error:
        if settings().raise_:
            raise
        log.exception("the row of task %s could not be written", task.id)


def update(row: TaskRecord, task: Task) -> bool:
    """Update a row from the state that the service has, if that is newer. Returns whether it was."""
    fields = _fields(task, None)
    for name in ("user_id", "to", "cancel_requested"):
        del fields[name]
    unchanged = written(TaskRecord).filter(pk=row.pk, updated_at=row.updated_at, ended_at=None)
    return fields["updated_at"] > row.updated_at and unchanged.update(**fields) == 1


def read(task_id: str | uuid.UUID) -> tuple[Task, Any]:
    """Read a row: the state, and the key of its user. Raises `NotFound`."""
    # Celery's ids have dashes, the others do not.
    forms = [str(task_id), task_id.hex] if isinstance(task_id, uuid.UUID) else [task_id]
    row = written(TaskRecord).filter(pk__in=forms).first()
    if row is None:
        raise no_task(task_id)
    task = Task(
        id=row.pk,
        name=row.name,
        to=tuple(row.to),
        status=row.status,
        state=row.state,
        done=row.done,
        total=row.total,
        error=row.error or None,
        started_at_ms=_ms(row.started_at),
        updated_at_ms=_ms(row.updated_at),
        ended_at_ms=_ms(row.ended_at) if row.ended_at else None,
        cancel_requested=row.cancel_requested,
        url=row.url or None,
        url_text=row.url_text or None,
    )
    return task, row.user_id


def _fields(task: Task, user_key: Any) -> dict[str, Any]:
    return {
        "name": task.name,
        "user_id": user_key,
        "to": list(task.to),
        "status": task.status,
        "state": task.state,
        "done": task.done,
        "total": task.total,
        "error": task.error or "",
        "url": task.url or "",
        "url_text": task.url_text or "",
        "cancel_requested": task.cancel_requested,
        "started_at": _moment(task.started_at_ms),
        "updated_at": _moment(task.updated_at_ms),
        "ended_at": None if task.ended_at_ms is None else _moment(task.ended_at_ms),
    }


def _moment(at_ms: int) -> datetime:
    """For the database: without `USE_TZ` it takes naive local time."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment if django_settings.USE_TZ else moment.astimezone().replace(tzinfo=None)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
