"""Imported by test_django_tasks.py in a separate process: functions that are tasks of `@progress` and of
django-tasks-db, the decorators in both orders, and what its worker makes of them."""

from __future__ import annotations

import json
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    SECRET_KEY="for tests",
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        *(["django_tasks"] if django.VERSION < (6, 0) else []),
        "django_tasks_db",
        "django_bridge",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "tasks.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
    NOTIFIER={"TRANSPORT": "memory"},
)
django.setup()

from django_bridge import Progress, Task, progress  # noqa: E402  # Django first
from django_bridge.models import TaskRecord  # noqa: E402

if django.VERSION >= (6, 0):
    from django.tasks import task as background_task
else:
    from django_tasks import task as background_task


@background_task()
@progress("Inside {items}", user="user_id")
def inside(user_id: int, items: int, task: Task | None = None) -> int:
    return sum(1 for _ in Progress(range(items), task=task))


@progress("Outside {items}", user="user_id")
@background_task(priority=5)
def outside(user_id: int, items: int, task: Task | None = None) -> int:
    return sum(1 for _ in Progress(range(items), task=task))


def main() -> None:
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    user = User.objects.create(username="ann")
    jobs: Any = (inside, outside)
    results = [job.enqueue(user.pk, 4) for job in jobs]
    call_command("db_worker", batch=True, interval=0, startup_delay=False, verbosity=0)
    for result in results:
        result.refresh()
    rows = {row.name: [row.status, row.done, row.user_id == user.pk] for row in TaskRecord.objects.all()}
    values = [result.return_value for result in results]
    print(json.dumps({"rows": rows, "values": values, "priority": jobs[1].priority}))
