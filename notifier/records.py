"""The record of a connection: when it was open, from which cursor to which, what was replayed.

Must not know: brokers, streams, when records are written.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from notifier.event import Cursor, parse_cursor
from notifier.parsing import to_json

MAX_AGENT_CHARS: Final = 200
MAX_RESETS: Final = 5
"""Resets of one connection in its record: the last."""
MAX_RESUMED: Final = 20
"""Later readings of the history by one connection, in its record: the last."""
MAX_SKIPPED: Final = 20
"""Events that left out one connection, in its record: the last."""
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


def agent_of(header: str) -> str:
    """The header `User-Agent` as it is kept: printable ASCII, at most `MAX_AGENT_CHARS`. Connections share the text."""
    return sys.intern(_UNPRINTABLE.sub(" ", header[: 2 * MAX_AGENT_CHARS]).strip()[:MAX_AGENT_CHARS])


def new_record_id(at_ms: int) -> str:
    """An id whose order is that of the times."""
    return f"{at_ms:012x}{random.getrandbits(48):012x}"


@dataclass(slots=True)
class Reset:
    """A stream was told that its client may have missed something."""

    at_ms: int
    before: int
    """The seq up to which the client had everything; 0 if that is not known."""
    after: int
    """The seq from which the stream went on."""
    reason: str


@dataclass(slots=True)
class Resumed:
    """A stream was behind, and read the history from one seq to another."""

    at_ms: int
    before: int
    after: int


class Record:
    """What is known of one connection so far."""

    __slots__ = (
        "closed_ms",
        "closed_why",
        "id",
        "opened_ms",
        "reached",
        "replayed",
        "resets",
        "resumed",
        "sent",
        "skipped",
        "start",
        "started",
        "top",
    )  # fmt: skip

    def __init__(self, opened_ms: int, start: Cursor | None, started: Cursor) -> None:
        self.id = new_record_id(opened_ms)
        self.opened_ms = opened_ms
        self.start = start
        """The client's cursor; None if it sent none."""
        self.started = started
        """Where the stream went on: there, or after a reset, or the present end without a cursor."""
        self.top: Cursor | None = None
        """The end of the replay; None while more of it follows."""
        self.replayed = 0
        self.resets: Sequence[Reset] = ()
        self.resumed: Sequence[Resumed] = ()
        self.skipped: Sequence[int] = ()
        """The seqs of events that left out this connection."""
        self.sent: Cursor | None = None
        """The last place at which nothing waited to be sent."""
        self.reached: Cursor | None = None
        """Where the stream was when its cursor was dropped: the broker lacks events that came before."""
        self.closed_ms = 0
        self.closed_why = ""

    def note_reset(self, reset: Reset) -> None:
        self.resets = [*self.resets, reset][-MAX_RESETS:]

    def note_resumed(self, resumed: Resumed) -> None:
        self.resumed = [*self.resumed, resumed][-MAX_RESUMED:]

    def note_skipped(self, seq: int) -> None:
        self.skipped = [*self.skipped, seq][-MAX_SKIPPED:]


@dataclass(frozen=True, slots=True)
class Connection:
    """A record as it was read back."""

    id: str
    opened_ms: int
    closed_ms: int
    """0 while it is open, or where its process ended without a word."""
    closed_why: str
    process: str
    address: str
    agent: str
    start: Cursor | None
    started: Cursor
    top: Cursor | None
    to: Cursor | None
    """The last place that is known: now, at the end, or when the record was written."""
    sent: Cursor | None
    unsent_bytes: int
    """What the connection had not accepted at its end."""
    replayed: int
    resets: Sequence[Reset]
    resumed: Sequence[Resumed]
    skipped: Sequence[int]
    channels: tuple[str, ...]
    has_messages: bool
    """False of a form that leaves messages out."""


def text_of(
    record: Record,
    *,
    process: str,
    address: str,
    agent: str,
    to: Cursor | None,
    unsent_bytes: int,
    channels: Sequence[str],
    has_messages: bool,
) -> str:
    """A record as JSON, as brokers store it."""
    resets = [[each.at_ms, each.before, each.after, each.reason] for each in record.resets]
    return to_json(
        {
            "id": record.id,
            "opened": record.opened_ms,
            "closed": record.closed_ms,
            "why": record.closed_why,
            "process": process,
            "address": address,
            "agent": agent,
            "from": _shown(record.start),
            "started": _shown(record.started),
            "top": _shown(record.top),
            "to": _shown(to),
            "sent": _shown(record.sent),
            "unsent": unsent_bytes,
            "replayed": record.replayed,
            "resets": resets,
            "resumed": [[each.at_ms, each.before, each.after] for each in record.resumed],
            "skipped": list(record.skipped),
            "channels": list(channels),
            "messages": has_messages,
        }
    )


def connection_of(text: str) -> Connection | None:
    """A stored record; None if it is not in notifier's form."""
    try:
        fields: Mapping[str, Any] = json.loads(text)
        started = _cursor(fields["started"])
        if started is None:
            return None
        return Connection(
            id=str(fields["id"]),
            opened_ms=int(fields["opened"]),
            closed_ms=int(fields["closed"]),
            closed_why=str(fields["why"]),
            process=str(fields["process"]),
            address=str(fields["address"]),
            agent=str(fields["agent"]),
            start=_cursor(fields["from"]),
            started=started,
            top=_cursor(fields["top"]),
            to=_cursor(fields["to"]),
            sent=_cursor(fields["sent"]),
            unsent_bytes=int(fields["unsent"]),
            replayed=int(fields["replayed"]),
            resets=[Reset(int(at), int(low), int(high), str(why)) for at, low, high, why in fields["resets"]],
            resumed=[Resumed(int(at), int(low), int(high)) for at, low, high in fields.get("resumed", ())],
            skipped=list(map(int, fields.get("skipped", ()))),
            channels=tuple(map(str, fields["channels"])),
            has_messages=bool(fields["messages"]),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def _shown(cursor: Cursor | None) -> str | None:
    return None if cursor is None else str(cursor)


def _cursor(text: str | None) -> Cursor | None:
    return None if text is None else parse_cursor(text)
