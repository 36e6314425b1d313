"""Tasks of Django without any code of the bridge around them, and the name of their package."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from typing import Any

from django_bridge import Progress, Task, TaskCancelled, current_task, progress
from django_bridge.testing import outbox

if find_spec("django.tasks"):
    from django.tasks import task as background_task

    PACKAGE = "django.tasks"
else:
    from django_tasks import task as background_task

    PACKAGE = "django_tasks"


@background_task()
def import_rows(user_id: int | None, items: int, broken_at: int | None = None) -> int:
    for n in Progress(range(items), parts=5):
        if n == broken_at:
            raise LookupError(f"row {n}")
    return items


@background_task()
def export_rows(user_id: int, url: str) -> str:
    current_task().write("Half of it\n")
    return url


@background_task()
def cancelled_by_user(user_id: int, is_caught: bool = False) -> str:
    """A user cancels while it runs."""
    outbox.request_cancel(current_task().id)
    current_task().set_state("in the middle")
    try:
        list(Progress(range(4), parts=4))
    except TaskCancelled:
        if not is_caught:
            raise
    return "done"


@background_task(takes_context=True)
def with_context(context: Any, user_id: int) -> int:
    return int(context.attempt)


@background_task()
async def wait_for_rows(user_id: int, items: int) -> int:
    async for _ in Progress(range(items), parts=2):
        pass
    return items


@background_task()
def report(title: str) -> None: ...


@background_task()
def outer(user_id: int) -> str:
    report.enqueue("Inner")
    import_rows.enqueue(user_id, 3)
    return str(current_task().id)


@background_task()
@progress("By the decorator", user="user_id")
def decorated(user_id: int, task: Task | None = None) -> None: ...


@background_task()
def vanish(user_id: int) -> None:
    current_task().set_state("On it")
    os.kill(os.getpid(), signal.SIGKILL)
