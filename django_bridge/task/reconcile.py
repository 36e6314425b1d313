"""Reconcile the rows of silent producers with the service, which gets the heartbeats and ends tasks without them.

Run it periodically: `manage.py notifier_tasks`, or the Celery task `django_bridge.check_tasks`. Must not know:
transports.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.utils import timezone

from django_bridge import publisher
from django_bridge.models import TaskRecord, written
from django_bridge.task import records
from notifier.errors import NotifierError

log = logging.getLogger("django_bridge")

QUIET_S: Final = 30.0
"""Rows that were written more recently are not checked."""
LOST_S: Final = 7 * 24 * 3600.0
"""How long the service keeps a task after its last change. A task unknown to it after that is lost."""
PAGE: Final = 1000
"""Rows checked in one run, the longest unwritten first."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a run: numbers of rows."""

    quiet: int = 0
    """Checked."""
    changed: int = 0
    """Updated from the service."""
    lost: int = 0
    """Set to failed: the service no longer knows the task."""
    error: str = ""
    """Why some could not be checked; empty without an error."""


def check_tasks(*, quiet_s: float = QUIET_S, lost_s: float = LOST_S) -> Checked:
    """Check the rows of unended tasks that were last written more than `quiet_s` ago."""
    now = timezone.now()
    unended = written(TaskRecord).filter(ended_at=None, updated_at__lt=now - timedelta(seconds=quiet_s))
    quiet = list(unended.order_by("updated_at")[:PAGE])
    changed, lost, error = 0, 0, ""
    for channel, rows in _by_channel(quiet).items():
        try:
            kept = publisher.current().kept_tasks(channel, [row.pk for row in rows]) if channel else {}
        except NotifierError as exc:
            error = str(exc)
            continue
        changed += sum(records.update(row, kept[row.pk]) for row in rows if row.pk in kept)
        gone = [row for row in rows if row.pk not in kept and row.updated_at < now - timedelta(seconds=lost_s)]
        lost += sum(map(_mark_lost, gone))
    return Checked(len(quiet), changed, lost, error)


def _by_channel(rows: list[TaskRecord]) -> dict[str, list[TaskRecord]]:
    channels: dict[str, list[TaskRecord]] = defaultdict(list)
    for row in rows:
        channels[row.to[0] if row.to else ""].append(row)
    return channels


def _mark_lost(row: TaskRecord) -> bool:
    log.warning("task %s is lost: the service no longer knows it", row.pk)
    unchanged = written(TaskRecord).filter(pk=row.pk, updated_at=row.updated_at, ended_at=None)
    return unchanged.update(status="failed", error="Lost", ended_at=timezone.now(), updated_at=timezone.now()) == 1
