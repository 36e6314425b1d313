"""What the embedded broker says afterwards. Records of connections are read from memory; a journal receives each.

Must not know: streams, what a record says, whether and where records are stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Final

from notifier.broker.afterwards import MAX_RECORDS, Afterwards, Join, RecordTexts, Stored, Trail
from notifier.broker.embedded.history import MemoryHistory
from notifier.broker.embedded.journal import Journal
from notifier.broker.embedded.log import Entry
from notifier.broker.embedded.marks import UserMarks
from notifier.event import Cursor

MAX_USERS: Final = 20_000
"""Users with records; those of the users whose streams opened or ended longest ago are removed."""


class MemoryAfterwards(Afterwards):
    """Over the history and the marks of one process."""

    def __init__(
        self,
        history: MemoryHistory,
        marks: Mapping[str, UserMarks],
        journal: Journal,
        newest: Callable[[], Cursor],
    ) -> None:
        self._history = history
        self._marks = marks
        self._journal = journal
        self._newest = newest
        self._records: dict[str, tuple[float, RecordTexts]] = {}
        """The end of their life (s since 1970) and the records of each user; the longest ago first."""

    async def note(
        self, users: Mapping[str, RecordTexts], *, ttl_s: int, join: Join = dict, joinable: Collection[str] = ()
    ) -> Sequence[str]:
        now = time.time()
        for user, texts in users.items():
            ends_s, known = self._records.pop(user, (0.0, {}))
            if known and (not texts or ends_s <= now):
                self._journal.remove_records(user, None)
                known = {}
            if texts:
                kept = {**known, **texts}
                if len(kept) > MAX_RECORDS:
                    kept = dict(sorted(join(kept).items())[-MAX_RECORDS:])
                    self._journal.remove_records(user, [record_id for record_id in known if record_id not in kept])
                changed = {each: text for each, text in kept.items() if each in texts or known.get(each) != text}
                self._journal.put_records(user, changed, now + ttl_s)
                self._records[user] = (now + ttl_s, kept)
        for user in list(islice(self._records, max(0, len(self._records) - MAX_USERS))):
            del self._records[user]
            self._journal.remove_records(user, None)
        return ()

    def restore(self, user: str, record_id: str, ends_s: float, text: str) -> None:
        """Take a stored record."""
        known_s, known = self._records.get(user, (0.0, {}))
        self._records[user] = (max(known_s, ends_s), {**known, record_id: text})

    async def records(self, user: str) -> Sequence[str]:
        ends_s, known = self._records.get(user, (0.0, {}))
        return [known[record_id] for record_id in sorted(known)] if ends_s > time.time() else []

    async def trail(self, user: str, message_id: str, channels: Sequence[str]) -> Trail:
        marks = self._marks.get(user) or UserMarks()
        places = list[Stored]()
        for channel in channels:
            log = self._history.log(channel)
            here = [_stored(channel, user, entry) for entry in log.messages if entry.message_id == message_id]
            left = [each for each in log.left if each.entry.message_id == message_id]
            places += here or [_stored(channel, user, each.entry, each.why, each.at_ms) for each in left]
        is_marked = message_id in marks.read or message_id in marks.hidden
        is_read = is_marked or any(place.seq <= marks.read_up_to for place in places)
        return Trail(self._newest().epoch, places, is_read)


def _stored(channel: str, user: str, entry: Entry, removed: str = "", removed_ms: int = 0) -> Stored:
    return Stored(
        channel=channel,
        seq=entry.seq,
        accepted_ms=entry.accepted_ms,
        publisher=entry.publisher,
        expires_at_ms=entry.expires_at_ms,
        is_excluded=user in entry.excluded,
        corrected_ms=entry.corrected_ms,
        removed=removed,
        removed_ms=removed_ms,
    )
