"""The record of a connection: when it was open, from which cursor to which, what was replayed.

Must not know: brokers, streams, when records are written.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from notifier.event import Cursor, parse_cursor
from notifier.parsing import to_json

MAX_AGENT_CHARS: Final = 200
MAX_RESETS: Final = 5
"""Resets of one connection in its record: the last."""
MAX_RESUMED: Final = 20
"""Later readings of the history by one connection, in its record: the last."""
MAX_SKIPPED: Final = 20
"""Events that left out one connection, in its record: the last."""
TABS_OF_POLLS: Final = 18
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


def agent_of(header: str) -> str:
    """The header `User-Agent` as it is kept: printable ASCII, at most `MAX_AGENT_CHARS`. Connections share the text."""
    return sys.intern(_UNPRINTABLE.sub(" ", header[: 2 * MAX_AGENT_CHARS]).strip()[:MAX_AGENT_CHARS])


class RecordIds:
    """Ids of records whose order is that of the times."""

    def __init__(self) -> None:
        self._process = f"{random.getrandbits(32):08x}"
        self._numbers = itertools.count()

    def new(self, at_ms: int) -> str:
        return f"{at_ms:012x}{self._process}{next(self._numbers):08x}"


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

    def __init__(self, record_id: str, opened_ms: int, start: Cursor | None, started: Cursor) -> None:
        self.id = record_id
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
    polls: int = 0
    """The number of polls that it is made of; 0 of a stream."""
    confirmed: Cursor | None = None
    """The cursor that the last of its polls came with: the client has everything up to there."""


def text_of(
    record: Record | Connection,
    *,
    process: str,
    address: str,
    agent: str,
    to: Cursor | None,
    unsent_bytes: int,
    channels: Sequence[str],
    has_messages: bool,
    polls: int = 0,
    confirmed: Cursor | None = None,
) -> str:
    """A record as brokers store it: values with tabs between, which none of them has. A record is written twice a
    connection: this is half as long as JSON, and takes two thirds of the time. That of polls has two values more, and
    an earlier version does not read it."""
    start, started, top, sent, more = record.start, record.started, record.top, record.sent, ""
    if record.resets or record.resumed or record.skipped:
        resets = [[each.at_ms, each.before, each.after, each.reason] for each in record.resets]
        resumed = [[each.at_ms, each.before, each.after] for each in record.resumed]
        more = to_json([resets, resumed, list(record.skipped)])
    heard, address = "\n".join(channels), address.replace("\t", " ")  # of a proxy's header
    of_polls = f"\t{polls}\t{_shown(confirmed)}" if polls else ""
    return (
        f"{record.id}\t{record.opened_ms}\t{record.closed_ms}\t{record.closed_why}\t{process}\t{address}\t{agent}\t"
        f"{_shown(start)}\t{_shown(started)}\t{_shown(top)}\t{_shown(to)}\t{_shown(sent)}\t"
        f"{unsent_bytes}\t{record.replayed}\t{more}\t"
        f"{has_messages:d}\t{heard}{of_polls}"
    )


def stored(connection: Connection) -> str:
    """A record that was read back, as brokers store it."""
    return text_of(
        connection,
        process=connection.process,
        address=connection.address,
        agent=connection.agent,
        to=connection.to,
        unsent_bytes=connection.unsent_bytes,
        channels=connection.channels,
        has_messages=connection.has_messages,
        polls=connection.polls,
        confirmed=connection.confirmed,
    )


def is_of_polls(text: str) -> bool:
    """True of the stored record of polls."""
    return text.count("\t") == TABS_OF_POLLS


def connection_of(text: str) -> Connection | None:
    """A stored record; None if it is not in notifier's form."""
    try:
        record_id, opened, closed, why, process, address, agent, *rest = text.split("\t")
        start, started, top, to, sent, unsent, replayed, more, has_messages, channels, *of_polls = rest
        polls, confirmed = of_polls or ("0", "")
        began = parse_cursor(started)
        if began is None:
            return None
        resets, resumed, skipped = json.loads(more) if more else ((), (), ())
        return Connection(
            id=record_id,
            opened_ms=int(opened),
            closed_ms=int(closed),
            closed_why=why,
            process=process,
            address=address,
            agent=agent,
            start=parse_cursor(start),
            started=began,
            top=parse_cursor(top),
            to=parse_cursor(to),
            sent=parse_cursor(sent),
            unsent_bytes=int(unsent),
            replayed=int(replayed),
            resets=[Reset(int(at), int(low), int(high), str(reason)) for at, low, high, reason in resets],
            resumed=[Resumed(int(at), int(low), int(high)) for at, low, high in resumed],
            skipped=list(map(int, skipped)),
            channels=tuple(channels.split("\n")),
            has_messages=has_messages == "1",
            polls=int(polls),
            confirmed=parse_cursor(confirmed),
        )
    except (ValueError, TypeError):
        return None


def _shown(cursor: Cursor | None) -> str:
    return "" if cursor is None else f"{cursor.epoch}-{cursor.seq}"
