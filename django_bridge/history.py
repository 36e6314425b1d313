"""What the database keeps of messages and tasks: writing the messages, reading both for a user, removing what is old.

A kept message is written in the caller's transaction, inside a savepoint: it shares the fate of what it tells about,
and a write that fails leaves the caller's work alone. Must not know: transports, pages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final

from django.conf import settings as django_settings
from django.db import DatabaseError, connections, router, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from django_bridge.conf import settings
from django_bridge.models import MessageRecipient, MessageRecord, OutboxMessage, TaskRecord
from django_bridge.payload import Payload, with_defaults
from django_bridge.recipients import user_id
from django_bridge.tokens import group_names
from notifier.message import BY_NAME

log = logging.getLogger("django_bridge")

BATCH: Final = 1000
"""Rows that are written, or removed, by one statement."""
_COLUMNS: Final = frozenset(field.name for field in MessageRecord._meta.get_fields())


def keep(payload: Payload) -> None:
    """Keeps a message. A database that refuses is logged (and raises under `RAISE`); a second time changes nothing."""
    alias = router.db_for_write(MessageRecord)
    # Written without a look first: SQLite cannot turn a transaction that has read into one that writes beside others.
    ignoring = connections[alias].features.supports_ignore_conflicts
    # In whichever language it was sent: what is kept is the text of the first.
    channels = chain(payload["to"], *(other["to"] for other in payload.get("also", ())))
    recipients = [MessageRecipient(message_id=payload["id"], channel=one) for one in dict.fromkeys(channels)]
    try:
        with transaction.atomic(using=alias):
            MessageRecord.objects.bulk_create([MessageRecord(**_fields(payload))], ignore_conflicts=ignoring)
            MessageRecipient.objects.bulk_create(recipients, batch_size=BATCH, ignore_conflicts=ignoring)
    except DatabaseError:
        if settings().raise_:
            raise
        log.exception("message %s could not be kept", payload["id"])


def messages_of(user: Any) -> QuerySet[MessageRecord]:
    """The kept messages of a user, of its groups and of everybody, the newest first, without those that expired."""
    channels = [f"user:{user_id(user)}", *(f"group:{name}" for name in group_names(user)), "all"]
    his = MessageRecipient.objects.filter(channel__in=channels).values("message")
    now = _now()
    return MessageRecord.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), pk__in=his, sent_at__lte=now)


def tasks_of(user: Any) -> QuerySet[TaskRecord]:
    """The tasks that a user began, the newest first."""
    return TaskRecord.objects.filter(user=user)


def old_tasks(age: timedelta) -> QuerySet[TaskRecord]:
    """Tasks that ended, or were last heard of, longer ago than `age`: a producer that was killed ends no task."""
    return TaskRecord.objects.filter(updated_at__lt=_now() - age)


def old_messages(age: timedelta) -> QuerySet[MessageRecord]:
    """Kept messages that were sent longer ago than `age`."""
    return MessageRecord.objects.filter(sent_at__lt=_now() - age)


def old_failures(age: timedelta) -> QuerySet[OutboxMessage]:
    """Messages of the outbox that were refused longer ago than `age`. Those that wait are nobody's to remove."""
    return OutboxMessage.objects.filter(state=OutboxMessage.State.FAILED, created_at__lt=_now() - age)


def removed(rows: QuerySet[Any]) -> Iterator[int]:
    """Removes rows in batches, each in a transaction of its own; how many each batch had. Several may do it at once."""
    while batch := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        # Again with their conditions: what has changed in the meantime stays.
        yield rows.order_by().filter(pk__in=batch).delete()[1].get(rows.model._meta.label, 0)


def _fields(payload: Payload) -> dict[str, Any]:
    """The columns of a message: what has none of its own goes into `more`."""
    fields = {name: value for name, value in with_defaults(payload).items() if name in BY_NAME and name != "to"}
    sender = fields.pop("from") or {}
    fields |= {
        "url": fields["url"] or "",
        "sent_at": _moment(fields["sent_at"]) or _now(),
        "expires_at": _moment(fields["expires_at"]),
    }
    columns = {name: fields.pop(name) for name in list(fields) if name in _COLUMNS}
    return {**columns, "sender_id": sender.get("id", ""), "sender_name": sender.get("name", ""), "more": fields}


def _moment(value: str | None) -> datetime | None:
    return None if value is None else _in_database(datetime.fromisoformat(value))


def _now() -> datetime:
    return timezone.now()


def _in_database(moment: datetime) -> datetime:
    """With USE_TZ off the database wants local time without a zone."""
    return moment.astimezone(UTC) if django_settings.USE_TZ else moment.astimezone().replace(tzinfo=None)
