"""The inboxes of the embedded broker: pages of messages, the number of unread ones, marks.

Must not know: streams, tasks, how changes are announced or stored.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from notifier.broker.embedded.history import MemoryHistory
from notifier.broker.embedded.journal import Journal
from notifier.broker.embedded.marks import UserMarks
from notifier.broker.inbox import Row, Visible, by_channel, changed_by, inbox_of, page_of, place_of, unread_of
from notifier.broker.values import MarkAction, Marked, Page
from notifier.event import Cursor
from notifier.message import message_of
from notifier.rules import is_topic


class MemoryInbox:
    """The inboxes of all users, over the histories and marks of one process."""

    def __init__(self, history: MemoryHistory, marks: dict[str, UserMarks], journal: Journal) -> None:
        self._history = history
        self._marks = marks
        self._journal = journal

    def _rows(self, user: str, channels: Sequence[str]) -> Iterator[tuple[str, Sequence[Row]]]:
        for channel in channels:
            entries = self._history.log(channel).messages
            rows = [(each.seq, each.message_id, each.expires_at_ms) for each in entries if user not in each.excluded]
            yield channel, rows

    def _newer(self, user: str, channels: Sequence[str], seq: int) -> Iterator[tuple[str, Sequence[Row]]]:
        for channel, rows in self._rows(user, channels):
            yield channel, rows[bisect_right(rows, seq, key=lambda row: row[0]) :]

    def count_unread(self, user: str, channels: Sequence[str], top: int) -> int:
        """How many messages up to a seq are unread, at once; topics are in no inbox."""
        channels = [channel for channel in channels if not is_topic(channel)]
        marks = self._marks.get(user) or UserMarks()
        return sum(unread_of(part) for part in by_channel(self._rows(user, channels), marks, top=top))

    async def unread(self, user: str, channels: Sequence[str], top: int) -> int:
        """See `Broker.unread`."""
        marks = self._marks.get(user) or UserMarks()
        return (await inbox_of(self._rows(user, channels), marks, top=top)).unread

    async def page(
        self, user: str, channels: Sequence[str], cursor: Cursor, *, limit: int, before: str | None, unread_only: bool
    ) -> Page:
        """See `Broker.inbox`."""
        marks = self._marks.get(user) or UserMarks()
        inbox = await inbox_of(self._rows(user, channels), marks, top=cursor.seq)
        place = None if before is None else place_of(before, self._rows(user, channels))
        rows, more = page_of(inbox, limit=limit, before=place, unread_only=unread_only)
        frames = [self._frame(row) for row in rows]
        contents = [
            {**message, "read": row[3]}
            for row, frame in zip(rows, frames, strict=True)
            if (message := message_of(frame)) is not None
        ]
        return Page(contents, more, inbox.unread, cursor)

    def _frame(self, row: Visible) -> bytes:
        """The stored frame of a message; empty if it has left its log meanwhile."""
        messages = self._history.log(row[2]).messages
        at = bisect_left(messages, row[0], key=lambda entry: entry.seq)
        return messages[at].frame.encode() if at < len(messages) and messages[at].seq == row[0] else b""

    async def changes(
        self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str], top: int
    ) -> Marked | None:
        """Mark the messages up to a seq. None if another call has changed the marks meanwhile. The number of unread
        messages lacks those after the seq, see `count_newer`."""
        before = self._marks.get(user)
        marks = before or UserMarks()
        version = marks.version
        inbox = await inbox_of(self._rows(user, channels), marks, top=top)
        # Another call may have changed the marks during the pauses. From here on there are none.
        if self._marks.get(user) is not before or marks.version != version:
            return None
        self._marks[user] = marks
        changed, unread = changed_by(inbox, action, ids)
        changed_ids = [row[1] for row in changed]
        self._journal.mark(user, action, changed_ids, top, marks.add(action, changed_ids, top))
        return Marked(changed_ids, unread)

    def count_newer(self, user: str, channels: Sequence[str], after: int, top: int) -> int:
        """How many messages after a seq are unread."""
        newer = by_channel(self._newer(user, channels, after), self._marks[user], top=top)
        return sum(unread_of(part) for part in newer)
