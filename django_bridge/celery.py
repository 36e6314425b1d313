"""The Celery tasks of the bridge: send a message, deliver the outbox, check the rows of silent producers.

Can be imported without Celery. Must not know: how messages are made.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from functools import cache
from typing import Any

from django_bridge.payload import Payload
from django_bridge.sending import send_payload


def __getattr__(name: str) -> Any:
    """`report_tasks` and `reported_task`; they need Celery."""
    if name not in ("report_tasks", "reported_task"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from django_bridge.queues import celery as reports

    return getattr(reports, name)


def connect_reports() -> None:
    """Let Celery tasks report themselves (see `queues.celery`). Called when Django starts."""
    if sending_task() is not None:
        from django_bridge.queues import celery as reports

        reports.connect()


@cache
def sending_task() -> Any:
    """The shared task that sends a payload; None without Celery.

    Registered when Django starts (see `apps`), so that every worker of the project has it.
    """
    try:
        from celery import shared_task
    except ImportError:
        return None
    return shared_task(name="django_bridge.send_message")(send_message)


@cache
def delivering_task() -> Any:
    """The shared task that delivers the outbox, for Celery's beat; None without Celery."""
    try:
        from celery import shared_task
    except ImportError:
        return None
    return shared_task(name="django_bridge.deliver_outbox", ignore_result=True)(deliver_outbox)


@cache
def checking_task() -> Any:
    """The shared task that checks the rows of silent producers, for Celery's beat; None without Celery."""
    try:
        from celery import shared_task
    except ImportError:
        return None
    return shared_task(name="django_bridge.check_tasks", ignore_result=True)(check_tasks)


@cache
def escalating_task() -> Any:
    """The shared task that sends the signals of read and unread messages, for Celery's beat; None without Celery."""
    try:
        from celery import shared_task
    except ImportError:
        return None
    return shared_task(name="django_bridge.escalate", ignore_result=True)(escalate)


def escalate(unread_for_minutes: float = 10) -> dict[str, Any]:
    """Send `message_read` and `message_unread_for`. Returns the fields of `escalation.Escalated`."""
    from django_bridge import escalation

    return asdict(escalation.escalate(timedelta(minutes=unread_for_minutes)))


def check_tasks() -> dict[str, Any]:
    """Compare rows of tasks that have not ended, and were not written for `QUIET_S`, with the service. Returns the
    fields of `reconcile.Checked`."""
    from django_bridge.task import reconcile

    return asdict(reconcile.check_tasks())


def deliver_outbox() -> dict[str, int]:
    """Deliver due messages of the outbox until none is left or the service is unreachable. Returns how many
    were delivered, expired and failed."""
    from django_bridge.delivery import deliver_all

    return deliver_all().counts()


def send_message(payload: Payload) -> str:
    """Send a message and return its id. Running twice sends once: the id is the idempotency key."""
    return send_payload(payload)
