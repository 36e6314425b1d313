"""Delivery of the outbox: oldest messages first, those of one process in order.

Any number of deliverers may run at once. Each claims a row for `LEASE_S` by compare-and-set and holds no lock during
network calls; the row of a deliverer that died is due again when the lease ends. Delivery is at least once, under the
message's id: the service drops a repeat by its idempotency key within five minutes; after that the inbox, the replay
and the browser's client recognize it by its id.

Must not know: who wrote a row, when deliverers run.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final

from django.utils import timezone

from django_bridge import publisher
from django_bridge.models import OutboxMessage, written
from django_bridge.payload import check, expired, is_change, parse
from django_bridge.publisher.transport import REFUSED
from notifier.errors import NotifierError

log = logging.getLogger("django_bridge")

State = OutboxMessage.State

LEASE_S: Final = 60
"""How long a claimed row belongs to its deliverer. Delivering a message takes up to `TIMEOUT_S` per part."""
PAGE: Final = 100
"""Rows read by one query."""
MAX_PER_RUN: Final = 1000
"""Messages that one run tries to deliver."""
PATIENCE: Final = 5
"""Failed tries after which the message, not the service, is suspected to be the cause: the next message is tried."""
LONGEST_PAUSE_S: Final = 300
"""Upper bound of the pause before a suspected message is tried again."""
SKEW_S: Final = 60
"""How far the clocks of processes may differ."""


class DeliveryOutcome(enum.Enum):
    """The result of a try to deliver a message."""

    DELIVERED = "delivered"
    EXPIRED = "expired"
    REFUSED = "refused"
    """The service rejects this content, also when it is sent again."""
    AWAY = "away"
    """The service could not be reached, or accepts no message at present."""
    TOO_EARLY = "too early"
    """A retraction or a correction whose message is in the outbox of another process, or postponed in that of its own.
    The service would take it for a change of a message that is gone, and then show the message unchanged."""


@dataclass(slots=True)
class DeliveryRun:
    """How many messages one run delivered, and how many it did not."""

    delivered: int = 0
    expired: int = 0
    failed: int = 0
    error: str = ""
    """Why the run stopped early; empty where it did not."""

    def counts(self) -> dict[str, int]:
        return {name: count for name, count in asdict(self).items() if isinstance(count, int)}

    def add(self, outcome: DeliveryOutcome) -> None:
        self.delivered += outcome is DeliveryOutcome.DELIVERED
        self.expired += outcome is DeliveryOutcome.EXPIRED
        self.failed += outcome is DeliveryOutcome.REFUSED


def deliver_all(stopping: Callable[[], bool] = lambda: False) -> DeliveryRun:
    """Run until nothing is due, the service is away or `stopping` is true. Returns the sums of all runs."""
    total = DeliveryRun()
    while True:
        run = deliver_due(stopping=stopping)
        total.delivered += run.delivered
        total.expired += run.expired
        total.failed += run.failed
        total.error = run.error
        if run.error or stopping() or not any(run.counts().values()):
            return total


def deliver_due(
    *,
    origin: str | None = None,
    within_s: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> DeliveryRun:
    """One run over the due messages, with `origin` those of one process. No message is begun after `within_s`.

    The run ends when the service is away. Where a message has failed `PATIENCE` times and fails again although the
    service answers, the next one is tried as well; if that is delivered, the service is not away and the failed message
    is postponed. A change that is too early stays due, and later changes of the same message behind it.
    """
    deadline = None if within_s is None else time.monotonic() + within_s
    run = DeliveryRun()
    suspects: list[OutboxMessage] = []
    too_early: set[str] = set()
    """Messages of which a change stays in the outbox."""
    for row in _due(origin, lambda: stopping() or (deadline is not None and time.monotonic() > deadline)):
        outcome, exc = outcome_of(row, too_early)
        is_suspect = outcome is DeliveryOutcome.AWAY and row.attempts + 1 >= PATIENCE and publisher.current().answers()
        if is_suspect:
            # It may have failed just before the service was back; the next message would overtake it.
            outcome, exc = outcome_of(row, too_early)
        run.add(outcome)
        if outcome is DeliveryOutcome.TOO_EARLY:
            too_early.add(parse(row.payload)["message"])
            release(row)
            continue
        if outcome is DeliveryOutcome.AWAY:
            release(row, exc)
            suspects.append(row)
            if not is_suspect or len(suspects) > 1:
                run.error = _error_text(exc)
                break
            continue
        if outcome is DeliveryOutcome.REFUSED:
            mark_refused(row, exc)
        else:
            remove(row)
        while suspects:
            _postpone(suspects.pop())
        if sum(run.counts().values()) >= MAX_PER_RUN:
            break
    return run


def outcome_of(row: OutboxMessage, too_early: Collection[str] = ()) -> tuple[DeliveryOutcome, Exception | None]:
    """Try to deliver a claimed row. Returns the outcome and the error of the try. `too_early`: messages of which an
    earlier change stays in the outbox."""
    try:
        payload = parse(row.payload)
        if expired(payload):
            log.info("message %s expired before it was sent", row.message_id)
            return DeliveryOutcome.EXPIRED, None
        check(payload)
    except (ValueError, KeyError, TypeError) as exc:  # the row is not as `send()` wrote it
        return DeliveryOutcome.REFUSED, exc
    if is_change(payload) and (payload["message"] in too_early or _is_waiting(payload["message"])):
        return DeliveryOutcome.TOO_EARLY, None
    try:
        publisher.current().deliver(payload)
    except REFUSED as exc:
        return (DeliveryOutcome.EXPIRED if expired(payload) else DeliveryOutcome.REFUSED), exc
    except NotifierError as exc:
        return DeliveryOutcome.AWAY, exc
    return DeliveryOutcome.DELIVERED, None


def _is_waiting(message_id: str) -> bool:
    """Whether a message is not yet delivered, nor refused."""
    return written(OutboxMessage).filter(message_id=message_id).exclude(state=State.FAILED).exists()


def release(row: OutboxMessage, exc: Exception | None = None) -> None:
    """Give up the claim on a row, so that it is due again. With `exc`, the failed try is recorded."""
    changes: dict[str, object] = {"state": State.WAITING, "due_at": timezone.now()}
    if exc is not None:
        row.attempts += 1
        changes |= {"attempts": row.attempts, "error": _error_text(exc)}
    _update(row, **changes)


def mark_refused(row: OutboxMessage, exc: Exception | None) -> None:
    """Keep a row as failed, with the reason, until it is retried or deleted in the admin."""
    error = _error_text(exc)
    log.error("message %s was refused, its outbox row is kept as failed: %s", row.message_id, error)
    _update(row, state=State.FAILED, attempts=row.attempts + 1, error=error)


def remove(row: OutboxMessage) -> None:
    """Delete the row of a message that is delivered or expired."""
    written(OutboxMessage).filter(message_id=row.message_id).delete()


def _due(origin: str | None, stopping: Callable[[], bool]) -> Iterator[OutboxMessage]:
    """Due rows, each claimed when the caller asks for it. `stopping` is asked before the claim, never between claim and
    yield."""
    blocked: set[str] = set()
    """Processes whose oldest message is not available: their later messages must not overtake it."""
    last = 0
    while True:
        rows = written(OutboxMessage).filter(pk__gt=last).exclude(state=State.FAILED).order_by("pk")
        page = list(rows[:PAGE] if origin is None else rows.filter(origin=origin)[:PAGE])
        for row in page:
            last = row.pk
            if stopping():
                return
            if row.origin in blocked:
                continue
            is_due = _is_due(row)
            if is_due and _claim(row):
                yield row
            elif is_due or row.state == State.SENDING:
                blocked.add(row.origin)
        if len(page) < PAGE:
            return


def _is_due(row: OutboxMessage) -> bool:
    """Whether the row's pause or its lease has ended.

    A time that is further ahead than these can be was written before the clock went back. Without `USE_TZ` it does so
    by an hour at the end of summer time, and rows would wait that long.
    """
    longest_s = LEASE_S if row.state == State.SENDING else _pause_s(row)
    ahead_s = (row.due_at - timezone.now()).total_seconds()
    return not 0 < ahead_s <= longest_s + SKEW_S


def _claim(row: OutboxMessage) -> bool:
    """Claim a row for `LEASE_S` by compare-and-set. False if another deliverer won."""
    until = timezone.now() + timedelta(seconds=LEASE_S)
    unchanged = written(OutboxMessage).filter(pk=row.pk, state=row.state, due_at=row.due_at)
    if not unchanged.update(state=State.SENDING, due_at=until):
        return False
    row.state, row.due_at = State.SENDING, until
    return True


def _pause_s(row: OutboxMessage) -> float:
    return min(2.0 ** min(row.attempts, 10), LONGEST_PAUSE_S)


def _postpone(row: OutboxMessage) -> None:
    pause_s = _pause_s(row)
    log.warning(
        "message %s failed %d times and the next one was delivered: postponed by %d s",
        row.message_id,
        row.attempts,
        pause_s,
    )
    written(OutboxMessage).filter(message_id=row.message_id, state=State.WAITING).update(
        due_at=timezone.now() + timedelta(seconds=pause_s)
    )


def _update(row: OutboxMessage, **changes: object) -> None:
    """Change a claimed row, unless its lease ended and another deliverer claimed it."""
    written(OutboxMessage).filter(message_id=row.message_id, due_at=row.due_at).update(**changes)


def _error_text(exc: Exception | None) -> str:
    return "" if exc is None else f"{type(exc).__name__}: {exc}"[:2000]
