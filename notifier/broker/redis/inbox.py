"""The inbox of the broker on Redis: pages of messages, the number of unread ones, marks.

No call keeps Redis busy for more than about a millisecond, however long the histories: where the messages are is read
in portions and kept (`message_rows`), and frames are read for one page only. Must not know: HTTP, streams, tasks.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from notifier import event as events
from notifier.broker.inbox import Row, Visible, changed_by, inbox_of, page_of, place_of
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.message_calls import PORTION_BYTES, PORTION_ENTRIES
from notifier.broker.redis.message_rows import LogRows, MessageRows
from notifier.broker.redis.scripts import Call, reading, script
from notifier.broker.redis.shards import Shards
from notifier.broker.values import MAX_FRAME_MARKS, MAX_MARKS, MarkAction, Marked, Page
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor
from notifier.message import message_of

PAGE_SLICE: Final = 25
"""Frames of a page that are read at once."""
MAX_RETRIES: Final = 20
"""Attempts of one call against concurrent changes of the same user's marks."""
SAFE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""An id in another form was not written by notifier, and would break an announcement."""


@dataclass(frozen=True, slots=True)
class _Marks:
    read_up_to: int
    read: frozenset[str]
    hidden: frozenset[str]
    version: int
    """Another number after each change."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Where a user's messages are, and the user's marks, at one moment."""

    user: str
    shard: int
    epoch: str
    top: int
    marks: _Marks
    logs: Mapping[str, LogRows]
    """By channel."""

    def rows(self) -> Iterator[tuple[str, Sequence[Row]]]:
        return ((channel, log.rows_of(self.user)) for channel, log in self.logs.items())


class RedisInbox:
    """The inboxes of all users."""

    def __init__(self, shards: Shards, keys: Keys, *, history_ttl_s: int) -> None:
        self._shards = shards
        self._keys = keys
        self._marks_ttl_s = history_ttl_s * 10
        self._epochs: dict[int, str] = {}
        """The newest known epoch of each shard."""
        self._rows = MessageRows()

    async def page(
        self, user: str, channels: Sequence[str], *, limit: int, before: str | None, unread_only: bool
    ) -> Page:
        """See `Broker.inbox`."""
        look = await self._look(user, channels)
        inbox = await inbox_of(look.rows(), look.marks, top=look.top)
        place = None if before is None else place_of(before, look.rows())
        rows, more = page_of(inbox, limit=limit, before=place, unread_only=unread_only)
        frames = [frame for start in range(0, len(rows), PAGE_SLICE) for frame in await self._read(look, rows, start)]
        contents = [
            {**message, "read": row[3]}
            for row, frame in zip(rows, frames, strict=True)
            if frame is not None and (message := message_of(frame)) is not None
        ]
        return Page(contents, more, inbox.unread, Cursor(look.epoch, look.top))

    async def unread(self, user: str, channels: Sequence[str]) -> int:
        """See `Broker.unread`."""
        look = await self._look(user, channels)
        return (await inbox_of(look.rows(), look.marks, top=look.top)).unread

    async def unread_at(self, cursor: Cursor, user: str, channels: Sequence[str]) -> int:
        """How many of a user's messages up to a cursor are unread, by the marks of now."""
        look = await self._look(user, channels)
        top = cursor.seq if cursor.epoch == look.epoch else look.top
        return (await inbox_of(look.rows(), look.marks, top=top)).unread

    async def mark(self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str]) -> Marked:
        """See `Broker.mark`."""
        for _ in range(MAX_RETRIES):
            confirmed = self._shards.confirmation(self._keys.shard_of_name(user))
            look = await self._look(user, channels)
            inbox = await inbox_of(look.rows(), look.marks, top=look.top)
            changed, unread = changed_by(inbox, action, ids)
            changed = [row for row in changed if SAFE_ID.fullmatch(row[1])]
            if changed or action == "all":
                answer = await self._shards.run(self._mark_call(user, look, action, changed, unread))
                with reading("mark"):
                    unread = int(answer)
            else:
                await confirmed()  # an earlier call may have stored the marks
            if unread >= 0:
                return Marked([message_id for _, message_id, _, _ in changed], unread)
        raise BrokerUnavailable("too many concurrent changes of this user's marks")

    def _mark_call(self, user: str, look: _Look, action: MarkAction, changed: Sequence[Visible], unread: int) -> Call:
        starts = range(0, len(changed), MAX_FRAME_MARKS)
        announcements = [
            ",".join(f'"{row[1]}"' for row in changed[start : start + MAX_FRAME_MARKS]) for start in starts
        ]
        marked = [] if action == "all" else changed
        args: list[str | bytes | int] = [
            action,
            int(time.time() * 1000),
            self._marks_ttl_s,
            MAX_MARKS,
            self._keys.publish_command,
            self._keys.announcements(look.shard, f"user:{user}"),
            look.epoch,
            look.top,
            len(look.marks.read),
            len(look.marks.hidden),
            look.marks.read_up_to,
            look.marks.version,
            unread,
            len(announcements),
            f"\n{user}\n",
            *announcements,
            *(value for row in marked for value in row[:2]),
        ]
        names = [self._keys.epoch(look.shard), self._keys.read(look.shard, user), self._keys.hidden(look.shard, user)]
        return Call(script("mark"), look.shard, [*names, *(log.name for log in look.logs.values())], args)

    async def _look(self, user: str, channels: Sequence[str]) -> _Look:
        shard = self._keys.shard_of_name(user)
        for _ in range(MAX_RETRIES):
            epoch = self._epochs.get(shard, "")
            logs = {channel: self._rows.of(epoch, self._keys.log(shard, channel)) for channel in channels}
            try:
                look = await self._look_in(epoch, shard, user, logs)
            finally:
                self._rows.recount(epoch, logs.values())
            if look is not None:
                return look
        raise BrokerUnavailable("a new epoch began again and again")

    async def _look_in(self, epoch: str, shard: int, user: str, logs: dict[str, LogRows]) -> _Look | None:
        """Reads on in the logs. None if this is no longer the epoch."""
        names = [self._keys.epoch(shard), self._keys.seq(shard)]
        names += (self._keys.read(shard, user), self._keys.hidden(shard, user))
        due, again = list(logs), set[str]()
        first: Sequence[Any] = ()
        while due or not first:
            args: list[str | bytes | int] = [events.new_epoch(), int(not first), PORTION_ENTRIES, PORTION_BYTES]
            args += (logs[channel].reached for channel in due)
            call = Call(
                script("messages"),
                shard,
                [*names, *(name for channel in due for name in (logs[channel].name, self._keys.meta(shard, channel)))],
                args,
            )
            answer = await self._shards.run(call)
            with reading("messages"):
                now, top, up_to, read, hidden, version, *parts = answer
                if now.decode() != epoch:
                    self._epochs[shard] = now.decode()
                    return None
                first = first or (int(top), int(up_to), _ids(read), _ids(hidden), int(version))
                for channel, (length, reached, gone, *flat) in zip(tuple(due), parts, strict=False):
                    log = logs[channel]
                    is_same = log.add(reached, gone, flat)
                    if reached < top:
                        continue
                    due.remove(channel)
                    if not (log.trim(length) and is_same) and channel not in again:
                        again.add(channel)
                        logs[channel] = self._rows.renewed(epoch, log.name)
                        due.append(channel)
        top, *marks = first
        return _Look(user, shard, epoch, top, _Marks(*marks), logs)

    async def _read(self, look: _Look, rows: Sequence[Visible], start: int) -> list[bytes | None]:
        """The stored frames of some rows; None for one that has been trimmed."""
        part = rows[start : start + PAGE_SLICE]
        calls = (self._shards.call(look.shard, "XRANGE", look.logs[row[2]].name, row[0], row[0]) for row in part)
        answers = await asyncio.gather(*calls)
        with reading("XRANGE"):
            return [_frame(entries, row[1].encode()) for entries, row in zip(answers, part, strict=True)]


def _ids(raw: Sequence[bytes]) -> frozenset[str]:
    return frozenset(message_id.decode("utf-8", "replace") for message_id in raw)


def _frame(entries: Sequence[Any], message_id: bytes) -> bytes | None:
    for _, fields in entries:
        entry = dict(zip(fields[::2], fields[1::2], strict=True))
        if entry.get(b"m") == message_id:
            frame: bytes | None = entry.get(b"f")
            return frame
    return None
