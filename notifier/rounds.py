"""Rounds: one frame to many streams, written in slices that give the event loop back to others.

    add -> waiting -> begun: every stream in turn, some at a time -> done

While a round waits for those before it, what arrives for the same topic joins it, so that a loop that cannot keep up
sends more in each write instead of falling behind. The fast way is one `send()` of the stream's socket, which is
what makes a round cost little more than the kernel's part; whatever is not plain (opening, slow, a repeat) goes to
`hand`.

Must not know: brokers, HTTP, why a stream is not plain.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

from notifier.broker import ONCE
from notifier.event import Cursor
from notifier.frames import EncodedFrame

SLICE_S: Final = 0.0005
"""A round gives the loop back after so long."""
STRIDE: Final = 32
"""Streams written between two looks at the clock."""
MAX_JOINED: Final = 100
"""Frames in one write of a round."""
MAX_ROUNDS: Final = 1000
"""Rounds that wait. One more is refused, and its streams read the log instead."""
OPENING: Final = 1 << 62
"""The `seq` of a stream that is not live: behind every event, so that no fast way takes it for one that is due."""


class Item:
    """One frame on its way: its place in the order (seq 0: a state, of which only the newest counts) and its key."""

    __slots__ = ("epoch", "frame", "key", "seq")

    def __init__(self, epoch: str, seq: int, key: str, frame: EncodedFrame) -> None:
        self.epoch = epoch
        self.seq = seq
        self.key = key
        self.frame = frame

    @property
    def is_plain(self) -> bool:
        """Whether it cannot be a repeat of something that a stream had before."""
        return not (self.key if self.seq else self.key.startswith(ONCE))

    @property
    def is_kept_nowhere(self) -> bool:
        """Whether it has no other way to come; events and tasks are read again when a stream is opened."""
        return not self.seq and (not self.key or self.key.startswith(ONCE))


class Stream(Protocol):
    """What the hub needs of an open stream. `stream.py` has the real one."""

    user: str
    address: str
    channels: tuple[str, ...]
    topics: tuple[str, ...]
    cursor: Cursor | str | None
    """From where it is opened: the client's cursor, later the last event that was handed to it."""
    epoch: str
    seq: int
    """The last event that was handed to a live stream; `OPENING` while it is not live."""
    send: Callable[[bytes], int] | None
    """The socket's own, straight to the kernel; None where something is in the way (slow, ended, no plain socket)."""
    opening: int
    """0 when live; else the number of the attempt that is bringing it there."""
    held: list[Item]
    greeted: bool
    revoked: str | None
    """The word of the user's last disconnecting when the stream was opened; None before."""
    slot: int
    ends_at: float
    """When its life is over (monotonic seconds)."""
    ends_why: str

    @property
    def backlog_bytes(self) -> int: ...
    @property
    def accepted_bytes(self) -> int: ...
    def offer(self, frame: EncodedFrame) -> None: ...
    def offer_state(self, key: str, frame: EncodedFrame) -> None: ...
    def is_repeat(self, key: str) -> bool: ...
    def flush(self) -> None: ...
    def rest(self, data: bytes) -> None: ...
    def release_states(self) -> None: ...
    def forget_states(self) -> None: ...
    def end(self, farewell: EncodedFrame | None) -> None: ...


class Round:
    """Frames of one topic, all events or all states, and the streams that do not have them yet."""

    __slots__ = ("_places", "at", "events", "items", "passed", "plain", "streams", "topic")

    def __init__(self, topic: str, item: Item) -> None:
        self.topic = topic
        self.events = item.seq > 0
        self.items: list[Item] = []
        self.plain = True
        """Whether nothing of it can be a repeat."""
        self.streams: list[Stream] | None = None
        self.at = 0
        self.passed: set[Stream] = set()
        """Streams that got it ahead of their turn, where no place in the order tells that."""
        self._places: dict[Stream, int] | None = None
        self.join(item)

    def join(self, item: Item) -> None:
        """Adds a frame. Of a state that is there already, the newer one counts."""
        if not self.events and item.key:
            self.items = [one for one in self.items if one.key != item.key]
        self.items.append(item)
        self.plain = self.plain and item.is_plain

    def owes(self, stream: Stream) -> bool:
        """Whether a stream that hears the topic is still to get it: not passed, and its turn has not come."""
        if self.streams is None:
            return stream not in self.passed
        if self._places is None:
            self._places = {one: place for place, one in enumerate(self.streams)}
        return self._places.get(stream, -1) >= self.at and stream not in self.passed

    def takes(self, topic: str, item: Item) -> bool:
        """Whether a frame can join: the same kind, nothing written yet."""
        same = self.streams is None and self.topic == topic and self.events == (item.seq > 0)
        return same and len(self.items) < MAX_JOINED and not self.passed


class Rounds:
    """The rounds of one process, one after the other.

    hand: gives one frame to one stream by all the rules. flush: writes what a stream was given.
    slow: called with a stream whose socket did not take all of a write.
    """

    def __init__(
        self,
        *,
        hand: Callable[[Stream, Item], None],
        flush: Callable[[Stream], None],
        slow: Callable[[Stream], None],
        listeners: Callable[[str], Iterable[Stream]],
    ) -> None:
        self._hand = hand
        self._flush = flush
        self._slow = slow
        self._listeners = listeners
        self._waiting: deque[Round] = deque()
        self.deliveries = 0
        self.fault: Exception | None = None
        """What ended the rounds for good. Whoever owns the hub's loops ends the process with it."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, topic: str, item: Item) -> bool:
        """Sends a frame to all streams of a topic, soon. False: too much waits already."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._slice)
        elif self._waiting[-1].takes(topic, item):
            # Only the last: a frame that overtook another topic's would stand before it at those who hear both.
            self._waiting[-1].join(item)
            return True
        elif len(self._waiting) >= MAX_ROUNDS:
            return False
        self._waiting.append(Round(topic, item))
        return True

    def pass_by(self, streams: Sequence[Stream], item: Item) -> None:
        """Sends a frame to a few streams now, ahead of the rounds that wait."""
        if self._waiting:
            for stream in streams:
                self._pass_first(stream)
                self._flush(stream)
        self._write(streams, [item], plain=item.is_plain)

    def _pass_first(self, stream: Stream) -> None:
        """Gives a stream what the rounds still hold for it: something later is about to be written to it."""
        for one in self._waiting:
            if one.topic not in stream.topics:
                continue
            if one.events and not stream.opening:
                for item in one.items:  # what it has had, its place in the order tells
                    self._hand(stream, item)
            elif one.owes(stream):
                one.passed.add(stream)
                for item in one.items:
                    self._hand(stream, item)

    def forget(self, topics: Collection[str] | None) -> None:
        """The streams of these topics (None: all) read log and tasks anew: what is on its way would come after the
        newer, or out of an order that is over. Frames that are kept nowhere stay."""
        for one in self._waiting:
            if topics is None or one.topic in topics:
                one.items = [item for item in one.items if item.is_kept_nowhere]

    def _slice(self) -> None:
        try:
            self._write_for_a_while()
        except Exception as fault:
            self.fault = fault
            raise

    def _write_for_a_while(self) -> None:
        until = time.perf_counter() + SLICE_S
        while self._waiting:
            first = self._waiting[0]
            if first.streams is None:
                first.streams = list(self._listeners(first.topic))
            while first.at < len(first.streams) and first.items:
                streams = first.streams[first.at : first.at + STRIDE]
                if first.passed:
                    streams = [stream for stream in streams if stream not in first.passed]
                self._write(streams, first.items, plain=first.plain)
                first.at += STRIDE
                if time.perf_counter() > until:
                    asyncio.get_running_loop().call_soon(self._slice)
                    return
            self._waiting.popleft()

    def _write(self, streams: Sequence[Stream], items: list[Item], *, plain: bool) -> None:
        """Frames to streams: all events of one order, or all states. plain: none of them can be a repeat."""
        if not plain:
            for stream in streams:
                self._by_hand(stream, items)
            return
        data = items[0].frame.chunk if len(items) == 1 else b"".join([item.frame.chunk for item in items])
        size, others = len(data), 0
        epoch, last = items[0].epoch, items[-1].seq
        # States have no place in the order (last is 0): they go to every live stream, and leave its place as it is.
        due = items[0].seq or OPENING
        for stream in streams:
            send = stream.send
            if send is None or stream.seq >= due or (last and stream.epoch != epoch):
                others += 1
                self._by_hand(stream, items)
                continue
            try:
                wrote = send(data)
            except OSError:
                wrote = 0  # full, or gone: the transport finds out which
            if last:
                stream.seq = last
            if wrote != size:
                stream.rest(data[wrote:])
                self._slow(stream)
        if last:
            self.deliveries += (len(streams) - others) * len(items)

    def _by_hand(self, stream: Stream, items: list[Item]) -> None:
        for item in items:
            self._hand(stream, item)
        self._flush(stream)
