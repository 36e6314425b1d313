"""The records of connections that the broker does not have yet, of the users of one shard.

They are written in portions, by a loop for each shard: a shard that hangs delays no other. Must not know: HTTP, what a
record says, when a connection has one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from notifier import portions
from notifier.broker import Broker
from notifier.broker.afterwards import RecordTexts
from notifier.polls import joined_texts
from notifier.records import is_of_polls
from notifier.stream import Stream

log = logging.getLogger("notifier.records")

MAX_UNWRITTEN: Final = 50_000
"""Users whose records wait for a broker that is away, in equal parts of its shards. Those of further users are not
kept."""

PORTION: Final = 200
"""Users whose records are encoded and stored in one turn of the loop: about 2 ms."""

JOINED: Final = 16
"""Unwritten records of one user, of which one is of a poll, are joined whenever their number is a multiple of this."""


class Unwritten:
    """The records of one shard."""

    def __init__(self, broker: Broker, text: Callable[[Stream], str], ttl_s: Callable[[], int]) -> None:
        """`text` is the record of a stream as it is now."""
        self._broker = broker
        self._text = text
        self._ttl_s = ttl_s
        self._unwritten: OrderedDict[str, dict[str, Stream | str]] = OrderedDict()
        """By user and id: a stream that opened, or the text of a record. Those that could not be stored come first, and
        are written last."""
        self._forgotten: set[str] = set()
        """Users whose stored records are removed with the next write, before it stores those of later connections."""
        self._writing: dict[str, dict[str, Stream | str]] = {}
        """The same while the broker stores them."""
        self._wake = asyncio.Event()

    @property
    def _has_room(self) -> bool:
        return len(self._unwritten) < MAX_UNWRITTEN // self._broker.shards

    def note(self, user: str, record_id: str, value: Stream | str) -> None:
        """A record of the user, in place of an earlier one with its id."""
        if user in self._unwritten or self._has_room:
            self._unwritten.setdefault(user, {})[record_id] = value
            self._wake.set()

    def join_many(self, user: str) -> None:
        """Join the user's records if they are many: one of a poll was noted."""
        noted = self._unwritten.get(user, {})
        if len(noted) % JOINED == 0:
            texts = {record_id: value for record_id, value in noted.items() if isinstance(value, str)}
            streams = {record_id: value for record_id, value in noted.items() if record_id not in texts}
            noted.clear()
            noted.update({**streams, **joined_texts(texts)})

    def forget(self, user: str) -> None:
        """Remove the user's records with the next write. Those that are noted later count."""
        self._unwritten.pop(user, None)
        self._forgotten.add(user)
        self._wake.set()

    def texts(self, user: str) -> Sequence[str]:
        """The user's records, without those of open streams."""
        writing = {} if user in self._forgotten else self._writing.get(user, {})
        noted = writing | self._unwritten.get(user, {})
        return [each for each in noted.values() if isinstance(each, str)]

    async def run_forever(self) -> None:
        """Write the records until cancelled. An exception must end the process."""
        await portions.write_forever(self._wake, self.write)

    async def write(self) -> None:
        """See `ConnectionRecords.write`."""
        self._wake.clear()
        await portions.write(self._unwritten, PORTION, self._write_portion)

    async def _write_portion(self, users: Sequence[str]) -> bool:
        """Write the records of these users. False if nothing can be stored at present."""
        due = {user: self._unwritten.pop(user) for user in users if user in self._unwritten}
        forgotten, self._forgotten = self._forgotten, set()
        self._writing = due
        texts: dict[str, RecordTexts] = {user: self._texts_of(records) for user, records in due.items()}
        kept: Sequence[str] = list(forgotten)  # also if the write is cancelled
        failed = list(due)
        try:
            kept = await self._store({user: {} for user in forgotten}) if forgotten else ()
            too_early = [user for user in kept if texts.pop(user, None)]  # not before the removal
            polled = [user for user, stored in texts.items() if any(map(is_of_polls, stored.values()))]
            texts |= {user: joined_texts(texts[user]) for user in polled}
            self._writing = {**due, **{user: dict(texts[user]) for user in polled}}  # as they will be read
            failed = [*too_early, *await self._store(texts, polled)]
        finally:
            self._writing = {}
            self._put_back({user: due[user] for user in failed}, kept)
        return not (failed or kept) or (len(failed) < len(due) and self._broker.ready)

    def _texts_of(self, records: Mapping[str, Stream | str]) -> RecordTexts:
        texts = {}
        for record_id, value in records.items():
            if isinstance(value, str):
                texts[record_id] = value
            elif value.record is not None:
                texts[record_id] = self._text(value)
        return texts

    def _put_back(self, failed: Mapping[str, dict[str, Stream | str]], kept: Sequence[str]) -> None:
        if not failed and not kept:
            return
        log.debug("the connection records of %d users wait for the broker", len(failed))
        for user, records in failed.items():
            if user in self._forgotten:  # meanwhile
                continue
            if user in self._unwritten or self._has_room:
                self._unwritten[user] = records | self._unwritten.get(user, {})
                self._unwritten.move_to_end(user, last=False)
        self._forgotten.update(kept)
        self._wake.set()

    async def _store(self, texts: Mapping[str, RecordTexts], polled: Sequence[str] = ()) -> Sequence[str]:
        return await self._broker.afterwards.note(texts, ttl_s=self._ttl_s(), join=joined_texts, joinable=polled)
