"""Delivering what waits in the outbox: the oldest first, the messages of one process in their order.

Any number of deliverers may work at once. Whoever takes a row says so in it, by compare-and-set, and has it for a
while; no lock is held while the network is waited for. A deliverer that dies leaves its row to the next one when that
while is over. Delivery is at least once, under the message's id: within five minutes the service drops a repeat by its
idempotency key; later the inbox, the replay and the browser's client tell it by its id.

Must not know: who wrote a row, when deliverers run.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final

from django.utils import timezone

from django_bridge import publisher
from django_bridge.models import OutboxMessage
from django_bridge.payload import expired, parse, to_event
from django_bridge.publisher.transport import REFUSED
from notifier.errors import NotifierError

log = logging.getLogger("django_bridge")

State = OutboxMessage.State

LEASE_S: Final = 60
"""How long a row is in the hands of who took it. One message takes `TIMEOUT_S` for each of its parts."""
PAGE: Final = 100
"""Rows that are read at a time."""
MAX_PER_RUN: Final = 1000
"""Messages of one round."""
PATIENCE: Final = 5
"""Tries after which a message that cannot be sent is suspected to be the reason, and the next one is tried."""
LONGEST_PAUSE_S: Final = 300
"""The longest that such a message is left alone."""


class DeliveryOutcome(enum.Enum):
    """How a try to deliver a message ended."""

    DELIVERED = "delivered"
    EXPIRED = "expired"
    REFUSED = "refused"
    """For what it is: it would be refused again."""
    AWAY = "away"
    """The service could not be reached, or takes nothing from us now."""


@dataclass(slots=True)
class DeliveryRun:
    """What became of how many."""

    delivered: int = 0
    expired: int = 0
    failed: int = 0
    error: str = ""
    """Why it stopped before everything was tried."""

    def counts(self) -> dict[str, int]:
        return {name: count for name, count in asdict(self).items() if isinstance(count, int)}

    def note(self, outcome: DeliveryOutcome) -> None:
        self.delivered += outcome is DeliveryOutcome.DELIVERED
        self.expired += outcome is DeliveryOutcome.EXPIRED
        self.failed += outcome is DeliveryOutcome.REFUSED


def deliver_all(stopping: Callable[[], bool] = lambda: False) -> DeliveryRun:
    """Rounds until nothing is due, the service is away or `stopping`."""
    total = DeliveryRun()
    while True:
        found = deliver_due(stopping=stopping)
        total.delivered += found.delivered
        total.expired += found.expired
        total.failed += found.failed
        total.error = found.error
        if found.error or stopping() or not any(found.counts().values()):
            return total


def deliver_due(
    *,
    origin: str | None = None,
    within_s: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> DeliveryRun:
    """One round over what waits (of one process, with `origin`); it begins no message after `within_s`.

    It ends where the service is away. A message that was tried often is not taken for the service: the next one is
    tried, and where that gets through, the other is left alone for a while.
    """
    deadline = None if within_s is None else time.monotonic() + within_s
    this = DeliveryRun()
    suspects: list[OutboxMessage] = []
    for row in _due(origin, lambda: stopping() or (deadline is not None and time.monotonic() > deadline)):
        outcome, error = outcome_of(row)
        this.note(outcome)
        if outcome is DeliveryOutcome.AWAY:
            release(row, error)
            suspects.append(row)
            if row.attempts < PATIENCE or len(suspects) > 1:
                this.error = error
                break
            continue
        if outcome is DeliveryOutcome.REFUSED:
            mark_refused(row, error)
        else:
            remove(row)
        while suspects:
            _postpone(suspects.pop())
    return this


def outcome_of(row: OutboxMessage) -> tuple[DeliveryOutcome, str]:
    """Tries to deliver a row that is ours; how it ended, and why."""
    try:
        payload = parse(row.payload)
        if expired(payload):
            log.info("message %s expired before it was sent", row.message_id)
            return DeliveryOutcome.EXPIRED, ""
        to_event(payload)
    except (ValueError, KeyError, TypeError) as fault:  # not as `send()` wrote it
        return DeliveryOutcome.REFUSED, _words(fault)
    try:
        publisher.current().deliver(payload)
    except REFUSED as fault:
        return (DeliveryOutcome.EXPIRED if expired(payload) else DeliveryOutcome.REFUSED), _words(fault)
    except NotifierError as fault:
        return DeliveryOutcome.AWAY, _words(fault)
    return DeliveryOutcome.DELIVERED, ""


def release(row: OutboxMessage, error: str = "") -> None:
    """Gives a row back, to be tried again in its turn; with `error`, after a try."""
    row.attempts += bool(error)
    _note(row, state=State.WAITING, due_at=timezone.now(), attempts=row.attempts, **({"error": error} if error else {}))


def mark_refused(row: OutboxMessage, error: str) -> None:
    """A row that will never be delivered as it is: kept, with the reason, until somebody looks at it."""
    log.error("message %s was refused, its outbox row is kept as failed: %s", row.message_id, error)
    _note(row, state=State.FAILED, attempts=row.attempts + 1, error=error)


def remove(row: OutboxMessage) -> None:
    """A row whose message is delivered, or nobody's any more."""
    OutboxMessage.objects.filter(message_id=row.message_id).delete()


def _due(origin: str | None, stopping: Callable[[], bool]) -> Iterator[OutboxMessage]:
    """Rows that wait, taken one by one; each comes when the caller is through with the one before. What was taken comes
    in any case: `stopping` is asked before."""
    held: set[str] = set()
    """Processes whose next message is in other hands: those behind it would overtake it."""
    last = taken = 0
    while taken < MAX_PER_RUN:
        rows = OutboxMessage.objects.filter(pk__gt=last).exclude(state=State.FAILED).order_by("pk")
        page = list(rows[:PAGE] if origin is None else rows.filter(origin=origin)[:PAGE])
        for row in page:
            last = row.pk
            if stopping():
                return
            if row.origin in held:
                continue
            if row.due_at <= timezone.now() and _take(row):
                taken += 1
                yield row
            elif row.state == State.SENDING or row.due_at <= timezone.now():
                held.add(row.origin)
        if len(page) < PAGE:
            return


def _take(row: OutboxMessage) -> bool:
    """Whether the row is ours now. It is nobody's who saw it at the same time."""
    until = timezone.now() + timedelta(seconds=LEASE_S)
    seen = OutboxMessage.objects.filter(pk=row.pk, state=row.state, due_at=row.due_at)
    if not seen.update(state=State.SENDING, due_at=until):
        return False
    row.state, row.due_at = State.SENDING, until
    return True


def _postpone(row: OutboxMessage) -> None:
    pause_s = min(2.0**row.attempts, LONGEST_PAUSE_S)
    log.warning("message %s failed %d times and the next one did not: it is left alone", row.message_id, row.attempts)
    OutboxMessage.objects.filter(message_id=row.message_id, state=State.WAITING).update(
        due_at=timezone.now() + timedelta(seconds=pause_s)
    )


def _note(row: OutboxMessage, **changes: object) -> None:
    """Changes a row, unless it was taken by someone else in the meantime."""
    OutboxMessage.objects.filter(message_id=row.message_id, due_at=row.due_at).update(**changes)


def _words(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"[:2000]
