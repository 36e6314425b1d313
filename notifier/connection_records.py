"""The records of this process' connections: noted as streams open and end, written to the broker in portions.

Two writes a connection, none a delivery: a stream's position is read when its record is written. A process that is
killed leaves the records of its open streams without an end. A poll ends with its delivery, so its record is written
then, and joined with that of the client's polls before (`polls.py`). Must not know: HTTP, what a record is read for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from notifier import portions
from notifier.broker import Broker
from notifier.broker.afterwards import RecordTexts
from notifier.broker.values import Opening
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor
from notifier.frames import NOWHERE, place
from notifier.polls import joined_texts
from notifier.records import Record, RecordIds, Reset, Resumed, is_of_polls, text_of
from notifier.stream import Stream

log = logging.getLogger("notifier.records")

WRITE_EVERY_S: Final = 1.0
ASKED: Final = "control:records"
"""The channel on which a process is asked for records that the broker does not have yet, by any process. A process
subscribes to it with its first record: of a user whose streams have ended it no longer hears the topic."""
MAX_UNWRITTEN: Final = 50_000
"""Users whose records wait for a broker that is away. Those of further users are not kept."""

PORTION: Final = 200
"""Users whose records are encoded and stored in one turn of the loop: about 2 ms."""

JOINED: Final = 16
"""Unwritten records of one user, of which one is of a poll, are joined whenever their number is a multiple of this."""


class ConnectionRecords:
    """The records of one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._process = f"{socket.gethostname()[:64]}:{os.getpid()}"
        self._ids = RecordIds()
        self._unwritten: OrderedDict[str, dict[str, Stream | str]] = OrderedDict()
        """By user and id: a stream that opened, or the text of a record. Those that could not be stored come first, and
        are written last."""
        self._forgotten: set[str] = set()
        """Users whose stored records are removed with the next write, before it stores those of later connections."""
        self._writing: dict[str, dict[str, Stream | str]] = {}
        """The same while the broker stores them."""
        self._wake = asyncio.Event()
        self.ttl_s = 86_400

    def proceed(self, stream: Stream, opening: Opening) -> None:
        """A stream is about to get this opening."""
        now_ms, before = int(time.time() * 1000), _place(stream)
        record = stream.record
        if record is None:
            started = before if opening.verdict == "ok" and before is not None else opening.cursor
            record = stream.record = Record(self._ids.new(now_ms), now_ms, before, started)
            if not stream.polls:
                self._note(stream.user, record.id, stream)
        if not opening.recovered:
            # Also of another epoch: a Redis that was restarted goes on with its numbers, one that lost its data begins
            # with small ones.
            known = before or record.reached
            low = known.seq if known is not None and known.seq <= opening.cursor.seq else 0
            record.note_reset(Reset(now_ms, low, opening.cursor.seq, opening.verdict))
        elif stream.greeted:
            record.sent = before
            if before is not None:
                record.note_resumed(Resumed(now_ms, before.seq, opening.cursor.seq))
        if record.top is None:
            record.replayed += len(opening.replay)
            if not opening.more:
                record.top = opening.cursor

    def close(self, stream: Stream, why: str) -> None:
        """A stream ends; the first reason counts."""
        record = stream.record
        if record is None or record.closed_ms:
            return
        record.closed_ms, record.closed_why = int(time.time() * 1000), why
        self._note(stream.user, record.id, self._text(stream, record))
        noted = self._unwritten.get(stream.user, {})
        if stream.polls and len(noted) % JOINED == 0:
            texts = {record_id: value for record_id, value in noted.items() if isinstance(value, str)}
            streams = {record_id: value for record_id, value in noted.items() if record_id not in texts}
            noted.clear()
            noted.update({**streams, **joined_texts(texts)})

    def forget(self, user: str) -> None:
        """Remove the user's records with the next write. Those of later connections count."""
        self._unwritten.pop(user, None)
        self._forgotten.add(user)
        self._wake.set()

    def texts(self, user: str, streams: Iterable[Stream]) -> Sequence[str]:
        """The records of the user that no broker has as they are now: those of open streams, and unwritten ones."""
        open_now = [self._text(each, record) for each in streams if (record := each.record) is not None]
        writing = {} if user in self._forgotten else self._writing.get(user, {})
        noted = writing | self._unwritten.get(user, {})
        return [*open_now, *(each for each in noted.values() if isinstance(each, str))]

    def _note(self, user: str, record_id: str, value: Stream | str) -> None:
        if user in self._unwritten or len(self._unwritten) < MAX_UNWRITTEN:
            self._unwritten.setdefault(user, {})[record_id] = value
            self._wake.set()

    def _text(self, stream: Stream, record: Record) -> str:
        return text_of(
            record,
            process=self._process,
            address=stream.address,
            agent=stream.agent,
            to=_place(stream) or record.sent or record.started,
            unsent_bytes=stream.backlog_bytes,
            channels=stream.channels,
            has_messages=stream.form != "turbo",
            polls=stream.polls,
            confirmed=record.start,
        )

    async def run_forever(self) -> None:
        """Write the records until cancelled. An exception must end the process."""
        unheard = list(self._broker.topics_of(ASKED))
        while True:
            await self._wake.wait()
            for topic in [*unheard]:  # one by one: a shard that is away keeps no other from being heard
                try:
                    await self._broker.subscribe([topic])
                    unheard.remove(topic)
                except BrokerUnavailable as exc:
                    log.debug("other processes do not see the newest records of this one yet: %s", exc)
            await self.write()
            await asyncio.sleep(WRITE_EVERY_S)

    async def write(self) -> None:
        """Write what was noted, in portions between which the loop has its turn. What the broker could not store waits
        for the next call."""
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
                texts[record_id] = self._text(value, value.record)
        return texts

    def _put_back(self, failed: Mapping[str, dict[str, Stream | str]], kept: Sequence[str]) -> None:
        if not failed and not kept:
            return
        log.debug("the connection records of %d users wait for the broker", len(failed))
        for user, records in failed.items():
            if user in self._forgotten:  # meanwhile
                continue
            if user in self._unwritten or len(self._unwritten) < MAX_UNWRITTEN:
                self._unwritten[user] = records | self._unwritten.get(user, {})
                self._unwritten.move_to_end(user, last=False)
        self._forgotten.update(kept)
        self._wake.set()

    async def _store(self, texts: Mapping[str, RecordTexts], polled: Sequence[str] = ()) -> Sequence[str]:
        return await self._broker.afterwards.note(texts, ttl_s=self.ttl_s, join=joined_texts, joinable=polled)


def _place(stream: Stream) -> Cursor | None:
    """Up to where the stream has its events; None if that is not known."""
    cursor = place(stream.cursor) if stream.opening else Cursor(stream.epoch, stream.seq)
    return None if cursor == NOWHERE else cursor
