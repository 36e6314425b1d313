"""What Celery workers run: the sending of a message that was a link, and the delivery of what waits in the outbox.
Works without Celery installed.

Must not know: how messages are made.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

from django_bridge.payload import Payload
from django_bridge.sending import send_payload


def __getattr__(name: str) -> Any:
    """`report_tasks` and `reported_task`, where Celery is installed."""
    if name not in ("report_tasks", "reported_task"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from django_bridge.task import celery_signals

    return getattr(celery_signals, name)


def connect_reports() -> None:
    """Celery tasks with the option `notifier_user` report themselves. Called when Django starts."""
    if sending_task() is not None:
        from django_bridge.task import celery_signals

        celery_signals.connect()


@cache
def sending_task() -> Any:
    """The shared task that sends a payload; None where Celery is not installed.

    Made when Django starts (see `apps`), so that every worker of the project knows it.
    """
    try:
        from celery import shared_task
    except ImportError:
        return None
    return shared_task(name="django_bridge.send_message")(send_message)


@cache
def delivering_task() -> Any:
    """The shared task that delivers what waits, for Celery's beat; None where Celery is not installed."""
    try:
        from celery import shared_task
    except ImportError:
        return None
    return shared_task(name="django_bridge.deliver_outbox", ignore_result=True)(deliver_outbox)


@cache
def checking_task() -> Any:
    """The shared task that looks after silent tasks, for Celery's beat; None where Celery is not installed."""
    try:
        from celery import shared_task
    except ImportError:
        return None
    return shared_task(name="django_bridge.check_tasks", ignore_result=True)(check_tasks)


def check_tasks() -> dict[str, Any]:
    """Brings the rows of silent tasks to what the service knows; what became of how many."""
    from django_bridge.task import reconcile

    return asdict(reconcile.check_tasks())


def deliver_outbox() -> dict[str, int]:
    """Delivers what waits and is due, until nothing is left or the service is away; what became of how many."""
    from django_bridge.delivery import deliver_all

    return deliver_all().counts()


def send_message(payload: Payload) -> str:
    """Sends a message and returns its id. Running twice sends once: the id is the idempotency key."""
    return send_payload(payload)
