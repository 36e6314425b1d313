"""The functions of the recipes in docs/django.md for RQ, Dramatiq and Django's own tasks.

Workers import this module, so it sets Django up.
"""

from __future__ import annotations

import os
import signal
import time

import django
import dramatiq
from django.apps import apps
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage, Retries, ShutdownNotifications

if not apps.ready:
    django.setup()

from huey import CancelExecution, RedisHuey

from django_bridge import Progress, Task, current_task, progress  # after `django.setup`
from django_bridge.queues.dramatiq import ReportedMessages
from django_bridge.queues.huey import report_tasks

REDIS_URL = os.environ.get("NOTIFIER_TEST_CELERY_URL", "redis://localhost:1/1")
retries = Retries(min_backoff=50, max_backoff=50, max_retries=3)
MIDDLEWARE = [ShutdownNotifications(), CurrentMessage(), retries, ReportedMessages()]
broker = RedisBroker(url=REDIS_URL, middleware=MIDDLEWARE)
dramatiq.set_broker(broker)
huey = RedisHuey("notifier", url=REDIS_URL)
report_tasks(huey)


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


# Without anything of the bridge around them


def crunch(user_id: int, items: int, broken_at: int | None = None) -> int:
    for n in Progress(range(items), parts=5):
        if n == broken_at:
            raise LookupError(f"item {n}")
    return items


def export(user_id: int, url: str) -> str:
    current_task().write("Half of it\n")
    return url


def stumble(user_id: int, once: str, killed: bool = False) -> str:
    """Fails, or kills its process, unless it has written the file `once`."""
    current_task().set_state("On it")
    if not os.path.exists(once):
        open(once, "w").close()
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise LookupError("once")
    return "over"


def linger(user_id: int) -> None:
    current_task().set_state("On it")
    while True:
        time.sleep(0.05)


def give_up(user_id: int) -> None:
    raise CancelExecution("not today")


crunch_actor = dramatiq.actor(max_retries=0, notifier_name="Crunch {items}")(crunch)
export_actor = dramatiq.actor(export)
stumble_actor = dramatiq.actor(stumble)
crunch_task = huey.task(notifier_name="Crunch {items}")(crunch)
export_task = huey.task()(export)
stumble_task = huey.task(retries=2)(stumble)
give_up_task = huey.task()(give_up)

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
