"""The records of this process' connections: noted as streams open and end, written to the broker (`unwritten`).

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
from collections.abc import Iterable, Sequence
from typing import Final

from notifier import portions
from notifier.broker import Broker
from notifier.broker.values import Opening
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor
from notifier.frames import NOWHERE, place
from notifier.records import Record, RecordIds, Reset, Resumed, text_of
from notifier.stream import Stream
from notifier.unwritten import Unwritten

log = logging.getLogger("notifier.records")

ASKED: Final = "control:records"
"""The channel on which a process is asked for records that the broker does not have yet, by any process. A process
subscribes to it with its first record: of a user whose streams have ended it no longer hears the topic."""


class ConnectionRecords:
    """The records of one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._process = f"{socket.gethostname()[:64]}:{os.getpid()}"
        self._ids = RecordIds()
        self.ttl_s = 86_400
        self._shards = [Unwritten(broker, self._text, lambda: self.ttl_s) for _ in range(broker.shards)]
        self._have_begun = asyncio.Event()
        """Set by the first record."""

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
        self._note(stream.user, record.id, self._text(stream))
        if stream.polls:
            self._unwritten_of(stream.user).join_many(stream.user)

    def forget(self, user: str) -> None:
        """Remove the user's records with the next write. Those of later connections count."""
        self._unwritten_of(user).forget(user)

    def texts(self, user: str, streams: Iterable[Stream]) -> Sequence[str]:
        """The records of the user that no broker has as they are now: those of open streams, and unwritten ones."""
        open_now = [self._text(each) for each in streams if each.record is not None]
        return [*open_now, *self._unwritten_of(user).texts(user)]

    def _unwritten_of(self, user: str) -> Unwritten:
        return self._shards[self._broker.shard_of(user)]

    def _note(self, user: str, record_id: str, value: Stream | str) -> None:
        self._unwritten_of(user).note(user, record_id, value)
        self._have_begun.set()

    def _text(self, stream: Stream) -> str:
        record = stream.record
        assert record is not None
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
        """Write the records until cancelled, those of each shard in a loop of their own. An exception must end the
        process."""
        hearing = (self._hear(topic) for topic in self._broker.topics_of(ASKED))
        await portions.together([*hearing, *(unwritten.run_forever() for unwritten in self._shards)])

    async def _hear(self, topic: str) -> None:
        """Hear other processes that ask for the newest records of a shard's users."""
        await self._have_begun.wait()
        while True:
            try:
                return await self._broker.subscribe([topic])
            except BrokerUnavailable as exc:
                log.debug("other processes do not see the newest records of this one yet: %s", exc)
            await asyncio.sleep(portions.WRITE_EVERY_S)

    async def write(self) -> None:
        """Write what was noted, in portions between which the loop has its turn. What the broker could not store waits
        for the next call."""
        await portions.together(unwritten.write() for unwritten in self._shards)


def _place(stream: Stream) -> Cursor | None:
    """Up to where the stream has its events; None if that is not known."""
    cursor = place(stream.cursor) if stream.opening else Cursor(stream.epoch, stream.seq)
    return None if cursor == NOWHERE else cursor
