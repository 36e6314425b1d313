"""Rounds: one frame to many streams, written in slices so that the event loop serves others in between.

    add -> queued -> begun: stream after stream, a slice at a time -> done

Frames for the topic of the last queued round of their order (`Broker.order_of`) join it, so that a loop that cannot
keep up sends more per write instead of falling behind. The direct path is one `send()` on the stream's socket, which
makes a round cost little more than the kernel's part. A stream that is opening, slow or of another epoch, and a frame
that may repeat, go to `deliver_to`.

Must not know: brokers, HTTP, why a stream cannot be written directly.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

from notifier.frames import OPENING, Item, after_waiting
from notifier.histogram import Histogram
from notifier.stream import Stream
from notifier.trace_context import FirstWrite, TracedTime

DIRECT: Final = 64
"""Up to this many streams of a topic are written at once, ahead of a round in progress."""
SLICE_S: Final = 0.0005
"""Time after which a round yields to the event loop."""
STRIDE: Final = 32
"""Streams written between two readings of the clock."""
MAX_JOINED: Final = 100
"""Frames in one write of a round."""
MAX_ROUNDS: Final = 1000
"""Queued rounds. A further one is refused, and its streams read the log instead."""
MAX_LOOKED_AT: Final = 64
"""Of these, the newest in which a frame looks for one to join."""


class Round:
    """Frames of one topic, all events or all states, and the streams that do not have them yet."""

    __slots__ = ("_places", "at", "events", "items", "may_repeat", "order", "served_early", "streams", "topic")

    def __init__(self, topic: str, item: Item, order: str = "") -> None:
        self.topic = topic
        self.order = order
        self.events = item.seq > 0
        self.items: list[Item] = []
        self.may_repeat = False
        """True if some frame of it may be a repeat, as known when its slice began."""
        self.streams: list[Stream] | None = None
        """Its streams once it has begun, else None."""
        self.at = 0
        """Index of the first stream that is not served yet."""
        self.served_early: set[Stream] = set()
        """Streams served ahead of their turn, where no seq shows it."""
        self._places: dict[Stream, int] | None = None
        self.join(item)

    def join(self, item: Item) -> None:
        """Add a frame. A newer state replaces the state with the same key, or is joined to it."""
        if not self.events and item.key:
            for waiting in self.items:
                if waiting.key == item.key:
                    item = Item("", 0, item.key, after_waiting(item.key, waiting.frame, item.frame))
            self.items = [kept for kept in self.items if kept.key != item.key]
        self.items.append(item)

    def is_pending_for(self, stream: Stream) -> bool:
        """True if a stream of the topic is still to be served: not early, and its turn has not come."""
        if self.streams is None:
            return stream not in self.served_early
        if self._places is None:
            self._places = {stream: place for place, stream in enumerate(self.streams)}
        return self._places.get(stream, -1) >= self.at and stream not in self.served_early

    def can_join(self, topic: str, item: Item) -> bool:
        """True if a frame may join: same topic, same kind, nothing written yet."""
        same = self.streams is None and self.topic == topic and self.events == (item.seq > 0)
        return same and len(self.items) < MAX_JOINED and not self.served_early


class Rounds:
    """The rounds of one process, run one after the other.

    deliver_to: deliver one frame to one stream, by all the rules. flush: write what a stream has queued.
    note_slow: called with a stream whose socket did not accept all of a write. streams_of: the streams of a topic.
    order_of: see `Broker`. first_write: see `FirstWrite`; None: nothing is traced.
    """

    def __init__(
        self,
        *,
        deliver_to: Callable[[Stream, Item], None],
        flush: Callable[[Stream], None],
        note_slow: Callable[[Stream], None],
        streams_of: Callable[[str], Iterable[Stream]],
        order_of: Callable[[str], str],
        first_write: FirstWrite | None = None,
    ) -> None:
        self._deliver_to = deliver_to
        self._flush = flush
        self._note_slow = note_slow
        self._streams_of = streams_of
        self._order_of = order_of
        self._first_write = first_write
        self._queue: deque[Round] = deque()
        self._is_joining = False
        self._joined: Round | None = None
        """While joining: frames of one topic that are written together."""
        self.deliveries = 0
        self.write_times = Histogram()
        """From an event's acceptance, where it is known, to its write to the last of the topic's streams. One
        observation an event, not one a stream."""
        self.failure: Exception | None = None
        """The exception that ended the rounds for good. The owner of the hub's loops ends the process with it."""

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, topic: str, item: Item) -> bool:
        """Queue a frame for all streams of a topic. False if too many rounds are queued."""
        self._send_joined()
        order = self._order_of(topic)
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._slice)
        elif (last := self._last_of(order)) is not None and last.can_join(topic, item):
            last.join(item)
            return True
        elif len(self._queue) >= MAX_ROUNDS:
            return False
        self._queue.append(Round(topic, item, order))
        return True

    def _last_of(self, order: str) -> Round | None:
        """The last queued round of an order. Joining an earlier one would overtake another topic's frames at streams of
        both; the rounds of other orders have no stream of this one."""
        newest = islice(reversed(self._queue), MAX_LOOKED_AT)
        return next((queued for queued in newest if queued.order == order), None)

    @contextmanager
    def joining(self) -> Iterator[None]:
        """Within it, frames that follow each other on one topic are written together, at its end at the latest."""
        self._is_joining = True
        try:
            yield
        finally:
            self._is_joining = False
            self._send_joined()

    def send(self, topic: str, streams: Collection[Stream], item: Item) -> bool:
        """Send a frame to the streams of a topic: to a few at once, ahead of the queued rounds, to many in a round.
        False if too many rounds are queued."""
        if len(streams) > DIRECT:
            return self.add(topic, item)
        if self._is_joining:
            self._join(topic, item)
        else:
            self._send(list(streams), [item], may_repeat=item.may_repeat)
        return True

    def _join(self, topic: str, item: Item) -> None:
        joined = self._joined
        if joined is not None and joined.can_join(topic, item) and joined.items[0].epoch == item.epoch:
            joined.join(item)
        else:
            self._send_joined()
            self._joined = Round(topic, item)

    def _send_joined(self) -> None:
        if (joined := self._joined) is not None:
            self._joined = None
            may_repeat = any(item.may_repeat for item in joined.items)
            self._send(list(self._streams_of(joined.topic)), joined.items, may_repeat=may_repeat)

    def _send(self, streams: Sequence[Stream], items: list[Item], *, may_repeat: bool) -> None:
        if self._queue:
            for stream in streams:
                self._deliver_queued_to(stream)
                self._flush(stream)
        self._write(streams, items, may_repeat=may_repeat)
        self._note_written(items, len(streams))

    def _note_written(self, items: list[Item], streams: int) -> None:
        for item in items:
            if item.accepted_us:
                self.write_times.observe(time.time_ns() // 1000 - item.accepted_us)
                self._trace([item], streams)

    def _trace(self, items: list[Item], streams: int) -> None:
        if self._first_write is not None:
            for item in items:
                if isinstance(item.accepted_us, TracedTime):
                    self._first_write(item.accepted_us, streams)

    def _deliver_queued_to(self, stream: Stream) -> None:
        """Deliver the frames that queued rounds hold for a stream, before a later frame is written to it."""
        for queued in self._queue:
            if queued.topic not in stream.topics:
                continue
            if queued.events and not stream.opening:
                for item in queued.items:  # its seq shows what it has
                    self._deliver_to(stream, item)
            elif queued.is_pending_for(stream):
                queued.served_early.add(stream)
                for item in queued.items:
                    self._deliver_to(stream, item)

    def forget(self, topics: frozenset[str] | None) -> None:
        """Drop queued frames of these topics (None: all): their streams will replay the log, so these would arrive late
        or with a stale epoch. Ephemeral frames stay."""
        self._send_joined()
        for queued in self._queue:
            if topics is None or queued.topic in topics:
                queued.items = [item for item in queued.items if item.is_ephemeral]

    def _slice(self) -> None:
        try:
            self._run_slice()
        except Exception as exc:
            self.failure = exc
            raise

    def _run_slice(self) -> None:
        until = time.perf_counter() + SLICE_S
        while self._queue:
            first = self._queue[0]
            if first.streams is None:
                first.streams = list(self._streams_of(first.topic))
            # Asked again in each slice: a replay in between may have brought an earlier part of the same publish.
            first.may_repeat = any(item.may_repeat for item in first.items)
            while first.at < len(first.streams) and first.items:
                streams = first.streams[first.at : first.at + STRIDE]
                if first.served_early:
                    streams = [stream for stream in streams if stream not in first.served_early]
                self._write(streams, first.items, may_repeat=first.may_repeat)
                if not first.at:
                    self._trace(first.items, len(first.streams))
                first.at += STRIDE
                if time.perf_counter() > until:
                    asyncio.get_running_loop().call_soon(self._slice)
                    return
            self._queue.popleft()
            self._note_written(first.items, len(first.streams))

    def _write(self, streams: Sequence[Stream], items: list[Item], *, may_repeat: bool) -> None:
        """Write frames to streams: all events of one epoch, or all states. may_repeat: some may be repeats."""
        if may_repeat:
            for stream in streams:
                self._write_each(stream, items)
            return
        data = items[0].frame.chunk if len(items) == 1 else b"".join([item.frame.chunk for item in items])
        size, others = len(data), 0
        epoch, last = items[0].epoch, items[-1].seq
        # States have no seq (last is 0): they go to every live stream, and leave its seq as it is.
        due = items[0].seq or OPENING
        for stream in streams:
            send = stream.send
            if send is None or stream.seq >= due or (last and stream.epoch != epoch):
                others += 1
                self._write_each(stream, items)
                continue
            try:
                wrote = send(data)
            except OSError:
                wrote = 0  # full or closed; the transport finds out which
            if last:
                stream.seq = last
            if wrote != size:
                stream.write_remainder(data[wrote:])
                self._note_slow(stream)
        if last:
            self.deliveries += (len(streams) - others) * len(items)

    def _write_each(self, stream: Stream, items: list[Item]) -> None:
        """The slow path: frame by frame, with every check."""
        for item in items:
            self._deliver_to(stream, item)
        self._flush(stream)
