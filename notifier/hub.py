"""The hub, one per process: knows the open streams by topic, brings each from its cursor to live, delivers frames.

    attach -> opening -> subscribed -> broker.open -> hello, replay, pending frames -> live -> detached
                 ^                                            |
                 +--- drained <--- more of the replay --------+

New frames wait for a stream that is opening only while the broker is read; the next opening has those that came before.
A resync (after a lost link, a hole in a topic's order, or with too many unsent bytes) takes a live stream back to
opening. A frame for a few streams is written at once; one for many goes out in a round (`rounds.py`).

Must not know: HTTP, Redis.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

from notifier.admission import Admission
from notifier.broker import Broker
from notifier.broker.values import Opening
from notifier.connection_records import ConnectionRecords
from notifier.connections import ConnectionIds, StreamsByTopic, add, crowded, listeners, remove
from notifier.control import StreamCalls
from notifier.delivery import Delivery
from notifier.event import Cursor
from notifier.exclusion import Exclusion
from notifier.frames import (
    DEGRADED_FRAME,
    PING_FRAME,
    RECOVERED_FRAME,
    RETRY_MS,
    EncodedFrame,
    Item,
    farewell,
    place,
    with_spread,
)
from notifier.grants import Grants
from notifier.histogram import Histogram
from notifier.last_seen import LastSeen
from notifier.opener import MAX_PORTION_BYTES, Opener
from notifier.presence import Presence
from notifier.repeats import Repeats
from notifier.replay import was_revoked, write_opening
from notifier.retractions import Retractions
from notifier.rounds import Rounds
from notifier.slow import SlowReaders
from notifier.stream import Stream
from notifier.timers import StreamTimers, spread
from notifier.trace_context import FirstWrite


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
        first_write: FirstWrite | None = None,
    ) -> None:
        self._broker = broker
        self._heartbeat_s = int(heartbeat_s) if heartbeat_s == int(heartbeat_s) else heartbeat_s
        self._admission = Admission(max_per_user=max_streams_per_user, max_per_address=max_streams_per_address)
        self._topics: StreamsByTopic = {}
        self._streams: dict[Stream, None] = {}
        self._repeats = Repeats()
        self._opener = Opener(
            broker,
            attached=self._streams,
            portion_bytes=min(MAX_PORTION_BYTES, max_backlog_bytes // 2),
            proceed=self._proceed,
            joined=lambda each: self.grants.joined(each),
        )
        self._connections = ConnectionIds()
        self._retractions = Retractions()
        give_up = partial(self.end, reason="slow")
        self._slow = SlowReaders(max_backlog_bytes=max_backlog_bytes, fall_behind=self._fall_behind, give_up=give_up)
        self._delivery = Delivery(
            self._connections,
            self._slow,
            attached=self._streams,
            max_backlog_bytes=max_backlog_bytes,
            give_up=give_up,
            reopen=self._resync_stream,
        )
        tell = self._delivery.write_own
        self.people = Presence(broker, self._topics, self._connections, deliver=self.deliver_state, tell=tell)
        self.seen, self.records = LastSeen(broker), ConnectionRecords(broker)
        reopen = self._opener.reopen
        self.grants = Grants(broker, self._topics, self.people, attached=self._streams, reopen=reopen, tell=tell)
        self.calls = StreamCalls(broker, self._topics, self._connections, self.grants, self.records)
        self.crowded, self.listeners = partial(crowded, self._topics), partial(listeners, self._topics)
        self.control, self.presence = self.calls.receive, self.people.look
        self._rounds = Rounds(
            deliver_to=self._delivery.deliver,
            flush=self._delivery.flush,
            note_slow=self._delivery.note_slow,
            streams_of=lambda topic: self._topics.get(topic, ()),
            order_of=broker.order_of,
            first_write=first_write,
        )
        self.timers = StreamTimers(heartbeat_s, ping=self._ping, expire=lambda each: self.end(each, each.ends_why))
        self.draining = False
        self.counts: Counter[str] = Counter()
        """Totals for metrics: streams opened, refused and ended by reason, resets."""
        self.events = 0
        """Events received for open streams. A number of its own: a Counter costs ten times as much."""
        self.opening_times = Histogram()
        """From a stream's request to its `hello`."""

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def deliveries(self) -> int:
        """Events written to streams so far."""
        return self._delivery.delivered + self._rounds.deliveries

    @property
    def write_times(self) -> Histogram:
        """From an event's acceptance to its write to the last of the streams of its topic here."""
        return self._rounds.write_times

    @property
    def topic_count(self) -> int:
        """Topics with at least one stream."""
        return len(self._topics)

    # Attach and detach

    def refusal(self, user_topic: str, address: str) -> str | None:
        """The reason (of its `bye`) to refuse one more stream, or None."""
        of_user = len(self._topics.get(user_topic, ()))
        reason = "drain" if self.draining else "evicted" if self._admission.refuses(of_user, address) else None
        if reason is not None:
            self.counts[f"refused_{reason}"] += 1
        return reason

    async def attach(self, stream: Stream) -> None:
        """Register a stream and open it. Returns when it is live, or waits for its reader or the broker."""
        self._streams[stream] = None
        self._admission.add(stream.address)
        self.timers.add(stream)
        for topic in stream.topics:
            add(self._topics, topic, stream)
        self.counts["streams_opened"] += 1
        self.seen.note(stream.user)
        if self._opener.is_away(stream):
            self._delivery.offer_own(stream, DEGRADED_FRAME)
            stream.flush()
        await self._opener.open(stream)

    def begin(self, stream: Stream) -> None:
        """Write a first event to a stream without one: clients that reset their last id would lose their place."""
        if stream in self._streams and not stream.begun:
            self._ping([stream])

    def detach(self, stream: Stream, why: str = "closed") -> None:
        """Remove a stream whose connection is gone. A second call does nothing."""
        stream.send = None
        self.grants.forget(stream)  # also of one that was never attached
        if stream not in self._streams:
            return
        del self._streams[stream]
        self.records.close(stream, why)
        self.seen.note(stream.user)
        self._admission.remove(stream.address)
        self.timers.remove(stream)
        self._slow.forget(stream)
        self._opener.forget(stream)
        self._retractions.take(stream)
        if emptied := remove(self._topics, stream, stream.topics):
            self._broker.unsubscribe(emptied)

    def end(self, stream: Stream, reason: str, *, retry_ms: tuple[int, int] = RETRY_MS) -> None:
        """End a stream with `bye`. Its client reconnects after a random pause within `retry_ms`."""
        if stream not in self._streams:
            return
        self.counts[f"ended_{reason}"] += 1
        if reason == "revoked":  # after the other ends the client may come back within `GRACE_S`
            self.people.leave(stream, stream.channels)
        self.records.close(stream, reason)
        start = None if stream.begun else place(stream.cursor)
        stream.end(farewell(reason, random.randint(*retry_ms), start))
        self.detach(stream)

    # From cursor to live

    def _proceed(self, stream: Stream, opening: Opening) -> None:
        """Write an opening: a portion of a stream's replay, or the last of it and what follows when it goes live. Does
        not await, so that no frame arrives in between."""
        if was_revoked(stream, opening):
            # The user was disconnected while the subscriptions were down.
            self.end(stream, "revoked")
            if opening.forgotten:
                self.forget(stream.user)
            return
        if not opening.recovered:
            self.counts["resets"] += 1
        is_first = not stream.greeted
        self.records.proceed(stream, opening)
        write_opening(
            stream,
            opening,
            repeats=self._repeats,
            heartbeat_s=self._heartbeat_s,
            connection_of=self._connections.of,
            left=self.grants.take_untold(stream),
            retracted=() if opening.more else self._retractions.take(stream),
        )
        if not opening.more:
            self._go_live(stream, opening.cursor)
        stream.flush()
        if is_first:
            self.opening_times.observe_s(time.monotonic() - stream.attached_at)
        # A portion exceeds the backlog limit if it is one large event, or has the snapshot of many tasks.
        self._slow.check(stream, beyond=stream.backlog_bytes)
        if opening.more:
            self._opener.reopen(stream)

    def _go_live(self, stream: Stream, top: Cursor) -> None:
        """Write the pending frames that are newer than the replay."""
        pending, stream.pending, stream.pending_bytes = stream.pending, [], 0
        stream.cursor = None
        # Interned, so that a round compares epochs by identity instead of reading each stream's own copy.
        stream.epoch, stream.seq = sys.intern(top.epoch), top.seq
        stream.opening = 0
        for item in pending:
            # Events of an earlier epoch are in no log any more, and older than the opening.
            if not item.seq or item.epoch == stream.epoch:
                self._delivery.deliver(stream, item)

    # broker.Sink

    def joining(self) -> AbstractContextManager[None]:
        return self._rounds.joining()

    def deliver(
        self,
        topic: str,
        epoch: str,
        seq: int,
        key: str,
        wire: bytes,
        excluded: Exclusion | None = None,
        accepted_us: int = 0,
    ) -> None:
        streams = self._topics.get(topic)
        if streams:
            self.events += 1
            parts = self._repeats.note(epoch, key, topic, seq) if key else None
            frame = EncodedFrame(with_spread(topic, wire, len(streams)))
            item = Item(sys.intern(epoch), seq, "", frame, parts, excluded, accepted_us)
            if not self._rounds.send(topic, streams, item):
                self.resync([topic])

    def deliver_state(
        self, topic: str, key: str, wire: bytes, excluded: Exclusion | None = None, accepted_us: int = 0
    ) -> None:
        streams = self._topics.get(topic)
        if streams:
            item = Item("", 0, key, EncodedFrame(wire), None, excluded, accepted_us)
            if not self._rounds.send(topic, streams, item):
                self.resync([topic])

    def resync(self, topics: Sequence[str] | None, *, after: int | None = None) -> None:
        """Take streams back to opening at once: no later frame is written to them before they are opened again."""
        self._rounds.forget(None if topics is None else frozenset(topics))
        streams = self._streams
        if topics is not None:
            streams = {stream: None for topic in topics for stream in self._topics.get(topic, ())}
        for stream in streams:
            self._resync_stream(stream, after)

    def retract(self, topic: str, message_id: str) -> None:
        self._retractions.note(self._topics.get(topic, ()), message_id)
        self.resync([topic])

    def _resync_stream(self, stream: Stream, after: int | None = None) -> None:
        if stream not in self._streams:
            return  # it ended while a round was on its way to it
        self._opener.reopen(stream, after)

    def _fall_behind(self, stream: Stream) -> None:
        """Let a live stream with too many unsent bytes read on from the history, once its reader has taken them."""
        if not stream.opening:
            self._resync_stream(stream)

    async def reopen_forever(self) -> None:
        """Reopen streams after resyncs until cancelled. An exception must end the process."""
        await self._opener.run_forever()

    def disconnect(self, topic: str, reason: str, *, forgotten: bool = False) -> None:
        for stream in list(self._topics.get(topic, ())):
            self.end(stream, reason)
            if forgotten:
                self.forget(stream.user)

    def forget(self, user: str) -> None:
        self.seen.forget(user)
        self.records.forget(user)

    def degraded(self, away: bool, prefix: str = "") -> None:
        self._opener.note_away(away, prefix)
        for stream in [stream for stream in self._streams if stream.topics[0].startswith(prefix)]:
            self._delivery.write_own(stream, DEGRADED_FRAME if away else RECOVERED_FRAME)

    # Time

    async def tick_forever(self) -> None:
        """Run heartbeats and checks of slow readers until cancelled. Exceptions end the process."""
        while True:
            await asyncio.sleep(self.timers.tick_s)
            if self._rounds.failure is not None:
                raise self._rounds.failure
            if self.timers.run_due():
                self._slow.check_all()
                self.grants.run_due()

    def _ping(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            self._delivery.write_own(stream, PING_FRAME)

    async def drain(self, over_s: float, hurry: Callable[[], bool]) -> None:
        """End all streams, spread evenly over `over_s` seconds; the rest at once when `hurry()` becomes true."""
        self.draining = True
        end = partial(self.end, reason="drain", retry_ms=(100, 2000))
        await spread(self._streams, end, over_s, hurry)
        for stream in list(self._streams):
            end(stream)
