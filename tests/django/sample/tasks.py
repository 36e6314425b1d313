"""Celery tasks of the test project."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery import shared_task

from django_bridge import Progress, Task, progress
from django_bridge.celery import reported_task


@shared_task
def generate_report(rows: int, title: str = "Report") -> str:
    return f"{title}: {rows} rows"


@shared_task(bind=True, max_retries=5, acks_late=True, reject_on_worker_lost=True)
def import_chunk(self: Any, task_id: str, items: int, fail_at: int | None, killed_once: str | None) -> int:
    """Fails once at item `fail_at`, or kills its process if the file `killed_once` is missing; then runs again."""
    with Task.resume(task_id).share(self.request.id) as share:
        for n in range(items):
            share.advance()
            if n == fail_at and not self.request.retries:
                share.count()
                raise self.retry(countdown=0.1)
            if killed_once and n == items // 2 and not os.path.exists(killed_once):
                share.count()
                open(killed_once, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
    return items


@shared_task
def finish_import(counts: list[int], task_id: str) -> None:
    Task.resume(task_id).end(f"{sum(counts)} rows are in")


@shared_task
def walk_chunk(task_id: str, items: int) -> None:
    list(Progress(range(items), parts=5, task=Task.resume(task_id).share(f"chunk of {items}")))


@shared_task(notifier_user="user_id", notifier_name="Crunch {items}")
def crunch(user_id: int, items: int, broken_at: int | None = None) -> int:
    for n in Progress(range(items), parts=5):
        if n == broken_at:
            raise LookupError(f"item {n}")
    return items


@shared_task(notifier_user="user_id")
def export(user_id: int, url: str) -> str:
    return url


@shared_task(bind=True, notifier_user="user_id", max_retries=3)
def stumble(self: Any, user_id: int, times: int, countdown_s: float) -> str:
    if self.request.retries < times:
        raise self.retry(exc=LookupError("not yet"), countdown=countdown_s)
    return "over"


@shared_task(notifier_user="user_id", acks_late=False)
def vanish(user_id: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
@progress("Plain {items}", user="user_id")
def decorated(user_id: int, items: int, task: Task | None = None) -> None:
    list(Progress(range(items), parts=2, task=task))


@shared_task(bind=True)
@progress("Bound {items}", user="user_id")
def decorated_bound(self: Any, user_id: int, items: int, task: Task | None = None) -> str:
    list(Progress(range(items), parts=2, task=task))
    return str(self.request.id)


@shared_task
def unnamed(user_id: int) -> None: ...


@shared_task(bind=True, notifier_user="user_id", notifier_name="{plan} {number}", max_retries=2)
def soak(self: Any, user_id: int, number: int, plan: str) -> None:
    """A task of the soak test: acts by its plan."""
    step_s = 0.05 if plan in ("cancelled", "lost") else 0.002
    items = 10_000 if plan in ("cancelled", "lost") else 20
    for n in Progress(range(items), parts=items // 5, task=reported_task()):
        time.sleep(step_s)
        if n != 7:
            continue
        if plan == "fails":
            raise LookupError(f"item {n}")
        if plan == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if plan == "exhausted" or (plan == "retried" and self.request.retries < 2):
            raise self.retry(exc=LookupError("not yet"), countdown=0.1)
