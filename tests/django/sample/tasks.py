"""Celery tasks of the test project."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery import shared_task

from django_bridge import Progress, Task


@shared_task
def generate_report(rows: int, title: str = "Report") -> str:
    return f"{title}: {rows} rows"


@shared_task(bind=True, max_retries=5, acks_late=True, reject_on_worker_lost=True)
def import_chunk(self: Any, task_id: str, items: int, fail_at: int | None, dies: str | None) -> int:
    """Fails once after some of its items, or has its process killed; run again, it begins anew."""
    with Task.resume(task_id).share(self.request.id) as share:
        for n in range(items):
            share.advance()
            if n == fail_at and not self.request.retries:
                share.count()
                raise self.retry(countdown=0.1)
            if dies and n == items // 2 and not os.path.exists(dies):
                share.count()
                open(dies, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
    return items


@shared_task
def finish_import(counts: list[int], task_id: str) -> None:
    Task.resume(task_id).end(f"{sum(counts)} rows are in")


@shared_task
def walk_chunk(task_id: str, items: int) -> None:
    list(Progress(range(items), parts=5, task=Task.resume(task_id).share(f"chunk of {items}")))
