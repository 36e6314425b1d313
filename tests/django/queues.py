"""The functions of the recipes in docs/django.md for RQ, Dramatiq and Django's own tasks.

Workers import this module, so it sets Django up.
"""

from __future__ import annotations

import os

import django
import dramatiq
from django.apps import apps
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage, Retries, ShutdownNotifications

if not apps.ready:
    django.setup()

from django_bridge import Progress, Task, progress  # after `django.setup`

broker = RedisBroker(
    url=os.environ.get("NOTIFIER_TEST_CELERY_URL", "redis://localhost:1/1"),
    middleware=[ShutdownNotifications(), CurrentMessage(), Retries(min_backoff=50, max_backoff=50, max_retries=3)],
)
dramatiq.set_broker(broker)


@progress("Import of {items} rows", user="user_id")
def import_rows(user_id: int, items: int, broken_at: int | None = None, task: Task | None = None) -> int:
    for n in Progress(range(items), parts=5, task=task):
        if n == broken_at:
            raise LookupError(f"row {n}")
    return items


def import_share(task_id: str, key: str, items: int) -> None:
    with Task.resume(task_id).share(key) as share:
        for _ in range(items):
            share.advance()


import_actor = dramatiq.actor(max_retries=0)(import_rows)


@dramatiq.actor
def import_share_actor(task_id: str, items: int) -> None:
    message = CurrentMessage.get_current_message()
    assert message is not None
    with Task.resume(task_id).share(message.message_id) as share:
        for n in range(items):
            share.advance()
            if n == items // 2 and not message.options.get("retries"):
                share.count()
                raise LookupError("once")


if django.VERSION >= (6, 0):
    from django.tasks import task as background_task

    import_in_background = background_task()(import_rows)
