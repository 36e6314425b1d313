"""Opens streams: reads what each starts from, with a bounded number of concurrent calls, and retries.

A replay is read in portions, and a stream is opened again only once its reader has accepted what was written before: of
any replay, a stream holds one portion in this process. An attempt is numbered, and only the newest attempt of a stream
counts: `Stream.opening` holds its number.

Must not know: topics' streams, what is written to a stream.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Final

from notifier.broker import Broker
from notifier.broker.values import Opening
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor
from notifier.frames import OPENING
from notifier.stream import Stream

log = logging.getLogger("notifier.opener")

MAX_PORTION_BYTES: Final = 128 * 1024
"""Bytes of a replay that are read at once. With a smaller limit for a stream's backlog, half of that limit."""
RETRY_S: Final = (0.5, 2.0)
"""Bounds of the random pause before a stream that a reachable broker refused to open is tried again."""
OPENERS: Final = 16
"""Streams that are reopened after a resync at the same time."""
MAX_OPEN_CALLS: Final = 16
"""Concurrent `broker.open` calls of one process, so that a reconnect storm leaves the broker time for other calls."""
TIMEOUT_S: Final = 15.0
"""A stream that is not reopened within this time is retried later, so that it does not delay others."""


class Opener:
    """Opens and reopens the streams in `attached`; calls `proceed` with a stream and its opening. `joined`: see
    `Broker.open`."""

    def __init__(
        self,
        broker: Broker,
        *,
        attached: Container[Stream],
        portion_bytes: int,
        proceed: Callable[[Stream, Opening], None],
        joined: Callable[[Stream], Mapping[str, int] | None],
    ) -> None:
        self._broker = broker
        self._attached = attached
        self._portion_bytes = portion_bytes
        self._proceed = proceed
        self._joined = joined
        self._attempts = 0
        self._queue: dict[Stream, None] = {}
        """Streams to be reopened."""
        self._wake = asyncio.Event()
        self._open_calls = asyncio.Semaphore(MAX_OPEN_CALLS)
        self._away: set[str] = set()
        """Prefixes of the topics that the broker cannot deliver now."""

    async def open(self, stream: Stream) -> None:
        """Open a stream. Returns when it is live, has gone, or has to wait for its reader or the broker."""
        if stream not in self._attached:
            return
        attempt = self._begin(stream)
        try:
            async with self._open_calls:
                if not self._is_current(stream, attempt):
                    return
                stream.reading = True
                opening = await self._broker.open(
                    stream.user,
                    stream.channels,
                    stream.cursor,
                    subscribe=True,
                    portion_bytes=self._portion_bytes,
                    continued=stream.continued,
                    joined=self._joined(stream),
                )
        except BrokerUnavailable as exc:
            # The connection stays open. A broker that is away resyncs all streams when it is back; one that only
            # refused this call (busy, loading, out of memory) is retried.
            log.info("a stream waits for the broker: %s", exc)
            if self._broker.ready and not self.is_away(stream):
                self._retry_later(stream, attempt)
            return
        if self._is_current(stream, attempt):
            self._proceed(stream, opening)

    def reopen(self, stream: Stream, after: int | None = None) -> None:
        """Make a stream not live, and queue it to be opened again once its reader has accepted what was written. after:
        see `Sink.resync`."""
        if not stream.opening:
            stream.cursor, stream.seq = Cursor(stream.epoch, stream.seq), OPENING
        if after is not None and stream.greeted and isinstance(stream.cursor, Cursor) and stream.cursor.seq > after:
            # A text in place of a cursor makes the broker answer with a reset. A stream without `hello` is where its
            # client stands, and reads the events of the hole if they are missing there.
            if stream.record is not None:
                stream.record.reached = stream.cursor
            stream.cursor = "past a hole"
        stream.call_when_drained(partial(self._enqueue, stream, self._begin(stream)))

    def forget(self, stream: Stream) -> None:
        """Remove a stream that has ended."""
        self._queue.pop(stream, None)

    def note_away(self, away: bool, prefix: str) -> None:
        """See `Sink.degraded`."""
        (self._away.add if away else self._away.discard)(prefix)

    def is_away(self, stream: Stream) -> bool:
        """True if the broker cannot deliver to this stream now. All its topics begin with the same prefix."""
        return bool(self._away) and stream.topics[0].startswith(tuple(self._away))

    def _begin(self, stream: Stream) -> int:
        self._attempts += 1
        stream.opening = self._attempts
        stream.reading = False
        # The opening has everything but these, or a newer state.
        stream.pending = [item for item in stream.pending if item.is_ephemeral]
        return self._attempts

    def _is_current(self, stream: Stream, attempt: int) -> bool:
        return stream.opening == attempt and stream in self._attached

    def _retry_later(self, stream: Stream, attempt: int) -> None:
        asyncio.get_running_loop().call_later(random.uniform(*RETRY_S), self._enqueue, stream, attempt)

    def _enqueue(self, stream: Stream, attempt: int) -> None:
        if self._is_current(stream, attempt):
            self._queue[stream] = None
            self._wake.set()

    async def run_forever(self) -> None:
        """Reopen queued streams, `OPENERS` at a time, until cancelled. An exception must end the process."""
        async with asyncio.TaskGroup() as group:
            for _ in range(OPENERS):
                group.create_task(self._reopen_queued())

    async def _reopen_queued(self) -> None:
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            stream = next(iter(self._queue))
            del self._queue[stream]
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self.open(stream)
            except TimeoutError:
                if stream.opening:
                    self._retry_later(stream, stream.opening)
