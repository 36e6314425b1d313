"""Messages and tasks in the database: keeps messages, reads both for a user, removes old rows.

A kept message is written in the caller's transaction, inside a savepoint: a rollback removes it as well, and a failed
write does not break the caller's transaction. Must not know: transports, pages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, Final

from django.conf import settings as django_settings
from django.db import Error, connections, router, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from django_bridge.conf import settings
from django_bridge.event_loop import outside_loop
from django_bridge.models import MessageOutcome, MessageRecipient, MessageRecord, OutboxMessage, TaskRecord, written
from django_bridge.payload import Payload, is_correction, is_retraction, named, with_defaults
from django_bridge.recipients import user_id, user_of
from django_bridge.tokens import group_names
from notifier.message import BY_NAME

log = logging.getLogger("django_bridge")

BATCH: Final = 1000
"""Rows written or removed by one statement."""
_COLUMNS: Final = frozenset(field.name for field in MessageRecord._meta.get_fields())
_MOMENTS: Final = frozenset(("sent_at", "expires_at"))


def database() -> str:
    """The alias of the database that messages are kept in."""
    return router.db_for_write(MessageRecord)


def _keep(payload: Payload) -> None:
    """Keep a message, once per id."""
    # Not get_or_create: on SQLite a transaction that has read cannot be upgraded to a write beside other writers.
    ignoring = connections[database()].features.supports_ignore_conflicts
    # The recipients of all languages; the text is that of the first language.
    channels = chain(payload["to"], *(other["to"] for other in payload.get("also", ())))
    recipients = [MessageRecipient(message_id=payload["id"], channel=channel) for channel in dict.fromkeys(channels)]
    MessageRecord.objects.bulk_create([MessageRecord(**_fields(payload))], ignore_conflicts=ignoring)
    MessageRecipient.objects.bulk_create(recipients, batch_size=BATCH, ignore_conflicts=ignoring)


def _retract(message_id: str, to: Sequence[str]) -> None:
    """Remove the recipients, and with the last of them the message."""
    for start in range(0, len(to), BATCH):
        MessageRecipient.objects.filter(message=message_id, channel__in=to[start : start + BATCH]).delete()
    MessageRecord.objects.filter(pk=message_id, recipients=None).delete()


def _correct(payload: Payload) -> None:
    """Change the kept fields, in the language that is kept: that of the first recipient. A correction for some of the
    recipients changes nothing: the others would see it too."""
    records = written(MessageRecord).filter(pk=payload["message"])
    parts = (payload, *payload.get("also", ()))
    corrected = {channel: part["changes"] for part in parts for channel in part["to"]}
    # The write comes first: see `_keep`.
    if not records.update(subject=F("subject")):
        return
    kept = recipients_of(payload["message"])
    if not kept or not corrected.keys() >= set(kept):
        return
    record, columns = records.get(), _columns(corrected[kept[0]])
    columns["more"] = {**(record.more or {}), **columns["more"]}
    if columns.get("sent_at", record.sent_at) is None:  # as in the service: it stays
        del columns["sent_at"]
    records.update(**columns)


def keep(payload: Payload) -> None:
    """As `write`, in a transaction of its own or a savepoint of the caller's. A `django.db.Error` is logged, and raised
    with `RAISE`."""
    try:
        with transaction.atomic(using=database()):
            write(payload)
    except Error:
        if settings().raise_:
            raise
        log.exception("%s could not be kept", named(payload))


def write(payload: Payload) -> None:
    """Keep a message, in the caller's transaction; its retraction and its correction change what is kept."""
    if is_retraction(payload):
        _retract(payload["message"], payload["to"])
    elif is_correction(payload):
        _correct(payload)
    else:
        _keep(payload)


def recipients_of(message_id: str) -> list[str]:
    """The channels that a kept message was sent to; none where it is not kept."""
    rows = written(MessageRecipient).filter(message=message_id).order_by("pk")
    return list(rows.values_list("channel", flat=True))


@outside_loop
def messages_of(user: Any) -> QuerySet[MessageRecord]:
    """The kept messages to a user (itself or its key), its groups and all, newest first, without expired ones."""
    user = user_of(user)
    channels = [f"user:{user_id(user)}", *(f"group:{name}" for name in group_names(user)), "all"]
    received = MessageRecipient.objects.filter(channel__in=channels).values("message")
    now = _now()
    return MessageRecord.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), pk__in=received, sent_at__lte=now)


@outside_loop
def tasks_of(user: Any) -> QuerySet[TaskRecord]:
    """The tasks that a user (itself or its key) began, newest first."""
    return TaskRecord.objects.filter(user=user)


def old_tasks(age: timedelta) -> QuerySet[TaskRecord]:
    """Tasks without a change for longer than `age`, ended or not: the producer of a task may have been killed."""
    return written(TaskRecord).filter(updated_at__lt=_now() - age)


def old_messages(age: timedelta) -> QuerySet[MessageRecord]:
    """Kept messages sent longer ago than `age`."""
    return written(MessageRecord).filter(sent_at__lt=_now() - age)


def old_failures(age: timedelta) -> QuerySet[OutboxMessage]:
    """Refused messages of the outbox, written longer ago than `age`. Waiting ones are never removed."""
    return written(OutboxMessage).filter(state=OutboxMessage.State.FAILED, created_at__lt=_now() - age)


def remove_lost_outcomes() -> None:
    """Remove what is noted of recipients that are gone."""
    recipients = MessageRecipient.objects.filter(pk=OuterRef("pk"))
    MessageOutcome.objects.filter(~Exists(recipients)).delete()


def remove_in_batches(rows: QuerySet[Any]) -> Iterator[int]:
    """Remove rows in batches, each in its own transaction, and yield the size of each. Safe to run concurrently."""
    while batch := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        # The conditions of `rows` apply again, so that rows which have changed since are not removed.
        yield rows.order_by().filter(pk__in=batch).delete()[1].get(rows.model._meta.label, 0)


def _fields(payload: Payload) -> dict[str, Any]:
    """The columns of a message. Fields without a column of their own go into `more`."""
    columns = _columns({name: value for name, value in with_defaults(payload).items() if name != "to"})
    return {**columns, "sent_at": columns["sent_at"] or _now()}


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in values.items() if name in BY_NAME}
    if "from" in fields:
        sender = fields.pop("from") or {}
        fields |= {"sender_id": sender.get("id", ""), "sender_name": sender.get("name", "")}
    if "url" in fields:
        fields["url"] = fields["url"] or ""
    for name in _MOMENTS & fields.keys():
        fields[name] = _moment(fields[name])
    columns = {name: fields.pop(name) for name in list(fields) if name in _COLUMNS}
    return {**columns, "more": fields}


def _moment(value: str | None) -> datetime | None:
    return None if value is None else _in_database(datetime.fromisoformat(value))


def _now() -> datetime:
    return timezone.now()


def _in_database(moment: datetime) -> datetime:
    """The value that Django's fields expect: with USE_TZ off, naive local time."""
    return moment.astimezone(UTC) if django_settings.USE_TZ else moment.astimezone().replace(tzinfo=None)
