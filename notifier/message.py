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

from notifier import rules
from notifier.errors import InvalidInput
from notifier.event import Event, is_safe_frame, new_id

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
    option: str = ""
    """The command line's option for it, without dashes. Empty: none."""
    since: str = FIRST_VERSION
    """The version that introduced the field. A field newer than `FIRST_VERSION` is omitted from payloads and frames
    while it has its default, because services and workers of older versions refuse it or do not know it."""

    def may_be_left_out(self, value: object) -> bool:
        """True if payloads and frames omit this value."""
        return self.since != FIRST_VERSION and value == self.default


def _identity(value: object, field: str) -> str:
    return new_id() if value is None else rules.identifier(value, field)


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


def _subject(value: object, field: str) -> str:
    return rules.text(value, field, max_chars=rules.MAX_TITLE_CHARS, empty=False)


def _moment(value: object, field: str) -> datetime | None:
    return None if value is None else rules.moment(value, field)


def _data(value: object, field: str) -> dict[str, Any]:
    return rules.json_object({} if value is None else value, field)


FIELDS: Final = (
    Field("to", rules.recipients, list[str], str, description="Recipients: `user:<id>`, `group:<name>` or `all`."),
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
    ),
)
"""In the order of the frame."""

BY_NAME: Final[Mapping[str, Field]] = {field.name: field for field in FIELDS}
_IN_FRAME: Final = tuple(field for field in FIELDS if field.carries is not None and field.name not in ("id", "to"))
_OPENING: Final = b"event: message\ndata: "


def message_event(
    fields: Mapping[str, Any],
    *,
    may_repeat: bool = False,
    max_bytes: int = rules.MAX_EVENT_BYTES,
    now: datetime | None = None,
) -> Event:
    """The event of a message: durable, with a place in the inbox and a read mark.

    `fields` are values of `FIELDS` by name, unchecked; those left out have their defaults. `may_repeat`: see `Event`.
    `max_bytes` bounds the encoded data without recipient and id. Raises `InvalidInput` or `PayloadTooLarge`, which
    name the field.
    """
    now = now or datetime.now(UTC)
    for name in fields:
        if name not in BY_NAME:
            raise InvalidInput("is not a field of a message", field=name)
    values = {field.name: field.check(_given(fields, field), field.name) for field in FIELDS}
    values["sent_at"] = rules.iso(values["sent_at"] or now)
    expires = values["expires_at"]
    if expires is not None and expires <= now:
        raise InvalidInput(f"is in the past: {rules.iso(expires)}", field="expires_at")
    carried = {field.name: values[field.name] for field in _IN_FRAME if not field.may_be_left_out(values[field.name])}
    encoded = rules.bounded(rules.to_json(carried), carried, max_bytes)
    return Event(
        to=values["to"],
        head=f'event: message\ndata: {{"id":"{values["id"]}","to":',
        tail=f",{encoded[1:]}\n\n",
        message_id=values["id"],
        may_repeat=may_repeat,
        expires_at_ms=int(expires.timestamp() * 1000) if expires else 0,
    )


def _given(fields: Mapping[str, Any], field: Field) -> Any:
    value = fields.get(field.name, field.default)
    if value is REQUIRED:
        raise InvalidInput("is required", field=field.name)
    return value


def message_of(stored: bytes | str) -> dict[str, Any] | None:
    """The fields of the message in a stored frame; None where the frame is no message in this form."""
    if isinstance(stored, str):
        stored = stored.encode("utf-8", "surrogatepass")
    if not stored.startswith(_OPENING) or not is_safe_frame(stored):
        return None
    try:
        fields = rules.parse_json(stored[len(_OPENING) : -2])
    except ValueError:
        return None
    if (
        not isinstance(fields, dict)
        or not isinstance(fields.get("id"), str)
        or not isinstance(fields.get("subject"), str)
    ):
        return None
    return fields
