"""Reads and unread messages become signals: each once, by what is noted of its recipient (`MessageOutcome`).

The note is written by compare-and-set, in the transaction in which the signal's receivers run. A run that is killed
leaves no note, so that the next run sends the signal; two runs at once send it once. Must not know: transports, mail.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from django.db import IntegrityError, router, transaction
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone

from django_bridge import publisher
from django_bridge.conf import settings
from django_bridge.models import MessageOutcome, MessageRecipient, MessageRecord, OutboxMessage, written
from django_bridge.publisher.transport import Seen
from django_bridge.recipients import find_user
from django_bridge.signals import message_read, message_unread_for
from notifier.errors import InvalidInput, NotifierError

log = logging.getLogger("django_bridge")

State = MessageOutcome.State

UNREAD_FOR: Final = timedelta(minutes=10)
MAX_AGE: Final = timedelta(days=7)
"""How long the service keeps messages by default: older rows are not looked at."""
BATCH: Final = 500
"""Rows of a portion, of which presence is asked for at once, and ids of one query."""
ATTEMPTS: Final = 100
"""Runs in which the receivers of a message's signal may fail. After the last the message is left."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A kept message to one user."""

    pk: int
    user_id: str
    message_id: str
    created_at: datetime
    state: str | None
    """Of its outcome; None without one."""
    attempts: int
    """Runs so far in which the receivers of its next signal failed."""


@dataclass(slots=True)
class Escalated:
    """The result of a run: numbers of messages to one user each."""

    checked: int = 0
    read: int = 0
    """Of which `message_read` was sent."""
    unread: int = 0
    """Of which `message_unread_for` was sent."""
    gone: int = 0
    """Deleted, retracted, replaced or expired before they were read: no signal."""
    failed: int = 0
    """A receiver raised: the next run tries again, up to `ATTEMPTS` runs."""
    error: str = ""
    """Why the run ended early; empty without an error."""

    def counts(self) -> dict[str, int]:
        return {name: count for name, count in asdict(self).items() if isinstance(count, int)}


def escalate(unread_for: timedelta = UNREAD_FOR, *, max_age: timedelta = MAX_AGE) -> Escalated:
    """Send `message_read` and `message_unread_for` for kept messages to users by name, written within `max_age`.

    A message is unread for `unread_for` if it was sent so long ago, and its reader has had no open stream for so long.
    Without a receiver of `message_read`, younger messages are not looked at: that saves a call for each user.
    """
    run, now = Escalated(), timezone.now()
    for rows in _portions(now - max_age, None if message_read.has_listeners() else now - unread_for):
        try:
            _escalate_part(_by_user(rows), unread_for, run)
        except NotifierError as exc:
            run.error = str(exc)
            break
    return run


def _portions(since: datetime, until: datetime | None) -> Iterator[Sequence[_Row]]:
    """The rows to look at, a user's after each other, `BATCH` at a time."""
    rows = written(MessageRecipient).filter(message__created_at__gte=since, channel__startswith="user:")
    rows = rows.filter(Q(message__expires_at=None) | Q(message__expires_at__gt=timezone.now()))
    if until is None:
        rows = rows.filter(Q(outcome=None) | Q(outcome__state__in=(State.FAILING, State.UNREAD)))
    else:
        rows = rows.filter(Q(outcome=None) | Q(outcome__state=State.FAILING), message__created_at__lte=until)
    columns = ("channel", "pk", "message_id", "message__created_at", "outcome__state", "outcome__attempts")
    after = rows.order_by("channel", "pk").values_list(*columns)
    portion = list(after[:BATCH])
    while portion:
        yield [
            _Row(pk, channel.removeprefix("user:"), message_id, created_at, state, attempts or 0)
            for channel, pk, message_id, created_at, state, attempts in portion
        ]
        channel, pk = portion[-1][:2]
        portion = list(after.filter(Q(channel__gt=channel) | Q(channel=channel, pk__gt=pk))[:BATCH])


def _by_user(rows: Iterable[_Row]) -> Mapping[str, list[_Row]]:
    users: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        users[row.user_id].append(row)
    return users


def _escalate_part(waiting: Mapping[str, Sequence[_Row]], unread_for: timedelta, run: Escalated) -> None:
    due: dict[str, list[_Row]] = {}
    for user_id, rows in waiting.items():
        before = timezone.now() - unread_for
        waiting_ids = _in_outbox([row.message_id for row in rows])  # first: a message may be delivered meanwhile
        states = publisher.current().read_states(user_id, [row.message_id for row in rows])
        run.checked += len(rows)
        for row in rows:
            if states.get(row.message_id):
                run.read += _signal(row, State.READ, message_read, run)
            elif row.message_id in states:
                if row.created_at <= before and row.state != State.UNREAD:
                    due.setdefault(user_id, []).append(row)
            elif row.created_at <= before and row.message_id not in waiting_ids:
                run.gone += _change(row, State.GONE)
    if not due:
        return
    seen = publisher.current().presence(list(due))
    for row in chain.from_iterable(rows for user_id, rows in due.items() if _is_absent(seen[user_id], unread_for)):
        run.unread += _signal(row, State.UNREAD, message_unread_for, run)


def _in_outbox(message_ids: Sequence[str]) -> set[str]:
    rows = written(OutboxMessage).values_list("message_id", flat=True)
    parts = (message_ids[start : start + BATCH] for start in range(0, len(message_ids), BATCH))
    return {message_id for part in parts for message_id in rows.filter(message_id__in=part)}


def _is_absent(seen: Seen, absent_for: timedelta) -> bool:
    before_ms = (timezone.now() - absent_for).timestamp() * 1000
    return not seen.online and (seen.last_seen_ms is None or seen.last_seen_ms <= before_ms)


def _signal(row: _Row, state: State, signal: Signal, run: Escalated) -> bool:
    """Change a row's state and send its signal. True if this run sent it."""
    try:
        with transaction.atomic(using=router.db_for_write(MessageOutcome)):
            message = written(MessageRecord)
            if not _change(row, state) or (record := message.filter(pk=row.message_id).first()) is None:
                return False
            _send(signal, record, row)
    except _ReceiverFailed as exc:
        run.failed += 1
        _note_failure(row, exc.__cause__)
        return False
    return True


def _send(signal: Signal, record: MessageRecord, row: _Row) -> None:
    user = _user(row.user_id)
    try:
        # A receiver that breaks the transaction and goes on would roll the note back, and be called by each run.
        with transaction.atomic(using=router.db_for_write(MessageOutcome)):
            signal.send(MessageRecord, message=record, user_id=row.user_id, user=user)
    except Exception as exc:  # a receiver's DatabaseError is not one of this run
        raise _ReceiverFailed from exc


def _note_failure(row: _Row, cause: BaseException | None) -> None:
    attempts = row.attempts + 1
    state = State(row.state or State.FAILING) if attempts < ATTEMPTS else State.FAILED
    text = "a receiver of the signal for message %s to user %s failed"
    if _change(row, state, attempts) and state == State.FAILED:
        text += f" in {attempts} runs; the message is left"
    log.error(text, row.message_id, row.user_id, exc_info=cause)


class _ReceiverFailed(Exception):
    """Rolls back what was written for the signal."""


def _change(row: _Row, state: State, attempts: int = 0) -> bool:
    """Write what became of a message, by compare-and-set. False if another run won, or the message is retracted."""
    outcomes, recipients = written(MessageOutcome), written(MessageRecipient)
    if row.state is not None:
        return outcomes.filter(pk=row.pk, state=row.state).update(state=state, attempts=attempts) == 1
    try:
        # The write comes first: on SQLite a transaction that has read may be refused to write.
        with transaction.atomic(using=outcomes.db):
            outcomes.create(pk=row.pk, state=state, attempts=attempts)
            if not recipients.select_for_update().filter(pk=row.pk):
                transaction.set_rollback(True, using=outcomes.db)
                return False
    except IntegrityError:
        return False
    return True


def _user(user_id: str) -> Any:
    if settings().user_id:
        return None
    try:
        return find_user(user_id)
    except InvalidInput:
        return None
