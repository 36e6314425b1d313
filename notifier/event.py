"""Events and frames: what is published, and the bytes it becomes on a stream.

An `Event` that exists is safe to write: its builders check every value (see `rules`). The publisher encodes the frame
here, once; it is not parsed again before the browser.

    frame of an event   event: message\\ndata: {...}\\n\\n          as the broker keeps it
    on the wire         id: <epoch>-<seq>\\n + frame                as a stream sends it

Sources: WHATWG HTML, "Server-sent events". Must not know: asyncio, Redis, HTTP.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from notifier import json_text, rules
from notifier.exclusion import Exclusion

PING: Final = b"event: ping\ndata: {}\n\n"


@dataclass(slots=True)
class Event:
    """One published thing, ready to be stored and sent. Nothing changes it; `frozen` would cost 0.6 µs a publish."""

    to: tuple[str, ...]
    """Channels, from `rules.recipients`."""
    head: str
    """The frame; or, when `tail` is not empty, the frame up to the recipient's name."""
    tail: str = ""
    message_id: str = ""
    """Not empty for a message, which has a place in the inbox and a read mark."""
    durable: bool = True
    """False: announced to open streams only, without id and without history."""
    may_repeat: bool = False
    """The same message may be published again, also to other recipients: streams then drop repeats by its id."""
    expires_at_ms: int = 0
    """After this time (ms since 1970) it is neither replayed nor listed. 0: never."""
    excluded: Exclusion | None = None
    """Who does not get it, although a channel of `to` has them."""
    replace_key: str = ""
    """Of a message: it replaces the earlier message of each channel that has the same key. Empty: none."""
    publisher: str = ""
    """The name of its publisher, stored beside a message; empty if it is not known."""

    @property
    def message_key(self) -> str:
        """What the parts of one message have in common, see `part_key`."""
        return part_key(self.message_id, self.expires_at_ms, self.excluded)

    def frame_for(self, channel: str, replaces: str = "") -> str:
        """The frame for the streams of one channel. `replaces`: the id of the message that it replaces there."""
        if not self.tail:
            return self.head
        replaced = f',"replaces":"{replaces}"' if replaces else ""
        return f"{self.head}{json_text.text_to_json(channel)}{replaced}{self.tail}"


def part_key(message_id: str, expires_at_ms: int, excluded: Exclusion | None) -> str:
    """What the parts of one message have in common: its id; its expiry and its exclusion, since a part that has expired
    or leaves out a user was not sent."""
    key = f"{message_id}@{expires_at_ms}" if expires_at_ms else message_id
    return f"{key}!{excluded.digest}" if excluded is not None and excluded.users else key


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event id that a client has: a place in one epoch's order."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


_CURSOR = re.compile(r"([a-z0-9]{1,32})-([0-9]{1,16})")


def parse_cursor(value: str) -> Cursor | None:
    """A client's cursor, or None if it is malformed: an unknown cursor, not an error."""
    match = _CURSOR.fullmatch(value)
    return Cursor(match.group(1), int(match.group(2))) if match else None


def new_epoch() -> str:
    """A random name for a new order of events."""
    return uuid.uuid4().hex[:12]


def new_id() -> str:
    """An id for a message or a task."""
    return os.urandom(16).hex()  # as random as a UUID, at a fourth of its cost


def id_from_key(key: str) -> str:
    """The id of a message published under an idempotency key: the same for each repeat, on every shard."""
    return uuid.uuid5(uuid.NAMESPACE_OID, key).hex


def frame(event_type: str, data: str) -> str:
    """A frame without id, from a checked name and one line of JSON."""
    return f"event: {event_type}\ndata: {data}\n\n"


def own_frame(event_type: str, data: Mapping[str, Any], cursor: Cursor | None = None) -> bytes:
    """A frame of the service's own events (`hello`, `reset`, `bye`...) as on the wire."""
    line = f"id: {cursor}\n" if cursor else ""
    return (line + frame(event_type, json_text.to_json(data))).encode()


MAX_FRAME_BYTES: Final = 96 * 1024
"""No event of the service is larger: a larger frame was written to Redis by another program."""

_LF, _CR = b"\n\r"  # numbers: a search for one is four times as fast as that for bytes
_STORED_HEAD = re.compile(rb"event: [a-z][a-z0-9._-]{0,63}\ndata: ")


def is_safe_frame(stored: bytes, start: int = 0) -> bool:
    """True if bytes from the broker are, from `start` on, one valid frame. A producer may write to Redis directly.

    An invalid frame could end or forge events on its streams, so it is skipped and counted.
    """
    size = len(stored)
    if size - start > MAX_FRAME_BYTES or (head := _STORED_HEAD.match(stored, start)) is None:
        return False
    # One line of data, then the empty line that ends the frame. (Byte searches are faster than a pattern here.)
    if stored.find(b"\n", head.end()) != size - 2 or stored[-1] != _LF or _CR in stored or 0 in stored:
        return False
    try:
        stored.decode()
    except UnicodeDecodeError:
        return False
    return True


def custom(
    *,
    to: object,
    event_type: object,
    data: object = None,
    durable: bool = True,
    max_bytes: int = rules.MAX_EVENT_BYTES,
    excluded: Exclusion | None = None,
) -> Event:
    """An event of the publisher's own: any name not reserved, any JSON. Raises `InvalidInput` or `PayloadTooLarge`."""
    value = json_text.json_value(data, "data")
    return encoded_custom(
        to=to,
        event_type=event_type,
        encoded=json_text.to_json(value),
        durable=durable,
        max_bytes=max_bytes,
        excluded=excluded,
    )


def encoded_custom(
    *,
    to: object,
    event_type: object,
    encoded: str,
    durable: object = True,
    max_bytes: int = rules.MAX_EVENT_BYTES,
    excluded: Exclusion | None = None,
) -> Event:
    """As `custom`, of data that was checked and encoded as JSON before."""
    channels = rules.recipients(to)
    checked = rules.event_name(event_type)
    json_text.bounded(encoded, {"data": None}, max_bytes)
    return Event(to=channels, head=frame(checked, encoded), durable=rules.flag(durable, "durable"), excluded=excluded)


def inbox_frame(read: Iterable[str], deleted: Iterable[str], unread: int) -> str:
    """The frame for all tabs and devices of a user after a change of the read state."""
    return frame("inbox", json_text.to_json({"read": list(read), "deleted": list(deleted), "unread": unread}))


def task_dismissed(user: str, task_id: str) -> Event:
    """The event for all tabs and devices of a user who dismissed an ended task. Like a task's state it has no id."""
    data = json_text.to_json({"id": task_id})
    return Event(to=(f"user:{user}",), head=frame("task.dismissed", data), durable=False)
