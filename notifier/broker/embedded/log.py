"""One channel's events: the values of which a history consists.

Must not know: bounds, time, who reads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

import msgspec

from notifier.event import Event

NO_USERS: Final[frozenset[str]] = frozenset()
"""One for all entries: Python makes a new one, of 200 bytes, at each call."""


class Entry(msgspec.Struct, gc=False):
    """A stored event. There may be millions: the garbage collector does not look at them, since they form no cycle."""

    seq: int
    frame: str
    message_id: str
    expires_at_ms: int
    key: str
    """Repeat key, if the same event may be published again."""
    excluded: frozenset[str] = NO_USERS
    """Users that do not get it."""
    replace_key: str = ""
    """Of a message: a later one with the same key takes its place. Empty: none."""
    accepted_ms: int = 0
    """When it was accepted, in ms of Unix time."""
    publisher: str = ""
    """The name of its publisher; empty if it is not known."""
    corrected_ms: Sequence[int] = ()
    """When it was corrected, the last ten times."""


def entry_of(event: Event, seq: int, frame: str, key: str) -> Entry:
    """The entry of an event in one channel's log."""
    users = event.excluded.users if event.excluded is not None else NO_USERS
    accepted_ms = time.time_ns() // 1_000_000
    return Entry(
        seq, frame, event.message_id, event.expires_at_ms, key, users, event.replace_key, accepted_ms, event.publisher
    )


@dataclass(frozen=True, slots=True)
class Left:
    """A message that was retracted or replaced, without its frame. In memory only: a restart forgets it."""

    entry: Entry
    why: str
    at_ms: int


@dataclass(slots=True)
class Log:
    """The events of one channel, in one order; messages and other events are bounded apart."""

    messages: deque[Entry] = field(default_factory=deque)
    events: deque[Entry] = field(default_factory=deque)
    last: int = 0
    """Newest seq of the channel."""
    low: int = 0
    """Newest seq that is no longer in the log."""
    appended_s: float = 0
    """Time of the last event, in seconds since 1970."""
    left: Sequence[Left] = ()
    """The last messages that were removed."""
    marker: int = 0
    """The seq of a stored entry without an event, which says where the log ends; 0: there is none."""

    def after(self, seq: int) -> Iterator[Entry]:
        """The messages and events after a seq, each newest first."""
        for entries in (self.messages, self.events):
            yield from takewhile(lambda entry: entry.seq > seq, reversed(entries))


def portion(missed: Sequence[Entry], most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The first events that fit into `most_bytes`, at least one; all if it is 0."""
    size = 0
    for entry in missed:
        frame = entry.frame.encode()
        size += len(frame)
        if 0 < most_bytes < size and size > len(frame):
            return
        yield entry.seq, frame
