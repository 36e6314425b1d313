"""The payload of a message, of its retraction or correction, of a custom event and of a task's end: plain JSON, in the
form of the service's API.

Must not know: Django's users, transports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NotRequired, TypedDict

from notifier import event, rules
from notifier.errors import InvalidInput
from notifier.exclusion import Exclusion
from notifier.json_text import bounded, to_json
from notifier.message import BY_NAME, CORRECTABLE, FIELDS, REQUIRED, message_event
from notifier.rules import shown
from notifier.task import Task
from notifier.task_record import from_record

_DEFAULTS: Final = {field.name: field.default for field in FIELDS if field.default is not REQUIRED}

Payload = dict[str, Any]
"""The fields of `notifier.message.FIELDS` by name, as JSON, and `also`: one entry per further language, with the fields
that differ and the `to` of its readers. `sent_at` None: the time of the sending, since a payload can wait in a
transaction, in the outbox or in Celery's broker.

A payload may come from another version of the bridge, across a deploy: see `with_defaults`."""


EVENT: Final = "event"
"""The `kind` of the payload of a custom event, which has `id kind to type data durable`. Messages have no `kind`."""


RETRACTION: Final = "message.retraction"
"""The `kind` of the payload that retracts a message: `id kind message to`, where `message` is the message's id."""


CORRECTION: Final = "message.correction"
"""The `kind` of the payload that corrects a message: `id kind message to changes`, and `also` as in a message."""


TASK_END: Final = "task.end"
"""The `kind` of the payload of a task's end: `id kind change task`, the last change and the state after it."""


EventBody = TypedDict(
    "EventBody",
    {
        "to": list[str],
        "type": str,
        "data": Any,
        "durable": NotRequired[bool],
        "except": NotRequired[list[str]],
        "except_connection": NotRequired[str],
    },
)
"""A custom event, in the form of the body of `POST /v1/events`. Missing: it is durable, for all of `to`."""


def is_event(payload: Payload) -> bool:
    """Whether this is the payload of a custom event."""
    return payload.get("kind") == EVENT


def is_message(payload: Payload) -> bool:
    """Whether this is the payload of a message."""
    return "kind" not in payload


def is_retraction(payload: Payload) -> bool:
    """Whether this is the payload that retracts a message."""
    return payload.get("kind") == RETRACTION


def is_correction(payload: Payload) -> bool:
    """Whether this is the payload that corrects a message."""
    return payload.get("kind") == CORRECTION


def is_change(payload: Payload) -> bool:
    """Whether this payload retracts or corrects a message that was sent before."""
    return is_retraction(payload) or is_correction(payload)


def is_task_end(payload: Payload) -> bool:
    """Whether this is the payload of a task's end."""
    return payload.get("kind") == TASK_END


def ended_task(payload: Payload) -> Task:
    """The state of a task after its end. Raises `ValueError` or `KeyError`."""
    task = from_record(to_json(payload["task"]))
    if task is None or not task.ended or not isinstance(payload["change"], dict):
        raise ValueError(f"not the end of a task: {shown(payload['task'])}")
    return task


def event_body(payload: Payload) -> EventBody:
    """The body of the payload of a custom event. Raises `KeyError`."""
    body: EventBody = {"to": payload["to"], "type": payload["type"], "data": payload["data"]}
    if not payload.get("durable", True):
        body["durable"] = False
    if payload.get("except"):
        body["except"] = payload["except"]
    if payload.get("except_connection"):
        body["except_connection"] = payload["except_connection"]
    return body


def parse(text: str) -> Payload:
    """The payload that an outbox row keeps. Raises `ValueError` for a text that `Message` did not write."""
    payload = json.loads(text)
    if not isinstance(payload, dict) or not isinstance(payload.get("id"), str):
        raise ValueError(f"not the payload of a message: {shown(payload)}")
    return payload


def with_defaults(payload: Payload) -> Payload:
    """The payload with every field: a field that an older bridge did not write has its default."""
    return {**_DEFAULTS, **payload}


def per_language(payload: Payload) -> Iterator[Payload]:
    """One payload per language, each addressed to the readers of that language. All share the message's id."""
    plain = {name: value for name, value in payload.items() if name != "also"}
    yield plain
    for differs in payload.get("also", ()):
        yield {**plain, **differs}


def to_event(payload: Payload) -> event.Event:
    """The event of a payload of either kind. Fields of a message that only a newer bridge knows are left out.

    Raises `InvalidInput` or `PayloadTooLarge`.
    """
    if is_event(payload):
        return to_custom_event(payload)
    return message_event({name: value for name, value in payload.items() if name in BY_NAME}, may_repeat=True)


def check(payload: Payload) -> None:
    """Raises `ValueError`, `KeyError` or `TypeError` for a payload of any kind that the bridge did not write."""
    if is_task_end(payload):
        ended_task(payload)
    elif is_change(payload):
        rules.identifier(payload["message"], "message")
        for translated in per_language(payload):
            rules.recipients(translated["to"])
            check_changes(translated["changes"] if is_correction(payload) else {})
    else:
        to_event(payload)


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raises `InvalidInput` or `PayloadTooLarge` where the service refuses these changes of any message."""
    for name, value in changes.items():
        if name not in CORRECTABLE:
            raise InvalidInput("is not a field that can be corrected", field=name)
        BY_NAME[name].check(value, name)
    bounded(to_json(changes), changes, rules.MAX_EVENT_BYTES)


def to_custom_event(body: EventBody | Payload) -> event.Event:
    """The event of a body. Raises `InvalidInput` or `PayloadTooLarge`."""
    durable = body.get("durable", True)
    users, connection = rules.excluded(body.get("except")), body.get("except_connection")
    if connection is not None:
        connection = rules.identifier(connection, "except_connection")
    excluded = Exclusion(users, connection or "") if users or connection else None
    return event.custom(to=body["to"], event_type=body["type"], data=body["data"], durable=durable, excluded=excluded)


def expired(payload: Payload) -> bool:
    """Whether `expires_at` has passed."""
    until = payload.get("expires_at")
    return until is not None and datetime.fromisoformat(until) <= datetime.now(UTC)


def named(payload: Payload) -> str:
    """The payload in a line of the log."""
    if is_task_end(payload):
        return f"end of task {payload['task']['id']}"
    if is_change(payload):
        return f"{'retraction' if is_retraction(payload) else 'correction'} of message {payload['message']}"
    return f"event {payload['type']}, {payload['id']}" if is_event(payload) else f"message {payload['id']}"
