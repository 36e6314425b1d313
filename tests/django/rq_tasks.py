"""Imported by test_tasks_workers.py in a separate process: tasks of django-tasks-rq, and what RQ's worker, which forks
for each of them, makes of them. The argument is the address of a Redis."""

from __future__ import annotations

import json
import sys

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    SECRET_KEY="for tests",
    USE_TZ=True,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django_tasks",
        "django_rq",
        "django_bridge",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "tasks.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    RQ_QUEUES={"default": {"URL": sys.argv[1]}},
    TASKS={
        "default": {
            "BACKEND": "django_bridge.tasks_backend.ReportedBackend",
            "OPTIONS": {"BACKEND": "django_tasks_rq.RQBackend"},
        }
    },
    NOTIFIER={"TRANSPORT": "memory"},
)
django.setup()

from django_bridge.models import TaskRecord  # noqa: E402  # Django first
from tests.django import background_tasks as tasks  # noqa: E402  # as above


def rows(*fields: str) -> list[list[str]]:
    return sorted(map(list, TaskRecord.objects.values_list("name", "status", *fields)))


def main() -> None:
    from django.contrib.auth.models import User

    call_command("migrate", verbosity=0)
    user = User.objects.create(username="ann")
    results = [
        tasks.export_rows.enqueue(user.pk, "https://example.org/7/"),
        tasks.import_rows.enqueue(user.pk, 10, broken_at=4),
        tasks.vanish.enqueue(user.pk),
    ]
    queued = rows()
    call_command("rqworker", "default", burst=True, job_class="django_tasks_rq.Job", verbosity=0)
    for result in results:
        result.refresh()
    print(json.dumps({"queued": queued, "ended": rows("url"), "results": [result.status for result in results]}))
