"""The topics that a process subscribes to: which are active, and what their announcements mean.

Each announcement of a topic names the previous one. If they do not match, that topic is resynced.

Must not know: connections, how the log is read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from notifier.broker import Sink
from notifier.broker.redis.keys import FORGOTTEN_WORD
from notifier.broker.redis.notes import notes_of
from notifier.errors import BrokerUnavailable
from notifier.event import is_safe_frame
from notifier.exclusion import Exclusion

log = logging.getLogger("notifier.broker")

_LEAD: Final = re.compile(
    rb"([a-z0-9]{1,32}|[-!?]) ([0-9]{1,20}) (-?[0-9]{1,20}) ([!-~]{1,200})"
    rb"(?: (?:\[\[\"\\n@([0-9]{1,20})\"\],\"\"\]|([^\n]+)))?\n(id: \1-\2\n)?",
)
"""What precedes the frame of an announcement: epoch, seq, previous seq, repeat key, perhaps notes (the most frequent,
the time of acceptance alone, is parsed here); then an event's id line, with the same epoch and seq. Epoch `-`: a frame
without id; `!`: end the topic's streams, for the reason in place of the key, with the text `FORGOTTEN_WORD`, which an
earlier version skips, if the user was forgotten; `?`: a text for the processes (`Broker.control`), which an earlier
version skips, or with the key `retract` the id of a message that is gone, with `presence` a channel."""


@dataclass(slots=True, eq=False)
class _Topic:
    name: str
    acknowledged: asyncio.Future[None] | None
    """None once the subscription is active."""
    last: int | None = None
    """Seq of the last announcement; None: unknown."""
    last_is_from_log: bool = False
    """`last` was read from the log. Announcements up to it may still arrive; their events are in the log already."""
    last_at: float = -math.inf
    """When that announcement arrived, in monotonic seconds; unknown for one from the log, which may be old."""
    epoch: bytes = b""
    active: bool = False
    """Subscribed: every announcement is received."""


class Topics:
    """The wanted topics of a process. Keys are the names of Redis' pub/sub channels."""

    def __init__(self, sink: Sink, *, topic_ttl_s: int = 900, is_every: bool = True) -> None:
        """topic_ttl_s: see `History`. is_every: True if these are all topics of the sink's streams."""
        self._sink = sink
        self._topic_ttl_s = topic_ttl_s
        self._is_every = is_every
        self._topics: dict[bytes, _Topic] = {}
        self._unacknowledged: dict[bytes, int] = {}
        """SUBSCRIBE commands without acknowledgement, by topic: two for a topic that was removed and added again."""
        self.skipped = 0
        """Announcements not in notifier's form, which were dropped."""

    def __len__(self) -> int:
        return len(self._topics)

    def keys(self) -> list[bytes]:
        return list(self._topics)

    # Subscribing

    def add(self, names: Sequence[str]) -> tuple[list[bytes], list[asyncio.Future[None]]]:
        """Add topics. Returns the keys to subscribe to, and the futures of those that are not active yet."""
        added = []
        pending = []
        for name in names:
            key = name.encode()
            topic = self._topics.get(key)
            if topic is None:
                topic = self._topics[key] = _Topic(name, asyncio.get_running_loop().create_future())
                added.append(key)
            if topic.acknowledged is not None:
                pending.append(topic.acknowledged)
        return added, pending

    def remove(self, names: Iterable[str]) -> list[bytes]:
        """Remove topics. Returns the keys to unsubscribe from."""
        removed = []
        for key in (name.encode() for name in names):
            if (topic := self._topics.pop(key, None)) is not None:
                removed.append(key)
                _fail_acknowledgement(topic, "the topic was unsubscribed")
        return removed

    def begin(self) -> None:
        """A new connection: no topic is active yet."""
        loop = asyncio.get_running_loop()
        self._unacknowledged.clear()
        for topic in self._topics.values():
            topic.acknowledged = topic.acknowledged or loop.create_future()

    def subscribing(self, keys: Iterable[bytes]) -> None:
        """Count a SUBSCRIBE command for these topics: each is acknowledged once."""
        for key in keys:
            self._unacknowledged[key] = self._unacknowledged.get(key, 0) + 1

    def pending(self) -> list[asyncio.Future[None]]:
        """The futures of the topics that are not active yet."""
        return [topic.acknowledged for topic in self._topics.values() if topic.acknowledged is not None]

    def acknowledge(self, key: bytes) -> None:
        """Make a topic active: Redis has acknowledged its last SUBSCRIBE command."""
        left = self._unacknowledged.pop(key, 1) - 1
        if left > 0:
            self._unacknowledged[key] = left
            return
        topic = self._topics.get(key)
        if topic is not None and topic.acknowledged is not None:
            topic.acknowledged.set_result(None)
            topic.acknowledged = None
            topic.active = True

    def lose(self) -> None:
        """The connection is lost: discard the state of the topics, and fail the calls that wait for them."""
        for topic in self._topics.values():
            topic.last, topic.active = None, False
            _fail_acknowledgement(topic, "the subscriptions are down")

    # Order

    def note_lasts(self, epoch: bytes, lasts: Mapping[str, int]) -> None:
        """The newest seq of topics in the log, for topics without an announcement so far: the first must follow it.

        The log was read on the subscriptions' connection, so a topic that is active now was active then.
        """
        for name, last in lasts.items():
            topic = self._topics.get(name.encode())
            if topic is not None and topic.active and topic.last is None:
                topic.epoch, topic.last, topic.last_is_from_log = epoch, max(last, 0), True
                topic.last_at = -math.inf

    def resync(self) -> None:
        """Reopen all streams of these topics."""
        self._sink.resync(None if self._is_every else [topic.name for topic in self._topics.values()])

    # Announcements

    def receive(self, key: bytes, payload: bytes) -> None:
        """Pass an announcement to the sink, or resync where it does not follow the previous one."""
        topic = self._topics.get(key)
        if topic is None:
            return
        lead = _LEAD.match(payload)
        if lead is None:
            self._skip(key, payload)
            return
        epoch, seq_text, prev, word, accepted, noted, id_line = lead.groups()
        seq, repeat_key = int(seq_text), "" if word == b"-" else word.decode()
        if epoch == b"!":
            is_forgotten = payload[lead.end(4) + 1 :] == FORGOTTEN_WORD.encode()
            self._sink.disconnect(topic.name, repeat_key, forgotten=is_forgotten)
            return
        if epoch == b"?":
            text = payload[lead.end(4) + 1 :]
            if word == b"retract":
                self._sink.retract(topic.name, text.decode("utf-8", "replace"))
            elif word == b"presence":
                self._sink.presence(text.decode("utf-8", "replace"))
            else:
                self._sink.control(text)
            return
        wire, excluded, accepted_us = (
            payload[lead.end() - len(id_line or b"") :],
            None,
            int(accepted) if accepted else 0,
        )
        if noted:
            try:
                excluded, accepted_us = notes_of(noted)
            except ValueError:
                self._skip(key, payload)
                return
        if (id_line is not None) != (seq > 0) or not is_safe_frame(wire, len(id_line or b"")):
            self._skip(key, payload)
        elif seq:
            self._receive_event(topic, epoch, seq, int(prev), repeat_key, wire, excluded, accepted_us)
        else:
            self._sink.deliver_state(topic.name, repeat_key, wire, excluded, accepted_us)

    def _receive_event(
        self,
        topic: _Topic,
        epoch: bytes,
        seq: int,
        prev: int,
        repeat_key: str,
        wire: bytes,
        excluded: Exclusion | None,
        accepted_us: int,
    ) -> None:
        # An event that does not follow the last one is not delivered: if it is genuine, it is in the log, which the
        # resync reads. So neither a lost nor a forged announcement moves a stream past events that it has not received.
        if topic.epoch and topic.epoch != epoch:
            log.warning("a new order of events, %r, began on %s", epoch, topic.name)
            for other in self._topics.values():
                if other.epoch != epoch:  # those that were read in this order know what their next one must follow
                    other.epoch, other.last = b"", None
            self.resync()
            return
        if topic.last is not None and prev != topic.last:
            if topic.last_is_from_log and seq <= topic.last:
                return
            if prev or seq <= topic.last or not self._has_expired(topic):
                log.warning("a hole on %s: %d follows %d, not %d; reading the log", topic.name, seq, prev, topic.last)
                after, topic.last = topic.last, None
                self._sink.resync([topic.name], after=after)
                return
        topic.epoch, topic.last, topic.last_is_from_log, topic.last_at = epoch, seq, False, time.monotonic()
        self._sink.deliver(topic.name, epoch.decode(), seq, repeat_key, wire, excluded, accepted_us)

    def _has_expired(self, topic: _Topic) -> bool:
        """True if Redis may have forgotten the last announcement: it forgets a quiet topic with its history. Half of
        that time is enough, since the announcement may have arrived late."""
        is_topic = topic.name.partition("}:ch:")[2].startswith("topic:")
        return is_topic and time.monotonic() - topic.last_at >= self._topic_ttl_s / 2

    def _skip(self, key: bytes, payload: bytes) -> None:
        self.skipped += 1
        lead = payload.partition(b"\n")[0]
        log.error("skipped an announcement that is not in notifier's form: topic %r, lead %r", key[:200], lead[:80])


def _fail_acknowledgement(topic: _Topic, reason: str) -> None:
    """Raise `BrokerUnavailable` in the calls that wait for the acknowledgement."""
    if topic.acknowledged is not None:
        topic.acknowledged.set_exception(BrokerUnavailable(reason))
        topic.acknowledged.exception()  # marks it as retrieved: asyncio logs nothing if no call waits
        topic.acknowledged = None
