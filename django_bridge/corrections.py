"""What changes a message that was sent: the payloads of its retraction and of its correction, and the names that the
arguments of `Message` have on the wire.

Must not know: transports, Celery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from django.utils import timezone

from django_bridge.conf import settings
from django_bridge.languages import by_language, override
from django_bridge.payload import CORRECTION, RETRACTION, Payload, check_changes
from django_bridge.recipients import channels, sender
from django_bridge.texts import is_lazy, rendered
from notifier import rules
from notifier.errors import InvalidInput, NotifierError, PayloadTooLarge
from notifier.event import new_id

ARGUMENTS: Final = {"to": "to_users", "from": "from_user", "sent_at": "send_datetime"}
"""Fields of the wire that are arguments of `Message` under another name."""
_FIELDS: Final = {argument: field for field, argument in ARGUMENTS.items()}


def retraction(message_id: str, to: Sequence[str]) -> Payload:
    """The payload that retracts a message from these channels. Raises `InvalidInput`."""
    known = rules.identifier(message_id, "message_id")
    return {"id": new_id(), "kind": RETRACTION, "message": known, "to": list(to)}


def correction(message_id: str, to: Any, changes: Mapping[str, Any]) -> Payload:
    """The checked payload that corrects a message. `to`: as in `recipients`; `changes`: by the names of `Message`'s
    arguments. Raises `InvalidInput` or `PayloadTooLarge`."""
    known = rules.identifier(message_id, "message_id")
    if not changes:
        raise InvalidInput("changes nothing", field="changes")
    values = {_FIELDS.get(name, name): value for name, value in changes.items()}
    if "from" in values:
        values["from"] = sender(values["from"])
    if "sent_at" in values:
        values["sent_at"] = moment(values["sent_at"], "send_datetime")
    parts = []
    for language, spoken_by in _by_language(known, to, values).items():
        with override(language), argument_names():
            part = {"to": spoken_by, "changes": rendered(values)}
            check_changes(part["changes"])
        parts.append(part)
    payload: Payload = {"id": new_id(), "kind": CORRECTION, "message": known, **parts[0]}
    if parts[1:]:
        payload["also"] = parts[1:]
    return payload


def recipients(message_id: str, to: Any) -> list[str]:
    """The channels of recipients as of a `Message`; of None, those that the kept message has. Raises `InvalidInput`."""
    if to is not None:
        return list(rules.recipients(channels(to), "to_users"))
    from django_bridge.history import recipients_of  # loads the models

    kept = recipients_of(message_id) if settings().keep_messages else []
    if not kept:
        raise InvalidInput(
            "is required: the recipients of this message are not kept (NOTIFIER['KEEP_MESSAGES'])", field="to_users"
        )
    return kept


def moment(value: object, field: str) -> str | None:
    """A time as on the wire; a naive one is in Django's current time zone. Raises `InvalidInput`."""
    if value is None:
        return None
    if isinstance(value, datetime) and timezone.is_naive(value):
        value = timezone.make_aware(value)
    return rules.iso(rules.moment(value, field))


@contextmanager
def argument_names() -> Iterator[None]:
    """Errors name the argument of `Message` instead of the wire's field."""
    try:
        yield
    except (InvalidInput, PayloadTooLarge) as exc:
        raise _renamed(exc) from None


def _renamed(exc: NotifierError) -> NotifierError:
    for wire, argument in ARGUMENTS.items():
        if exc.field == wire or (exc.field or "").startswith((f"{wire}.", f"{wire}[")):
            return type(exc)(exc.detail, field=argument + (exc.field or "")[len(wire) :])
    return exc


def _by_language(message_id: str, to: Any, values: Mapping[str, Any]) -> Mapping[str, list[str]]:
    if to is None or not is_lazy(values):
        return {"": recipients(message_id, to)}
    per_language = by_language(to, "to_users") or {"": []}
    return {language: list(rules.recipients(named, "to_users")) for language, named in per_language.items()}
