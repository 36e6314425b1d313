"""A message's fields: the one list that the rest of the service and the Django bridge follow.

From `FIELDS` follow the checks, the frame, the models of the HTTP API and their OpenAPI schema, the options of
`notifier send` and `manage.py notifier_send`, and what the bridge puts into a payload. A field that an older publisher
does not know has its default.

Must not know: asyncio, Redis, HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from notifier import json_text, rules
from notifier.errors import InvalidInput
from notifier.event import Event, is_safe_frame, new_id
from notifier.exclusion import Exclusion

REQUIRED: Final = object()
"""The default of a field that has none."""
FIRST_VERSION: Final = "0.1"
"""The version whose fields every service, bridge and worker knows."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    """As JSON spells it, in requests and on the stream."""
    check: Callable[[Any, str], Any]
    """From the value given and the field's name to the value on the wire. Raises `InvalidInput`."""
    accepts: Any
    """The type of its JSON value in a request."""
    carries: Any = None
    """The type of its JSON value on the stream. None: the stream does not carry it."""
    default: Any = REQUIRED
    description: str = ""
    choices: tuple[str, ...] = ()
    format: str = ""
    """The format of its text in JSON Schema (`date-time`)."""
    option: str = ""
    """The command line's option for it, without dashes. Empty: none."""
    since: str = FIRST_VERSION
    """The version that introduced the field. A field newer than `FIRST_VERSION` is omitted from payloads and frames
    while it has its default, because services and workers of older versions refuse it or do not know it."""

    def may_be_left_out(self, value: object) -> bool:
        """True if payloads and frames omit this value."""
        return self.since != FIRST_VERSION and value == self.default


def _identity(value: object, field: str) -> str | None:
    return None if value is None else rules.identifier(value, field)


def _sender(value: object, field: str) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInput(f"must be an object with 'id' and 'name', not {rules.shown(value)}", field=field)
    for key in value:
        if key not in ("id", "name"):
            raise InvalidInput(f"is not a field of '{field}'", field=f"{field}.{key}")
    sender = {}
    if value.get("id") is not None:
        sender["id"] = rules.name(value["id"], f"{field}.id")
    if value.get("name") is not None:
        sender["name"] = rules.text(value["name"], f"{field}.name", max_chars=rules.MAX_TITLE_CHARS)
    if not sender:
        raise InvalidInput("must have an 'id' or a 'name'", field=field)
    return sender


def _key(value: object, field: str) -> str | None:
    return None if value is None else rules.name(value, field)


def _subject(value: object, field: str) -> str:
    return rules.text(value, field, max_chars=rules.MAX_TITLE_CHARS, empty=False)


def _moment(value: object, field: str) -> datetime | None:
    return None if value is None else rules.moment(value, field)


def _data(value: object, field: str) -> dict[str, Any]:
    return json_text.json_object({} if value is None else value, field)


FIELDS: Final = (
    Field(
        "to",
        rules.recipients,
        list[str],
        str,
        description="`user:<id>`, `group:<name>`, `topic:<name>` or `all`.",
    ),
    Field("id", _identity, str | None, str, None, description="The message's own id; made by the service by default."),
    Field(
        "from",
        _sender,
        dict[str, str] | None,
        dict[str, str] | None,
        None,
        description="The sender, an object with `id` (a user id) and `name` (as shown); null is the system.",
    ),
    Field("subject", _subject, str, str, description="1 to 255 characters.", option="subject"),
    Field("text", rules.text, str, str, "", description="Plain text, of any number of lines.", option="text"),
    Field(
        "sent_at",
        _moment,
        str | None,
        str,
        None,
        description="The time shown: ISO 8601 with an offset; now by default.",
        format="date-time",
    ),
    Field(
        "level",
        rules.level,
        str,
        str,
        "info",
        description="How urgent it is: debug, info, success, warning or error.",
        choices=rules.LEVELS,
        option="level",
    ),
    Field(
        "url",
        rules.url,
        str | None,
        str | None,
        None,
        description="Where a click leads: http, https or relative.",
        option="link",
    ),
    Field(
        "icon",
        rules.icon,
        str | None,
        str | None,
        None,
        description=f"The picture shown: the URL of one, or a name: {', '.join(rules.ICONS)}.",
        option="icon",
        since="0.2",
    ),
    Field(
        "key",
        _key,
        str | None,
        str | None,
        None,
        description="1 to 128 characters. The message replaces the earlier one of its channel that has the same key.",
        option="message-key",
        since="0.2",
    ),
    Field(
        "actions",
        rules.actions,
        list[dict[str, str]] | None,
        list[dict[str, str]] | None,
        None,
        description="At most 3 buttons: `text`, `url`, and `method`, GET (a link) or POST (a call to the page's site).",
        since="0.2",
    ),
    Field(
        "data",
        _data,
        dict[str, Any] | None,
        dict[str, Any],
        None,
        description="A JSON object for the page's code.",
        option="data",
    ),
    Field(
        "expires_at",
        _moment,
        str | None,
        default=None,
        description="ISO 8601 with an offset. After this time the message is neither replayed nor listed.",
        format="date-time",
    ),
)
"""In the order of the frame."""

BY_NAME: Final[Mapping[str, Field]] = {field.name: field for field in FIELDS}
CORRECTABLE: Final = frozenset(("from", "subject", "text", "sent_at", "level", "url", "icon", "actions", "data"))
"""Those that a publisher can change afterwards."""
MAX_UTF8_BYTES: Final = 4
"""Of one character."""
_OPENING: Final = b"event: message\ndata: "


def message_event(
    fields: Mapping[str, Any],
    *,
    may_repeat: bool = False,
    excluded: Exclusion | None = None,
    max_bytes: int = rules.MAX_EVENT_BYTES,
    publisher: str = "",
    now: datetime | None = None,
) -> Event:
    """The event of a message: durable, with a place in the inbox and a read mark.

    `fields` are values of `FIELDS` by name, unchecked; those left out have their defaults. `may_repeat`,
    `excluded`, `publisher`: see `Event`. `max_bytes` bounds the encoded data without recipient and id. Raises
    `InvalidInput` or `PayloadTooLarge`, which name the field.
    """
    now = now or datetime.now(UTC)
    values: dict[str, Any] = {}
    members = dict(_DEFAULT_MEMBERS)
    for name, value in fields.items():
        field = BY_NAME.get(name)
        if field is None:
            raise InvalidInput("is not a field of a message", field=name)
        values[name] = checked = field.check(value, name)
        if name in members and not field.may_be_left_out(checked):
            members[name] = _member(name, checked)
    for name in _REQUIRED:
        if name not in values:
            raise InvalidInput("is required", field=name)
    expires = values.get("expires_at")
    if expires is not None and expires <= now:
        raise InvalidInput(f"is in the past: {rules.iso(expires)}", field="expires_at")
    message_id = values.get("id") or new_id()
    if values.get("sent_at") is None:
        members["sent_at"] = _member("sent_at", now)
    encoded = ",".join([member for member in members.values() if member])
    if len(encoded) + len("{}") > max_bytes // MAX_UTF8_BYTES:
        given = {name: member for name, member in members.items() if name in values}
        json_text.bounded(f"{{{encoded}}}", given, max_bytes)
    return Event(
        to=values["to"],
        head=f'event: message\ndata: {{"id":"{message_id}","to":',
        tail=f",{encoded}}}\n\n",
        message_id=message_id,
        may_repeat=may_repeat,
        excluded=excluded,
        replace_key=values.get("key") or "",
        expires_at_ms=int(expires.timestamp() * 1000) if expires else 0,
        publisher=publisher,
    )


def corrected(stored: str, changes: Mapping[str, Any], *, max_bytes: int = rules.MAX_EVENT_BYTES) -> str:
    """The stored frame of a message with these fields changed, and `edited`; the same frame if they are as they were.

    `changes` are values of `CORRECTABLE` by name, unchecked. Raises `InvalidInput` or `PayloadTooLarge`.
    """
    message = message_of(stored)
    if message is None:
        raise InvalidInput("is stored in another form, and cannot be corrected", field="id")
    changed = dict(message)
    for name, value in changes.items():
        if name not in CORRECTABLE:
            raise InvalidInput("is not a field that can be corrected", field=name)
        checked = BY_NAME[name].check(value, name)
        checked = rules.iso(checked) if isinstance(checked, datetime) else checked
        if BY_NAME[name].may_be_left_out(checked):
            changed.pop(name, None)
        elif checked is not None or name != "sent_at":
            changed[name] = checked
    if changed == message:
        return stored
    encoded = json_text.to_json({**changed, "edited": True})
    json_text.bounded(encoded, changes, max_bytes)
    return f"event: message\ndata: {encoded}\n\n"


def _member(name: str, value: Any) -> str:
    """A member of the frame's JSON object."""
    if isinstance(value, datetime):
        value = rules.iso(value)
    return f'"{name}":{json_text.text_to_json(value) if isinstance(value, str) else json_text.to_json(value)}'


_REQUIRED: Final = tuple(field.name for field in FIELDS if field.default is REQUIRED)
_DEFAULT_MEMBERS: Final[Mapping[str, str]] = {
    field.name: ""
    if field.default is REQUIRED or field.may_be_left_out(field.default)
    else _member(field.name, field.check(field.default, field.name))
    for field in FIELDS
    if field.carries is not None and field.name not in ("id", "to")
}
"""The members of the frame's JSON object after `id` and `to`, as they are unless the publisher gives a value."""


def message_of(stored: bytes | str) -> dict[str, Any] | None:
    """The fields of the message in a stored frame; None where the frame is no message in this form."""
    if isinstance(stored, str):
        stored = stored.encode("utf-8", "surrogatepass")
    if not stored.startswith(_OPENING) or not is_safe_frame(stored):
        return None
    try:
        fields = json_text.parse_json(stored[len(_OPENING) : -2])
    except ValueError:
        return None
    if (
        not isinstance(fields, dict)
        or not isinstance(fields.get("id"), str)
        or not isinstance(fields.get("subject"), str)
    ):
        return None
    return fields
