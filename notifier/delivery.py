"""Delivery of one frame to one stream: pending while it opens, dropped if the stream has it already, else written.

Must not know: which streams there are, brokers, HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from notifier.broker.values import EPHEMERAL_PREFIX
from notifier.connections import ConnectionIds
from notifier.frames import EncodedFrame, Item, first
from notifier.pending import hold
from notifier.slow import SlowReaders
from notifier.stream import Stream


class Delivery:
    """To the streams of one process.

    attached: the streams that have not ended. give_up: end a stream for which too much waits. reopen: take a stream
    back to its opening, as its log shows what comes next.
    """

    def __init__(
        self,
        connections: ConnectionIds,
        slow: SlowReaders,
        *,
        attached: Container[Stream],
        max_backlog_bytes: int,
        give_up: Callable[[Stream], None],
        reopen: Callable[[Stream], None],
    ) -> None:
        self._connections = connections
        self._slow = slow
        self._attached = attached
        self._max_backlog = max_backlog_bytes
        self._give_up = give_up
        self._reopen = reopen
        self.delivered = 0
        """Events written so far."""

    def deliver(self, stream: Stream, item: Item) -> None:
        """Queue one frame by all the rules."""
        if stream.opening:
            if not hold(stream, item, self._max_backlog):
                asyncio.get_running_loop().call_soon(self._give_up, stream)
        elif item.excluded is not None and self._connections.excludes(stream, item.excluded):
            if item.epoch == stream.epoch:
                stream.seq = max(stream.seq, item.seq)
                if item.excluded.connection and stream.record is not None:
                    stream.record.note_skipped(item.seq)
        elif not item.seq:
            if not item.key.startswith(EPHEMERAL_PREFIX):
                stream.offer_state(item.key, item.frame)
            elif not stream.is_repeat(item.key):
                stream.offer(item.frame)
        elif item.epoch != stream.epoch:
            self._reopen(stream)  # one of the two epochs has ended; the log shows which
        elif item.seq <= stream.seq:
            return  # delivered through another topic of the same publish, or part of the opening
        elif not stream.has_part(item.parts, item.seq):
            stream.seq = item.seq
            stream.offer(item.frame)
            self.delivered += 1

    def offer_own(self, stream: Stream, frame: EncodedFrame) -> None:
        """Queue a frame of the service's own that has no id, also before `hello`."""
        stream.offer(frame if stream.begun else first(frame, stream.cursor))
        stream.begun = True

    def write_own(self, stream: Stream, frame: EncodedFrame) -> None:
        """Write such a frame."""
        self.offer_own(stream, frame)
        self.flush(stream)

    def flush(self, stream: Stream) -> None:
        """Write what is queued."""
        stream.flush()
        if stream.send is None:
            self.note_slow(stream)

    def note_slow(self, stream: Stream) -> None:
        """The stream's socket did not accept all of a write."""
        if stream in self._attached:
            self._slow.check(stream)
