"""The outbox: a message is a row of the caller's transaction before it is anything else.

The process that wrote a row delivers it right after the commit. What it could not deliver waits for `delivery`, and the
messages that this process sends in the meantime queue up behind it. Must not know: transports, when deliverers run.
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
    """What this process wrote and could not deliver. A forked child is a process of its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.origin: Final = uuid.uuid4().hex
        self.behind = threading.Event()
        """Some of its messages wait: the next ones may not overtake them."""


_process = _OutboxProcess()


def _mine() -> _OutboxProcess:
    global _process
    if _process.pid != os.getpid():
        _process = _OutboxProcess()
    return _process


def keep(payload: Payload) -> None:
    """Writes a message into the outbox, with the caller's data, and delivers it after the commit.

    The row shares the fate of the transaction that is open on the table's database. Where one is open on other
    databases only, the row is written when they are through. Raises `DatabaseError`: who must not lose must know.
    """
    table = connections[router.db_for_write(OutboxMessage)]
    if open_transactions() and not table.in_atomic_block:
        after_commit(lambda: _deliver_own(_written(payload)))
    elif table.in_atomic_block or table.get_autocommit():
        after_commit(partial(_deliver_own, _written(payload)))
    else:  # set_autocommit(False): Django has no hook for that commit
        release(_written(payload))


def waiting() -> dict[str, float]:
    """How many messages are `waiting` (or being sent), how many `failed`, and `oldest_s`: how long the first waits."""
    rows = OutboxMessage.objects.exclude(state=OutboxMessage.State.FAILED)
    oldest: datetime | None = rows.aggregate(oldest=Min("created_at"))["oldest"]
    return {
        "waiting": rows.count(),
        "failed": OutboxMessage.objects.filter(state=OutboxMessage.State.FAILED).count(),
        "oldest_s": 0.0 if oldest is None else round((timezone.now() - oldest).total_seconds(), 1),
    }


def _written(payload: Payload) -> OutboxMessage:
    """The row: in this process's hands for a while, so that no deliverer takes it before the commit's hook runs."""
    # The time that is shown is that of the event, however long the message waits.
    payload = {**payload, "sent_at": payload.get("sent_at") or rules.iso(datetime.now(UTC))}
    row = OutboxMessage(
        message_id=payload["id"],
        payload=rules.to_json(payload),
        state=OutboxMessage.State.SENDING,
        due_at=timezone.now() + timedelta(seconds=LEASE_S),
        origin=_mine().origin,
    )
    # A Celery task that runs twice writes its message again.
    features = connections[router.db_for_write(OutboxMessage)].features
    OutboxMessage.objects.bulk_create([row], ignore_conflicts=features.supports_ignore_conflicts)
    return row


def _deliver_own(row: OutboxMessage) -> None:
    """Right after the commit. The message is safe already: nothing here may break the caller."""
    mine = _mine()
    try:
        if publisher.current().breaker.open:
            release(row)
            mine.behind.set()
        elif mine.behind.is_set() or timezone.now() >= row.due_at:
            release(row)
            deliver_due(origin=mine.origin, within_s=settings().timeout_s)
            left = OutboxMessage.objects.filter(origin=mine.origin).exclude(state=OutboxMessage.State.FAILED)
            (mine.behind.set if left.exists() else mine.behind.clear)()
        else:
            _deliver_first(row, mine)
    except DatabaseError:
        mine.behind.set()
        log.exception("message %s stays in the outbox for now", row.message_id)


def _deliver_first(row: OutboxMessage, mine: _OutboxProcess) -> None:
    """The usual way: nothing waits, the row is new and ours."""
    outcome, error = outcome_of(row)
    if outcome is DeliveryOutcome.AWAY:
        mine.behind.set()
        release(row, error)
        log.warning("message %s waits in the outbox: %s", row.message_id, error)
    elif outcome is DeliveryOutcome.REFUSED:
        mark_refused(row, error)
    else:
        remove(row)
