"""The hub, one per process: knows the open streams by topic, brings each from its cursor to live, hands on frames.

    attach -> opening (what comes is held) -> subscribed -> broker.open -> hello, replay, held -> live -> detached

Doubt (a lost link, a hole) takes a live stream back to opening. Frames for a few streams are written at once; a frame
for many goes out in rounds, which give the event loop back to others (`rounds.py`).

Must not know: HTTP, Redis. A stream here is whatever has the methods of `rounds.Stream`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from notifier.broker import ONCE, Broker, Opening
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor, own_frame
from notifier.frames import (
    DEGRADED_FRAME,
    PING_FRAME,
    RECOVERED_FRAME,
    RETRY_MS,
    EncodedFrame,
    farewell,
    hello,
    reset,
    waiting,
)
from notifier.rounds import OPENING, Item, Rounds, Stream
from notifier.slow import SlowReaders

log = logging.getLogger("notifier.hub")

DIRECT: Final = 64
"""Topics with at most so many streams are written at once, ahead of a round that is under way."""
MAX_HELD: Final = 5000
"""Frames held for a stream that is opening. One more, and the stream is ended: it comes back with its cursor."""
ASK_AGAIN_S: Final = (0.5, 2.0)
"""Bounds of the random pause before a stream that a living broker refused to open is tried again."""
TICK_S: Final = 0.05
"""Between two looks at which streams are due a heartbeat: a few at a time, so that it holds nobody up."""
OPENERS: Final = 16
"""Streams that are resynced at the same time."""
MAX_OPEN_CALLS: Final = 8
"""Streams of one process whose start is read at the same time: a storm must not hold the broker up for everybody."""
OPEN_TIMEOUT_S: Final = 15.0
"""A stream that was not brought back by then is tried again later, so that it does not hold others up."""


class Hub:
    """Implements `broker.Sink`."""

    def __init__(
        self,
        broker: Broker,
        *,
        heartbeat_s: float,
        max_streams_per_user: int,
        max_streams_per_address: int,
        max_backlog_bytes: int,
    ) -> None:
        self._broker = broker
        # A whole number of seconds is shown as one.
        self._heartbeat_s = int(heartbeat_s) if heartbeat_s == int(heartbeat_s) else heartbeat_s
        self._max_per_user = max_streams_per_user
        self._max_per_address = max_streams_per_address
        self._topics: dict[str, dict[Stream, None]] = {}
        self._streams: dict[Stream, None] = {}
        self._addresses: Counter[str] = Counter()
        self._rounds = Rounds(
            hand=self._hand,
            flush=self._flush,
            slow=self._note_slow,
            listeners=lambda topic: self._topics.get(topic, ()),
        )
        self._tick_s = min(TICK_S, heartbeat_s / 5)
        self._slots: list[dict[Stream, None]] = [{} for _ in range(max(1, round(heartbeat_s / self._tick_s)))]
        self._slow = SlowReaders(max_backlog_bytes=max_backlog_bytes, give_up=lambda stream: self.end(stream, "slow"))
        self._ending: dict[int, dict[Stream, None]] = {}
        """Streams by the (monotonic) second in which their life is over."""
        self._attempts = 0
        self._resyncing: dict[Stream, None] = {}
        self._wake = asyncio.Event()
        self._open_calls = asyncio.Semaphore(MAX_OPEN_CALLS)
        self.away = False
        self.draining = False
        self._handed = 0
        self.counts: Counter[str] = Counter()
        """What happened so far, for metrics: streams opened, events, resets, streams ended by reason."""

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def deliveries(self) -> int:
        """Events that were written to streams so far."""
        return self._handed + self._rounds.deliveries

    @property
    def topic_count(self) -> int:
        """Topics that some stream listens to."""
        return len(self._topics)

    # Streams come and go

    def refusal(self, user_topic: str, address: str) -> str | None:
        """Why one more stream cannot be taken now: the reason of its `bye`, or None."""
        if self.draining:
            return "drain"
        if len(self._topics.get(user_topic, ())) >= self._max_per_user:
            return "evicted"
        if self._addresses[address] >= self._max_per_address:
            return "evicted"
        return None

    async def attach(self, stream: Stream) -> None:
        """Takes a stream and brings it to live. Returns when it is, or when that has to wait for the broker."""
        self._streams[stream] = None
        self._addresses[stream.address] += 1
        stream.slot = self.counts["streams_opened"] % len(self._slots)
        self._slots[stream.slot][stream] = None
        self._ending.setdefault(int(stream.ends_at), {})[stream] = None
        for topic in stream.topics:
            self._topics.setdefault(topic, {})[stream] = None
        self.counts["streams_opened"] += 1
        if self.away:
            stream.offer(waiting())
            stream.flush()
        await self._open(stream)

    def detach(self, stream: Stream) -> None:
        """Forgets a stream whose connection is gone. Calling it again does nothing."""
        stream.send = None
        if self._streams.pop(stream, _ABSENT) is _ABSENT:
            return
        self._addresses[stream.address] -= 1
        if not self._addresses[stream.address]:
            del self._addresses[stream.address]
        self._slots[stream.slot].pop(stream, None)
        self._ending.get(int(stream.ends_at), {}).pop(stream, None)
        self._slow.forget(stream)
        self._resyncing.pop(stream, None)
        left = []
        for topic in stream.topics:
            streams = self._topics.get(topic)
            if streams is None:
                continue
            streams.pop(stream, None)
            if not streams:
                del self._topics[topic]
                left.append(topic)
        if left:
            self._broker.unsubscribe(left)

    def end(self, stream: Stream, reason: str, *, retry_ms: tuple[int, int] = RETRY_MS) -> None:
        """Ends a stream with `bye`; its client comes back after a random pause."""
        if stream not in self._streams:
            return
        self.counts[f"ended_{reason}"] += 1
        stream.end(farewell(reason, random.randint(*retry_ms)))
        self.detach(stream)

    # From cursor to live

    async def _open(self, stream: Stream) -> None:
        if stream not in self._streams:
            return
        self._attempts += 1
        attempt = stream.opening = self._attempts
        try:
            await self._broker.subscribe(stream.topics)
            async with self._open_calls:
                if stream.opening != attempt or stream not in self._streams:
                    return
                opening = await self._broker.open(stream.user, stream.channels, stream.cursor)
        except BrokerUnavailable as fault:
            # It stays open and waits. A broker that is away calls `resync(None)` when it is back; one that only
            # refused this (busy, loading, out of memory) is asked again.
            log.info("a stream waits for the broker: %s", fault)
            if self._broker.ready:
                self._ask_later(stream, attempt)
            return
        if stream.opening == attempt and stream in self._streams:
            self._go_live(stream, opening)

    def _ask_later(self, stream: Stream, attempt: int) -> None:
        asyncio.get_running_loop().call_later(random.uniform(*ASK_AGAIN_S), self._ask_again, stream, attempt)

    def _ask_again(self, stream: Stream, attempt: int) -> None:
        if stream.opening == attempt and stream in self._streams:
            self._resyncing[stream] = None
            self._wake.set()

    def _go_live(self, stream: Stream, opening: Opening) -> None:
        """Writes what the stream starts from and what was held meanwhile. Nothing is awaited here."""
        if stream.revoked is None:
            stream.revoked = opening.revoked
        elif opening.revoked and opening.revoked != stream.revoked:
            # The user was disconnected while the subscriptions were down.
            self.end(stream, "revoked")
            return
        stream.forget_states()  # older than what follows
        again = stream.greeted
        lost = not opening.recovered
        if not again:
            stream.offer(hello(opening, stream.cursor, heartbeat_s=self._heartbeat_s))
            stream.greeted = True
        if lost:
            self.counts["resets"] += 1
            stream.offer(reset(opening))
        for seq, frame in opening.replay:
            stream.offer(EncodedFrame(b"id: %b-%d\n%b" % (opening.cursor.epoch.encode(), seq, frame)))
        if again and not lost:
            self._repair_state(stream, opening)
        held, stream.held = stream.held, []
        stream.cursor = None
        # Interned, so that a round compares epochs without looking at each stream's own copy.
        stream.epoch, stream.seq = sys.intern(opening.cursor.epoch), opening.cursor.seq
        stream.opening = 0
        for item in held:
            # An event of an order that is over is in no log any more, and what the stream starts from came after it.
            if not item.seq or item.epoch == stream.epoch:
                self._hand(stream, item)
        stream.flush()
        # A long replay may be more than a slow reader's share; it is bounded by the history.
        self._slow.look(stream, beyond=stream.backlog_bytes)

    def _repair_state(self, stream: Stream, opening: Opening) -> None:
        """Frames without id may have been missed before the resync: the present state is sent again."""
        for task in reversed(opening.tasks):
            stream.offer_state(task.id, EncodedFrame(task.frame().encode()))
        stream.offer(EncodedFrame(own_frame("inbox", {"read": [], "deleted": [], "unread": opening.unread})))

    # broker.Sink

    def deliver(self, topic: str, epoch: str, seq: int, key: str, wire: bytes) -> None:
        streams = self._topics.get(topic)
        if streams:
            self.counts["events"] += 1
            self._send(topic, streams, Item(sys.intern(epoch), seq, key, EncodedFrame(wire)))

    def deliver_state(self, topic: str, key: str, wire: bytes) -> None:
        streams = self._topics.get(topic)
        if streams:
            self._send(topic, streams, Item("", 0, key, EncodedFrame(wire)))

    def _send(self, topic: str, streams: dict[Stream, None], item: Item) -> None:
        if len(streams) <= DIRECT:
            self._rounds.pass_by(list(streams), item)
        elif not self._rounds.add(topic, item):
            self.resync([topic])

    def resync(self, topics: Sequence[str] | None, *, after: int | None = None) -> None:
        """Takes streams back to opening at once, so that what comes from here on is held for them."""
        self._rounds.forget(topics)
        affected = (
            self._streams if topics is None else {one: None for topic in topics for one in self._topics.get(topic, ())}
        )
        for stream in affected:
            self._resync(stream, after)

    def _resync(self, stream: Stream, after: int | None = None) -> None:
        if not stream.opening:
            past = after is not None and stream.seq > after
            stream.cursor = "past a hole" if past else Cursor(stream.epoch, stream.seq)
            stream.seq = OPENING
        stream.held = [item for item in stream.held if item.is_kept_nowhere]
        self._attempts += 1
        stream.opening = self._attempts
        self._resyncing[stream] = None
        self._wake.set()

    async def reopen_forever(self) -> None:
        """Resyncs streams, some at a time. Its owner ends the process with it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(OPENERS):
                group.create_task(self._reopen_forever())

    async def _reopen_forever(self) -> None:
        while True:
            while not self._resyncing:
                self._wake.clear()
                await self._wake.wait()
            stream = next(iter(self._resyncing))
            del self._resyncing[stream]
            try:
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    await self._open(stream)
            except TimeoutError:
                self._ask_later(stream, stream.opening)

    def disconnect(self, topic: str, reason: str) -> None:
        for stream in list(self._topics.get(topic, ())):
            self.end(stream, reason)

    def degraded(self, away: bool) -> None:
        self.away = away
        for stream in list(self._streams):
            stream.offer(DEGRADED_FRAME if away else RECOVERED_FRAME)
            self._flush(stream)

    # Writing

    def _hold(self, stream: Stream, item: Item) -> None:
        if len(stream.held) < MAX_HELD:
            stream.held.append(item)
        else:
            asyncio.get_running_loop().call_soon(self.end, stream, "slow")

    def _hand(self, stream: Stream, item: Item) -> None:
        """Gives one frame to a stream: held while it opens, dropped where it is there already."""
        if stream.opening:
            self._hold(stream, item)
        elif not item.seq:
            if not item.key.startswith(ONCE):
                stream.offer_state(item.key, item.frame)
            elif not stream.is_repeat(item.key):
                stream.offer(item.frame)
        elif item.epoch != stream.epoch:
            self._resync(stream)  # one of the two orders is over; the log knows which
        elif item.seq <= stream.seq:
            return  # over another channel of the same publish, or part of what it started from
        elif not item.key or not stream.is_repeat(item.key):
            stream.seq = item.seq
            stream.offer(item.frame)
            self._handed += 1

    def _flush(self, stream: Stream) -> None:
        stream.flush()
        if stream.send is None:
            self._note_slow(stream)

    def _note_slow(self, stream: Stream) -> None:
        if stream in self._streams:
            self._slow.look(stream)

    # Time

    async def tick_forever(self) -> None:
        """Heartbeats, connection life, slow readers: one ticker for all streams. Its owner ends the process with it."""
        started = time.monotonic()
        ticks = 0
        while True:
            await asyncio.sleep(self._tick_s)
            if self._rounds.fault is not None:
                raise self._rounds.fault
            # By the clock: a loop that is busy wakes late, and heartbeats must not come late with it.
            due = int((time.monotonic() - started) / self._tick_s)
            for tick in range(max(ticks + 1, due + 1 - len(self._slots)), due + 1):
                self._ping(self._slots[tick % len(self._slots)])
            if int(due * self._tick_s) > int(ticks * self._tick_s):
                self._check_lives()
            ticks = due

    def _ping(self, streams: dict[Stream, None]) -> None:
        for stream in list(streams):
            stream.offer(PING_FRAME)
            self._flush(stream)

    def _check_lives(self) -> None:
        now = time.monotonic()
        for second in [one for one in self._ending if one <= now]:
            for stream in list(self._ending[second]):
                self.end(stream, stream.ends_why)
            self._ending.pop(second, None)
        self._slow.look_again()

    async def drain(self, over_s: float, hurry: Callable[[], bool]) -> None:
        """Ends all streams, spread evenly over `over_s` seconds; at once when `hurry()` becomes true."""
        self.draining = True
        going = list(self._streams)
        random.shuffle(going)
        started, total = time.monotonic(), len(going)
        while going and not hurry():
            share = (time.monotonic() - started) / over_s if over_s > 0 else 1.0
            keep = total - int(total * min(1.0, share + 0.02))
            while len(going) > keep:
                self.end(going.pop(), "drain", retry_ms=(100, 2000))
            await asyncio.sleep(min(0.05, over_s / 20))
        for stream in list(self._streams):
            self.end(stream, "drain", retry_ms=(100, 2000))


_ABSENT: Final = object()
