"""The outbox: every message is first written as a row of the caller's transaction.

The process that wrote a row delivers it right after the commit. A row that it cannot deliver waits for `delivery`, and
later messages of this process queue behind it. Must not know: transports, when deliverers run.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from django.db import DatabaseError, connections, router
from django.db.models import Min
from django.utils import timezone

from django_bridge import publisher
from django_bridge.commit import after_commit, open_transactions
from django_bridge.conf import settings
from django_bridge.delivery import LEASE_S, DeliveryOutcome, deliver_due, mark_refused, outcome_of, release, remove
from django_bridge.models import OutboxMessage
from django_bridge.payload import Payload
from notifier import rules

log = logging.getLogger("django_bridge")


class _OutboxProcess:
    """The outbox state of one process. A forked child has its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.origin: Final = uuid.uuid4().hex
        self.has_backlog = threading.Event()
        """Set while messages of this process wait: later ones must not overtake them."""


_process = _OutboxProcess()


def _this_process() -> _OutboxProcess:
    global _process
    if _process.pid != os.getpid():
        _process = _OutboxProcess()
    return _process


def keep(payload: Payload) -> None:
    """Write a message into the outbox in the caller's transaction, and deliver it after the commit.

    The row belongs to the transaction that is open on the table's database. Where transactions are open on other
    databases only, the row is written after they commit. Raises `DatabaseError`, since the message would be lost.
    """
    table = connections[router.db_for_write(OutboxMessage)]
    if open_transactions() and not table.in_atomic_block:
        after_commit(lambda: _deliver_own(_written(payload)))
    elif table.in_atomic_block or table.get_autocommit():
        after_commit(partial(_deliver_own, _written(payload)))
    else:  # set_autocommit(False): Django has no hook for that commit
        release(_written(payload))


def waiting() -> dict[str, float]:
    """`waiting`: messages that wait or are being sent; `failed`: refused ones; `oldest_s`: age of the oldest."""
    rows = OutboxMessage.objects.exclude(state=OutboxMessage.State.FAILED)
    oldest: datetime | None = rows.aggregate(oldest=Min("created_at"))["oldest"]
    return {
        "waiting": rows.count(),
        "failed": OutboxMessage.objects.filter(state=OutboxMessage.State.FAILED).count(),
        "oldest_s": 0.0 if oldest is None else round((timezone.now() - oldest).total_seconds(), 1),
    }


def _written(payload: Payload) -> OutboxMessage:
    """The row, claimed by this process for `LEASE_S`, so that no deliverer takes it before the commit hook runs."""
    # Browsers show the time of the call, however long the message waits.
    payload = {**payload, "sent_at": payload.get("sent_at") or rules.iso(datetime.now(UTC))}
    row = OutboxMessage(
        message_id=payload["id"],
        payload=rules.to_json(payload),
        state=OutboxMessage.State.SENDING,
        due_at=timezone.now() + timedelta(seconds=LEASE_S),
        origin=_this_process().origin,
    )
    # A Celery task that runs twice writes the same message twice.
    features = connections[router.db_for_write(OutboxMessage)].features
    OutboxMessage.objects.bulk_create([row], ignore_conflicts=features.supports_ignore_conflicts)
    return row


def _deliver_own(row: OutboxMessage) -> None:
    """Deliver a row right after its commit. The message is stored by now, so nothing is raised to the caller."""
    process = _this_process()
    try:
        if publisher.current().breaker.open:
            release(row)
            process.has_backlog.set()
        elif process.has_backlog.is_set() or timezone.now() >= row.due_at:
            release(row)
            deliver_due(origin=process.origin, within_s=settings().timeout_s)
            left = OutboxMessage.objects.filter(origin=process.origin).exclude(state=OutboxMessage.State.FAILED)
            if left.exists():
                process.has_backlog.set()
            else:
                process.has_backlog.clear()
        else:
            _deliver_first(row, process)
    except DatabaseError:
        process.has_backlog.set()
        log.exception("message %s stays in the outbox for now", row.message_id)


def _deliver_first(row: OutboxMessage, process: _OutboxProcess) -> None:
    """The usual case: no backlog, and the row is still claimed by this process."""
    outcome, error = outcome_of(row)
    if outcome is DeliveryOutcome.AWAY:
        process.has_backlog.set()
        release(row, error)
        log.warning("message %s waits in the outbox: %s", row.message_id, error)
    elif outcome is DeliveryOutcome.REFUSED:
        mark_refused(row, error)
    else:
        remove(row)
