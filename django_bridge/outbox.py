"""The outbox: every message is first written as a row of the caller's transaction.

The process that wrote a row delivers it right after the commit. A row that it cannot deliver waits for `delivery`, and
later messages of this process queue behind it. Must not know: transports, when deliverers run.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from django.db import Error, connections, router, transaction
from django.db.models import Min, QuerySet
from django.utils import timezone

from django_bridge import background, publisher
from django_bridge.commit import after_commit, open_transactions
from django_bridge.conf import settings
from django_bridge.delivery import LEASE_S, DeliveryOutcome, deliver_due, mark_refused, outcome_of, release, remove
from django_bridge.models import OutboxMessage, written
from django_bridge.payload import TASK_END, Payload, named
from notifier import json_text, rules
from notifier.errors import NotifierError
from notifier.event import new_id
from notifier.task import Task

State = OutboxMessage.State

RETRY_S: Final = 1.0
"""Between two tries of the delivering thread while messages of its process wait and the circuit is closed."""


class _OutboxProcess:
    """The outbox state of one process. A forked child has its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.origin: Final = uuid.uuid4().hex
        self.has_backlog = threading.Event()
        """Set while messages of this process wait: later ones must not overtake them."""

    def deliver_waiting(self) -> None:
        """Deliver messages of this process that wait. Begins none after `TIMEOUT_S`."""
        # Cleared before the look: a message that is committed after it sets the event again.
        self.has_backlog.clear()
        deliver_due(origin=self.origin, within_s=settings().timeout_s)
        if self._own().exists():
            self.has_backlog.set()

    def deliver_backlog(self) -> float | None:
        """Deliver messages that wait. Called by an idle thread; returns the seconds to its next call."""
        if self.has_backlog.is_set() and not publisher.current().breaker.open:
            try:
                self.deliver_waiting()
            except Error as exc:  # drivers raise `InterfaceError`, no `DatabaseError`, where the connection is closed
                self.has_backlog.set()
                publisher.current().failures.failed(exc, f"the outbox could not be read: {exc}")
        return RETRY_S if self.has_backlog.is_set() else None

    def release_claims(self) -> None:
        """Give up the claims of this process, so that a deliverer need not wait for the end of the leases."""
        self._own().filter(state=State.SENDING).update(state=State.WAITING, due_at=timezone.now())

    def _own(self) -> QuerySet[OutboxMessage]:
        return written(OutboxMessage).filter(origin=self.origin).exclude(state=State.FAILED)


_process = _OutboxProcess()


def _this_process() -> _OutboxProcess:
    global _process
    if _process.pid != os.getpid():
        _process = _OutboxProcess()
    return _process


def database() -> str:
    """The alias of the database that the outbox is in."""
    return router.db_for_write(OutboxMessage)


def keep(payload: Payload, using: str | None = None) -> None:
    """Write a message into the outbox in the caller's transaction, and deliver it after the commit.

    The row belongs to the transaction that is open on the table's database. Where transactions are open on other
    databases only, the row is written after they commit. `using`: the payload announces the commit of this database,
    and waits for no other. Raises `django.db.Error`, since the message would be lost.
    """
    table = connections[database()]
    if using not in (None, table.alias):
        after_commit(partial(_keep_of_another, payload), using)
    elif using is None and open_transactions() and not table.in_atomic_block:
        after_commit(lambda: _committed(_written(payload)))
    elif table.in_atomic_block or table.get_autocommit():
        deliver = partial(_committed, _written(payload))
        if using is None and len(open_transactions()) > 1:
            # Waits for those of other databases that are open after the row's commit: the rest may have rolled back.
            after_commit(partial(after_commit, deliver), table.alias)
        else:
            after_commit(deliver, using)
    else:  # set_autocommit(False): Django has no hook for that commit
        release(_written(payload))


def _keep_of_another(payload: Payload) -> None:
    """Keep a payload that announces what another database has committed.

    The row of a transaction that is open on the table's database may be rolled back. The payload is then also sent at
    once; the service drops the repeat. It is lost only if the service is away and that transaction is rolled back.
    """
    table = connections[database()]
    if not table.in_atomic_block:
        keep(payload, table.alias)
        return
    try:
        with transaction.atomic(using=table.alias):
            keep(payload, table.alias)
    except Error as exc:
        publisher.current().failures.failed(exc, f"{named(payload)} has no row in the outbox: {exc}")
    if not publisher.delivers_in_background():
        _send_once(payload)
    elif not background.current().put(partial(_send_once, payload)):
        publisher.current().dropped(named(payload))


def _send_once(payload: Payload) -> None:
    """Send a payload that may have a row, too."""
    try:
        publisher.current().deliver(payload)
    except NotifierError as exc:
        text = f"{named(payload)} could not be sent before the outbox sends it: {exc}"
        publisher.current().failures.failed(exc, text, level=logging.WARNING)


def has(payload_id: str) -> bool:
    """Whether a message or an event of this id is written and not yet delivered, seen from the transaction."""
    return written(OutboxMessage).filter(message_id=payload_id).exists()


def keep_end(task: Task, change: Mapping[str, object]) -> OutboxMessage:
    """Write a task's end into the outbox in the caller's transaction, claimed for the task's own process.

    It has a place in no order: neither messages wait for it, nor it for them. Raises `django.db.Error`.
    """
    state = json.loads(task.record())
    payload = {"id": new_id(), "kind": TASK_END, "change": dict(change), "task": state}
    with transaction.atomic(using=database()):
        return OutboxMessage.objects.create(
            message_id=payload["id"],
            payload=json_text.to_json(payload),
            state=State.SENDING,
            due_at=timezone.now() + timedelta(seconds=LEASE_S),
            origin=uuid.uuid4().hex,
        )


def waiting() -> dict[str, float]:
    """`waiting`: messages that wait or are being sent; `failed`: refused ones; `oldest_s`: age of the oldest."""
    rows = written(OutboxMessage).exclude(state=State.FAILED)
    oldest: datetime | None = rows.aggregate(oldest=Min("created_at"))["oldest"]
    return {
        "waiting": rows.count(),
        "failed": written(OutboxMessage).filter(state=State.FAILED).count(),
        "oldest_s": 0.0 if oldest is None else round((timezone.now() - oldest).total_seconds(), 1),
    }


def _written(payload: Payload) -> OutboxMessage:
    """The row, claimed by this process for `LEASE_S`, so that no deliverer takes it before the commit hook runs.

    Where others of this process wait and a thread delivers them, the row joins them unclaimed.
    """
    # Browsers show the time of the call, however long the message waits.
    payload = {**payload, "sent_at": payload.get("sent_at") or rules.iso(datetime.now(UTC))}
    process = _this_process()
    joins_backlog = process.has_backlog.is_set() and publisher.delivers_in_background()
    row = OutboxMessage(
        message_id=payload["id"],
        payload=json_text.to_json(payload),
        state=State.WAITING if joins_backlog else State.SENDING,
        due_at=timezone.now() + timedelta(seconds=0 if joins_backlog else LEASE_S),
        origin=process.origin,
    )
    # A Celery task that runs twice writes the same message twice.
    features = connections[database()].features
    OutboxMessage.objects.bulk_create([row], ignore_conflicts=features.supports_ignore_conflicts)
    return row


def _committed(row: OutboxMessage) -> None:
    """Deliver a row right after its commit, here or in the delivering thread."""
    process = _this_process()
    if not publisher.delivers_in_background():
        _deliver_own(row, process)
        return
    worker = background.current()
    worker.on_idle, worker.on_left = process.deliver_backlog, process.release_claims
    if row.state == State.SENDING:
        if worker.put(partial(_deliver_own, row, process)):
            return
        _release_quietly(row)
    process.has_backlog.set()
    worker.put(process.has_backlog.set)  # wakes the thread


def _release_quietly(row: OutboxMessage) -> None:
    try:
        release(row)
    except Error as exc:  # its lease will end
        _log_waiting(row, exc)


def _deliver_own(row: OutboxMessage, process: _OutboxProcess) -> None:
    """Deliver a row that this process has claimed. The message is stored, so nothing is raised to the caller."""
    try:
        if publisher.current().breaker.open:
            release(row)
            process.has_backlog.set()
        elif process.has_backlog.is_set() or timezone.now() >= row.due_at:
            release(row)
            process.deliver_waiting()
        else:
            _deliver_first(row, process)
    except Error as exc:
        process.has_backlog.set()
        _log_waiting(row, exc)


def _deliver_first(row: OutboxMessage, process: _OutboxProcess) -> None:
    """The usual case: no backlog, and the row is still claimed by this process."""
    outcome, exc = outcome_of(row)
    if exc is not None and outcome is DeliveryOutcome.AWAY:
        process.has_backlog.set()
        release(row, exc)
        _log_waiting(row, exc)
    elif outcome is DeliveryOutcome.TOO_EARLY:
        process.has_backlog.set()
        release(row)
    elif outcome is DeliveryOutcome.REFUSED:
        mark_refused(row, exc)
    else:
        remove(row)


def _log_waiting(row: OutboxMessage, exc: Exception) -> None:
    text = f"message {row.message_id} stays in the outbox for now: {exc}"
    publisher.current().failures.failed(exc, text, level=logging.WARNING)
