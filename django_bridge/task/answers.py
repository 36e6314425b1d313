"""The Celery task that looks for the answer to a question, so that no worker waits for it.

Can be imported without Celery. Must not know: `Task`, how a question is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from django_bridge import publisher
from django_bridge.task.pending import Pending
from notifier.errors import Conflict, NotifierError

LONGEST_PAUSE_S: Final = 600.0
"""Between two tries, after calls that failed."""
REQUEUE_S: Final = 2.0
"""How long a worker waits before it gives a message back, since the broker delivers that at once."""


@cache
def answering_task() -> Any:
    """The shared task that looks for the answer to a question of `Task.ask_later`; None without Celery."""
    try:
        from celery import shared_task
    except ImportError:
        return None
    options = {"bind": True, "ignore_result": True, "max_retries": None}
    # The message is acknowledged after the call: a worker that is killed leaves it to another.
    return shared_task(name="django_bridge.look_for_answer", acks_late=True, reject_on_worker_lost=True, **options)(
        _look_until_done
    )


def _look_until_done(task: Any, *args: Any) -> str:
    """`look_for_answer` in a worker. A call that fails is repeated, with pauses of up to `LONGEST_PAUSE_S`."""
    from celery.exceptions import Reject

    try:
        return look_for_answer(*args)
    except Exception as exc:
        if task.request.is_eager:  # it would be repeated at once, in this call
            raise
        pause_s = min(LONGEST_PAUSE_S, 2.0 ** min(task.request.retries, 10))
        try:
            raise task.retry(exc=exc, countdown=pause_s, throw=False)
        except Reject as rejected:  # the broker takes no new message: this one is kept
            time.sleep(min(pause_s, REQUEUE_S))
            raise Reject(rejected.reason, requeue=True) from exc


def look_for_answer(
    task_id: str,
    question_id: str,
    default: str | None,
    until: float,
    then: dict[str, Any],
    pending: Mapping[str, Any] | None = None,
) -> str:
    """Run the signature `then` with the answer, or look again a little later. `until`: time (s since 1970) after which
    an unreachable service is not waited for. `pending`: the fields of `Pending`; those of an older version have none.
    Returns what happened."""
    from celery import signature

    asked = None if pending is None else Pending.from_fields(task_id, until, pending)
    try:
        answer = publisher.current().answer(task_id, question_id) if asked is None else asked.look()
    except Conflict as exc:
        return f"withdrawn: {exc}"
    except NotifierError:
        answer = None
    if asked is not None:
        until, pending = asked.until, asked.fields()
    if answer is None and time.time() < until:
        pause_s = min(10.0, max(1.0, (until - time.time()) / 20))
        answering_task().apply_async((task_id, question_id, default, until, then, pending), countdown=pause_s)
        return "waiting"
    signature(then).apply_async(args=(default if answer is None else answer.value,))
    return "answered"
