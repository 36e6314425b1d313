"""A user's inbox, computed from rows that say where messages are: which of them the user can see, a page, and what a
mark changes.

A history of 64 channels has thousands of messages, so the event loop gets its turn every `ROWS_PER_TURN` rows. Must not
know: how brokers store messages and marks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, Protocol, TypeAlias

from notifier.broker.values import MarkAction

Row: TypeAlias = tuple[int, str, int]
"""Seq, message id (empty for an event that is not a message), time of expiry (ms; 0: never)."""
Visible: TypeAlias = tuple[int, str, str, bool]
"""Seq, message id, channel, whether it is read."""

ROWS_PER_TURN: Final = 500


class Marks(Protocol):
    """What a user has read and deleted."""

    @property
    def read_up_to(self) -> int:
        """Messages up to this seq are read."""

    @property
    def read(self) -> Container[str]:
        """Further read messages."""

    @property
    def hidden(self) -> Container[str]:
        """Deleted messages."""


def by_channel(channels: Iterable[tuple[str, Sequence[Row]]], marks: Marks, *, top: int) -> Iterator[Sequence[Visible]]:
    """For each channel, the messages up to the seq `top` that the user can see, each once.

    A message to several channels is in several logs under one id; its first place counts.
    """
    now_ms = time.time() * 1000
    up_to, read, hidden = marks.read_up_to, marks.read, marks.hidden
    known: set[str] = set()
    for channel, rows in channels:
        messages: list[Visible] = []
        for seq, message_id, expires_at_ms in rows:
            if not message_id or message_id in known or seq > top or 0 < expires_at_ms <= now_ms:
                continue
            known.add(message_id)
            if message_id not in hidden:
                messages.append((seq, message_id, channel, seq <= up_to or message_id in read))
        yield messages


@dataclass(slots=True)
class Inbox:
    """The messages that a user can see."""

    parts: list[Sequence[Visible]] = field(default_factory=list)
    """For each channel, oldest first."""
    unread: int = 0


async def inbox_of(channels: Iterable[tuple[str, Sequence[Row]]], marks: Marks, *, top: int) -> Inbox:
    """The messages of `by_channel`, counted. Gives the event loop its turn."""
    inbox = Inbox()
    walked = 0
    for part in by_channel(channels, marks, top=top):
        inbox.parts.append(part)
        inbox.unread += unread_of(part)
        walked += len(part)
        if walked >= ROWS_PER_TURN:
            walked = 0
            await asyncio.sleep(0)
    return inbox


def unread_of(messages: Iterable[Visible]) -> int:
    """How many of them are unread."""
    return sum(not read for _, _, _, read in messages)


def place_of(message_id: str, channels: Iterable[tuple[str, Sequence[Row]]]) -> int:
    """The seq of a message, also of one that the user deleted; 0 if it has left the logs, as all older ones have."""
    return next((seq for _, rows in channels for seq, row_id, _ in rows if row_id == message_id), 0)


def page_of(inbox: Inbox, *, limit: int, before: int | None, unread_only: bool) -> tuple[list[Visible], bool]:
    """The newest messages, before a seq if it is given, and whether there are more."""
    newest: list[Visible] = []
    for part in inbox.parts:
        rows = (row for row in reversed(part) if (before is None or row[0] < before) and not (unread_only and row[3]))
        newest += islice(rows, limit + 1)
    newest.sort(reverse=True)
    return newest[:limit], len(newest) > limit


def changed_by(inbox: Inbox, action: MarkAction, ids: Sequence[str]) -> tuple[list[Visible], int]:
    """The messages that a mark changes, and how many are unread after it."""
    wanted = set(ids)
    messages = chain.from_iterable(inbox.parts)
    if action == "all":
        changed = [row for row in messages if not row[3]]
    else:
        changed = [row for row in messages if row[1] in wanted and (action == "delete" or not row[3])]
    return changed, inbox.unread - unread_of(changed)
