"""The rules for values, in one place: names, channels, texts, links, times.

Used by the HTTP API, by the Django bridge and again before delivery. Every check returns the value in the form that the
rest of the program uses, or raises `InvalidInput` with the field's path, the broken rule and the value.

Must not know: asyncio, Redis, HTTP.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from notifier.errors import InvalidInput

MAX_NAME_CHARS: Final = 128
MAX_ID_CHARS: Final = 64
MAX_TITLE_CHARS: Final = 255
"""Of a message's subject, a task's name, a sender's name."""
MAX_STATE_CHARS: Final = 2000
"""Of a task's state text and error text."""
MAX_ACTIONS: Final = 3
"""Buttons of a message."""
MAX_ACTION_CHARS: Final = 40
"""Of a button's text."""
MAX_URL_CHARS: Final = 2048
MAX_EXCLUDED: Final = 50
"""Users that one publish leaves out."""
MAX_EVENT_BYTES: Final = 16 * 1024
"""Default bound of one event's encoded data."""
MAX_BODY_BYTES: Final = 64 * 1024
MAX_BATCH_BYTES: Final = 1024 * 1024
"""The largest body that any call takes: a batch."""
MAX_WHOLE: Final = 2**53 - 1
"""The largest whole number that JavaScript represents exactly."""
MAX_SHOWN_CHARS: Final = 60
"""Of a value in an error message."""

LEVELS: Final = ("debug", "info", "success", "warning", "error")

ICONS: Final = (
    "bell", "calendar", "cart", "chat", "document", "download", "gift", "heart", "lock", "mail", "person", "star",
)  # fmt: skip
"""The pictures that the browser client draws by name (client/icons.js)."""

RESERVED_EVENTS: Final = frozenset(
    (
        *("hello", "message", "inbox", "task", "task.dismissed", "reset", "degraded", "ping", "bye"),
        "task.output",
        *("topics", "presence", "stale"),  # of the next version
        *("open", "error"),  # dispatched by `EventSource` itself
    )
)
"""Names that no publisher's event can have."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNENCODABLE = re.compile(r"[\x00\ud800-\udfff]")
_EVENT_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_ID_CHARS}}}")
_STATE = re.compile(r"[a-z0-9_-]{1,32}")
_ICON_NAME = re.compile(r"[\w-]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def shown(value: object) -> str:
    """A value for an error message, as JSON spells it: at most 60 printable ASCII characters."""
    text = _spelled(value)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def _spelled(value: object) -> str:
    if value is None or isinstance(value, bool | Mapping | list | tuple):
        with contextlib.suppress(ValueError, TypeError, RecursionError):  # not JSON: a value of the bridge's caller
            return json.dumps(dict(value) if isinstance(value, Mapping) else value)
    return ascii(value)


def name(value: object, field: str) -> str:
    """A user id or a group name: 1-128 characters, no control characters; compared exactly."""
    if not isinstance(value, str):
        raise InvalidInput(f"must be a string, not {shown(value)}", field=field)
    if not 1 <= len(value) <= MAX_NAME_CHARS:
        raise InvalidInput(f"must have 1 to {MAX_NAME_CHARS} characters, not {len(value)}", field=field)
    if match := _CONTROL.search(value):
        raise InvalidInput(f"contains the character {shown(match.group())}, which is not allowed", field=field)
    return value


def is_topic(channel: str) -> bool:
    """True for the channel of a topic: what a page shows."""
    return channel.startswith("topic:")


def channel(value: object, field: str = "to") -> str:
    """`user:<id>`, `group:<name>`, `topic:<name>` or `all`."""
    if not isinstance(value, str):
        raise InvalidInput(f"must be a string, not {shown(value)}", field=field)
    if value == "all":
        return value
    kind, colon, rest = value.partition(":")
    if not colon or kind not in ("user", "group", "topic"):
        raise InvalidInput(
            f"no such channel: {shown(value)}; a channel is 'user:<id>', 'group:<name>', 'topic:<name>' or 'all'",
            field=field,
        )
    name(rest, field)
    return value


def recipients(values: object, field: str = "to") -> tuple[str, ...]:
    """Channels to publish to: at least one, without repeats; topics first, then `all` and groups, then users.

    The order matters to a publish that is split into chunks: channels that one stream may hear together stay together.
    """
    if type(values) is not list and (isinstance(values, str | Mapping) or not isinstance(values, Iterable)):
        raise InvalidInput(f"must be a list of channels, not {shown(values)}", field=field)
    values = values if type(values) is list else list(values)
    try:
        channels = dict.fromkeys([channel(value) for value in values])
    except InvalidInput:
        for i, value in enumerate(values):
            channel(value, f"{field}[{i}]")  # raises again, and names the place
        raise
    if not channels:
        raise InvalidInput("must name at least one recipient", field=field)
    if len(channels) == 1:
        return tuple(channels)
    return tuple(sorted(channels, key=lambda name: 0 if is_topic(name) else 1 + name.startswith("user:")))


def excluded(values: object, field: str = "except") -> frozenset[str]:
    """The ids of the users that a publish leaves out, given as channels `user:<id>`: at most 50."""
    if values is None:
        return frozenset()
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise InvalidInput(f"must be a list of users, not {shown(values)}", field=field)
    users = set()
    for i, value in enumerate(values):
        if not channel(value, f"{field}[{i}]").startswith("user:"):
            raise InvalidInput(f"must be 'user:<id>', not {shown(value)}", field=f"{field}[{i}]")
        users.add(str(value).removeprefix("user:"))
    if len(users) > MAX_EXCLUDED:
        raise InvalidInput(f"must name at most {MAX_EXCLUDED} users, not {len(users)}", field=field)
    return frozenset(users)


def event_name(value: object, field: str = "type") -> str:
    """A name for an event of the publisher's own: `[a-z][a-z0-9._-]{0,63}`, not a reserved name."""
    if not isinstance(value, str) or not _EVENT_NAME.fullmatch(value):
        raise InvalidInput(f"must match [a-z][a-z0-9._-]{{0,63}}, and {shown(value)} does not", field=field)
    if value in RESERVED_EVENTS:
        raise InvalidInput(f"{value!r} is a reserved event name", field=field)
    return value


def state(value: object, field: str) -> str:
    """What a user does on a topic: 1-32 of `a-z 0-9 _ -`."""
    if not isinstance(value, str) or not _STATE.fullmatch(value):
        raise InvalidInput(f"must be 1 to 32 of a-z 0-9 _ - and {shown(value)} is not", field=field)
    return value


def identifier(value: object, field: str = "id") -> str:
    """An id of a message or a task: 1-64 of `A-Z a-z 0-9 . _ -`."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidInput(f"must be 1 to {MAX_ID_CHARS} of A-Z a-z 0-9 . _ - and {shown(value)} is not", field=field)
    return value


def text(value: object, field: str, *, max_chars: int | None = None, empty: bool = True) -> str:
    """Text that can be written as UTF-8: no lone surrogates, no NUL."""
    if not isinstance(value, str):
        raise InvalidInput(f"must be a string, not {shown(value)}", field=field)
    if not empty and not value.strip():
        raise InvalidInput("must not be empty", field=field)
    if max_chars is not None and len(value) > max_chars:
        raise InvalidInput(f"must have at most {max_chars} characters, not {len(value)}", field=field)
    if match := _UNENCODABLE.search(value):
        raise InvalidInput(f"contains the character {shown(match.group())}, which is not allowed", field=field)
    return value


def flag(value: object, field: str) -> bool:
    """True or false, and nothing that counts as one of them."""
    if not isinstance(value, bool):
        raise InvalidInput(f"must be true or false, not {shown(value)}", field=field)
    return value


def whole(value: object, field: str) -> int:
    """A whole number from 0 to 2^53-1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(f"must be a whole number, not {shown(value)}", field=field)
    if not 0 <= value <= MAX_WHOLE:
        raise InvalidInput(f"must be from 0 to {MAX_WHOLE}, not {shown(value)}", field=field)
    return value


def level(value: object, field: str = "level") -> str:
    """A message's level: one of `LEVELS`."""
    if value not in LEVELS:
        raise InvalidInput(f"must be one of {', '.join(LEVELS)}, not {shown(value)}", field=field)
    return str(value)


def url(value: object, field: str = "url") -> str | None:
    """A link: http, https or relative. Every other scheme (`javascript:`, `data:`...) is refused."""
    if value is None:
        return None
    link = text(value, field, max_chars=MAX_URL_CHARS, empty=False)
    if _CONTROL.search(link) or link != link.strip():
        raise InvalidInput("must have no control characters, and no space at either end", field=field)
    scheme = _SCHEME.match(link)
    if scheme and scheme.group(1).lower() not in ("http", "https"):
        raise InvalidInput(f"must be http, https or relative, not {shown(scheme.group(1))}", field=field)
    return link


def icon(value: object, field: str = "icon") -> str | None:
    """A picture: one of `ICONS`, or the URL of one under the rules of `url`. A lone word is taken for a name."""
    if value is None or value in ICONS:
        return None if value is None else str(value)
    if isinstance(value, str) and _ICON_NAME.fullmatch(value):
        raise InvalidInput(f"must be a URL or one of {', '.join(ICONS)}, not {shown(value)}", field=field)
    return url(value, field)


def actions(value: object, field: str = "actions") -> list[dict[str, str]] | None:
    """The buttons of a message: at most `MAX_ACTIONS` objects with `text`, `url` and `method`, which is GET (a link,
    the default) or POST (a call to the page's own site: its URL is a path). None without any."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) > MAX_ACTIONS:
        raise InvalidInput(f"must be a list of at most {MAX_ACTIONS} actions, not {shown(value)}", field=field)
    return [_action(each, f"{field}[{i}]") for i, each in enumerate(value)] or None


def _action(value: object, field: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"must be an object with 'text' and 'url', not {shown(value)}", field=field)
    for key in value:
        if key not in ("text", "url", "method"):
            raise InvalidInput("is not a field of an action", field=f"{field}.{key}")
    label = text(value.get("text"), f"{field}.text", max_chars=MAX_ACTION_CHARS, empty=False)
    target, method = url(value.get("url"), f"{field}.url"), value.get("method", "GET")
    if target is None:
        raise InvalidInput("is required", field=f"{field}.url")
    if method not in ("GET", "POST"):
        raise InvalidInput(f"must be GET or POST, not {shown(method)}", field=f"{field}.method")
    # A browser reads a backslash as a slash (WHATWG URL): two of them begin a host.
    if method == "POST" and (not target.startswith("/") or target[1:2] in ("/", "\\")):
        raise InvalidInput(f"must be a path of the site that begins with /, not {shown(target)}", field=f"{field}.url")
    return {"text": label, "url": target, "method": str(method)}


def moment(value: object, field: str) -> datetime:
    """A point in time, in UTC. Accepts an aware datetime, or ISO 8601 text with an offset."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInput(f"must be an ISO 8601 time, not {shown(value)}", field=field) from None
    if not isinstance(value, datetime):
        raise InvalidInput(f"must be an ISO 8601 time, not {shown(value)}", field=field)
    if value.tzinfo is None:
        raise InvalidInput(f"must have an offset from UTC, and {shown(value.isoformat())} has none", field=field)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"is out of range: {shown(value.isoformat())}", field=field) from None


def iso(when: datetime) -> str:
    """A UTC time as on the wire: `2026-01-31T12:00:00Z`, with milliseconds unless they are 0."""
    utc = when if when.tzinfo is UTC else when.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds" if utc.microsecond >= 1000 else "seconds")[: -len("+00:00")] + "Z"


def iso_ms(when_ms: int | None) -> str | None:
    """Milliseconds since 1970 as a time on the wire."""
    return None if when_ms is None else iso(datetime.fromtimestamp(when_ms / 1000, UTC))
