"""Rows of tasks whose producer went silent: brought to what the service knows, which hears the signs of life.

Run now and then: `manage.py notifier_tasks`, or the Celery task `django_bridge.check_tasks`. Must not know: transports.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.utils import timezone

from django_bridge import publisher
from django_bridge.models import TaskRecord
from django_bridge.task import records
from notifier.errors import NotifierError

log = logging.getLogger("django_bridge")

QUIET_S: Final = 30.0
"""A row that was written within this time is left alone."""
LOST_S: Final = 7 * 24 * 3600.0
"""The service keeps a task for this long after its last change; what it does not know after that is lost."""
PAGE: Final = 1000
"""Rows that are looked at in one go, those that are quiet for longest first."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of how many rows."""

    quiet: int = 0
    changed: int = 0
    lost: int = 0
    """Failed, because the service does not know them any more."""
    error: str = ""
    """Why some could not be asked for."""


def check_tasks(*, quiet_s: float = QUIET_S, lost_s: float = LOST_S) -> Checked:
    """Looks at the rows that have no end and were not written lately."""
    now = timezone.now()
    unended = TaskRecord.objects.filter(ended_at=None, updated_at__lt=now - timedelta(seconds=quiet_s))
    quiet = list(unended.order_by("updated_at")[:PAGE])
    changed, lost, error = 0, 0, ""
    for channel, rows in _by_channel(quiet).items():
        try:
            kept = publisher.current().kept_tasks(channel, [row.pk for row in rows]) if channel else {}
        except NotifierError as exc:
            error = str(exc)
            continue
        changed += sum(records.take(row, kept[row.pk]) for row in rows if row.pk in kept)
        gone = [row for row in rows if row.pk not in kept and row.updated_at < now - timedelta(seconds=lost_s)]
        lost += sum(map(_give_up, gone))
    return Checked(len(quiet), changed, lost, error)


def _by_channel(rows: list[TaskRecord]) -> dict[str, list[TaskRecord]]:
    channels: dict[str, list[TaskRecord]] = defaultdict(list)
    for row in rows:
        channels[row.to[0] if row.to else ""].append(row)
    return channels


def _give_up(row: TaskRecord) -> bool:
    log.warning("task %s is lost: the service does not know it any more", row.pk)
    same = TaskRecord.objects.filter(pk=row.pk, updated_at=row.updated_at, ended_at=None)
    return same.update(status="failed", error="Lost", ended_at=timezone.now(), updated_at=timezone.now()) == 1
