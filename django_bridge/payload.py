"""The payload of a message, and of a custom event: plain JSON, in the form of the service's API.

Must not know: Django's users, transports.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

from notifier import event

Payload = TypedDict(
    "Payload",
    {
        "id": str,
        "to": list[str],
        "subject": str,
        "text": str,
        "from": dict[str, str] | None,
        "level": str,
        "url": str | None,
        "data": dict[str, Any],
        "sent_at": str | None,
        "expires_at": str | None,
        "also": NotRequired[list[dict[str, Any]]],
    },
)
"""`also`: one entry per further language, with the fields that differ and the `to` of its readers. `sent_at` None: the
time of the sending, since a payload can wait in a transaction or in Celery's broker."""


class EventBody(TypedDict):
    """A custom event, in the form of the body of `POST /v1/events`."""

    to: list[str]
    type: str
    data: Any


def per_language(payload: Payload) -> Iterator[Payload]:
    """One payload per language, each addressed to the readers of that language. All share the message's id."""
    plain: Any = {name: value for name, value in payload.items() if name != "also"}
    yield plain
    for differs in payload.get("also", ()):
        translated: Any = {**plain, **differs}
        yield translated


def to_event(payload: Payload) -> event.Event:
    """The event of a payload. Raises `InvalidInput` or `PayloadTooLarge`."""
    return event.message(
        to=payload["to"],
        subject=payload["subject"],
        text=payload["text"],
        sender=payload["from"],
        level=payload["level"],
        url=payload["url"],
        data=payload["data"],
        sent_at=payload["sent_at"],
        expires_at=payload["expires_at"],
        message_id=payload["id"],
    )


def to_custom_event(body: EventBody) -> event.Event:
    """The event of a body. Raises `InvalidInput` or `PayloadTooLarge`."""
    return event.custom(to=body["to"], event_type=body["type"], data=body["data"])


def expired(payload: Payload) -> bool:
    """Whether `expires_at` has passed."""
    until = payload["expires_at"]
    return until is not None and datetime.fromisoformat(until) <= datetime.now(UTC)
