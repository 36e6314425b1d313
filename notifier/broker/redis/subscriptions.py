"""The subscriptions of a process, on one connection: which topics are wanted, which are active, what they announce.

    connect -> same primary as the commands -> subscribe to all wanted topics -> every acknowledgement
            -> canary returned -> live -> lost -> connect ...

The canary is published by the commands and returns here: an event takes the same way.

While the connection is not live, announcements are dropped: going live resyncs every stream, which then reads the log.
Each announcement of a topic names the previous one. If they do not match, that topic is resynced.

Must not know: streams, how the log is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import hiredis

from notifier.broker import Sink
from notifier.broker.redis.commands import Commands
from notifier.broker.redis.connection import Address, Connection, ignore_reply, open_connection
from notifier.broker.redis.identity import identity_of
from notifier.errors import BrokerUnavailable
from notifier.event import is_safe_frame

log = logging.getLogger("notifier.broker")

CANARY_EVERY_S: Final = 2.0
DEAD_AFTER_S: Final = 6.0
"""A connection is dropped if PING is not answered, or a published canary does not return, for this long."""
CANARY_WAIT_S: Final = 0.5
RECONNECT_S: Final = (0.05, 2.0)
"""Upper bounds of the first and of the longest random pause between attempts to connect."""
ACKNOWLEDGED_PER_S: Final = 10_000
"""Subscriptions that Redis acknowledges in a second, at least: connecting takes longer with many topics."""
_LEAD: Final = re.compile(
    rb"([a-z0-9]{1,32}|[-!]) ([0-9]{1,20}) (-?[0-9]{1,20}) ([!-~]{1,200})\n(id: \1-\2\n)?",
)
"""What precedes the frame of an announcement: epoch, seq, previous seq, repeat key; then an event's id line, with the
same epoch and seq. Epoch `-`: a frame without id; `!`: end the topic's streams, for the reason in place of the key."""
BATCH: Final = 1000
"""Topics of one SUBSCRIBE command."""


@dataclass(slots=True, eq=False)
class _Topic:
    name: str
    acknowledged: asyncio.Future[None] | None
    """None once the subscription is active."""
    last: int | None = None
    """Seq of the last announcement; None: unknown."""
    last_is_from_log: bool = False
    """`last` was read from the log. Announcements up to it may still arrive; their events are in the log already."""
    epoch: bytes = b""
    generation: int = 0
    """Number of its acknowledgement; 0 while the subscription is not active."""


class Subscriptions:
    """Keeps the wanted topics subscribed and passes their announcements to the sink."""

    def __init__(
        self,
        address: Address,
        sink: Sink,
        commands: Commands,
        *,
        canary: str,
        name: str,
        on_change: Callable[[], None],
    ) -> None:
        self._address = address
        self._sink = sink
        self._commands = commands
        self._canary = canary.encode()
        self._name = name
        self._on_change = on_change
        """Called when `live` changes."""
        self._topics: dict[bytes, _Topic] = {}
        self._unacknowledged: dict[bytes, int] = {}
        """SUBSCRIBE commands without acknowledgement, by topic: two for a topic that was removed and added again."""
        self._generations = 0
        self._connection: Connection | None = None
        self._attempt: asyncio.Task[Connection] | None = None
        """The attempt to connect that is under way."""
        self._retry_now = asyncio.Event()
        self._canary_acknowledged: asyncio.Future[None] | None = None
        self._canary_returned = asyncio.Event()
        self._canary_overdue_since: float | None = None
        """When the first canary was published that has not returned, in monotonic seconds."""
        self.live = False
        """True if an event announced now would be received."""
        self.skipped = 0
        """Announcements not in notifier's form, which were dropped."""
        self.keeper: asyncio.Task[None]
        """Watches and reopens the connection."""

    async def start(self) -> None:
        """Returns when live, or when the first attempt failed."""
        first_attempt = asyncio.Event()
        self.keeper = asyncio.create_task(self._keep_connected(first_attempt), name="redis-subscriptions")
        await first_attempt.wait()

    async def close(self) -> None:
        self.keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.keeper
        if self._connection is not None:
            self._connection.close()

    def __len__(self) -> int:
        return len(self._topics)

    async def add(self, names: Sequence[str]) -> None:
        """Subscribe; returns when Redis has acknowledged every topic. If the connection is not live, the topics are
        subscribed when it is, and `BrokerUnavailable` is raised."""
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
        # Also while the connection is being opened: it goes live only with every topic that is wanted by then.
        if self._connection is not None and not self._connection.lost.done():
            self._send_subscribe(added)
        if not self.live:
            raise BrokerUnavailable("the subscriptions are down")
        for acknowledged in pending:
            await asyncio.shield(acknowledged)

    def remove(self, names: Iterable[str]) -> None:
        """Unsubscribe."""
        removed = []
        for key in (name.encode() for name in names):
            if (topic := self._topics.pop(key, None)) is not None:
                removed.append(key)
                _fail_acknowledgement(topic, "the topic was unsubscribed")
        if removed and self._connection is not None and not self._connection.lost.done():
            self._send("UNSUBSCRIBE", removed)

    def reconnect(self, reason: str) -> None:
        """Drop the connection, or the attempt at one, and connect at once: this Redis may no longer be the primary."""
        self.live = False
        self._retry_now.set()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is not None:
            self._connection.close(BrokerUnavailable(reason))

    def generations(self, names: Sequence[str]) -> dict[str, int]:
        """The active subscriptions among these topics, by name. A call that Redis executes later sees every event that
        they miss; see `note_lasts`."""
        topics = {name: self._topics.get(name.encode()) for name in names}
        return {name: topic.generation for name, topic in topics.items() if topic is not None and topic.generation}

    def note_lasts(self, epoch: bytes, lasts: Mapping[str, int], generations: Mapping[str, int]) -> None:
        """The newest seq of topics in the log, for topics without an announcement so far: the first must follow it.

        `generations` is from before the log was read. A subscription that was lost and made anew since may have missed
        announcements that followed: what was read does not concern it.
        """
        for name, last in lasts.items():
            topic = self._topics.get(name.encode())
            if topic is not None and topic.last is None and topic.generation == generations.get(name, -1):
                topic.epoch, topic.last, topic.last_is_from_log = epoch, max(last, 0), True

    # The connection

    async def _keep_connected(self, first_attempt: asyncio.Event) -> None:
        pause_s = RECONNECT_S[0]
        was_live = False
        while True:
            self._retry_now.clear()
            self._attempt = asyncio.create_task(self._open(), name="redis-subscriptions-attempt")
            try:
                connection = await self._attempt
            except BrokerUnavailable as exc:
                log.warning("subscriptions: %s; trying again", exc)
                first_attempt.set()
                await self._pause(random.uniform(0, pause_s))
                pause_s = min(pause_s * 2, RECONNECT_S[1])
                continue
            except asyncio.CancelledError:
                if (keeper := asyncio.current_task()) is not None and keeper.cancelling():
                    raise
                continue  # `reconnect` cancelled the attempt, not the keeper
            finally:
                self._attempt = None
            pause_s = RECONNECT_S[0]
            # No await from here until resync() returned: no announcement may come in between.
            self.live = True
            if was_live or self._topics:
                self._sink.resync(None)
            was_live = True
            self._on_change()
            first_attempt.set()
            await self._watch(connection)
            self.live = False
            self._forget_connection()
            log.warning("subscriptions: the connection is lost: %s", connection.lost.result())
            self._on_change()

    async def _pause(self, pause_s: float) -> None:
        """Wait before the next attempt, or until `reconnect`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._retry_now.wait(), pause_s)

    def _forget_connection(self) -> None:
        """Discard what is known of the topics, and fail the calls that wait for an acknowledgement."""
        for topic in self._topics.values():
            topic.last, topic.generation = None, 0
            _fail_acknowledgement(topic, "the subscriptions are down")

    async def _open(self) -> Connection:
        """A connection to the commands' primary on which every wanted topic is subscribed and the canary has
        returned."""
        connection = await open_connection(self._address, name=self._name, on_push=self._receive)
        self._connection = connection
        try:
            async with asyncio.timeout(DEAD_AFTER_S + len(self._topics) / ACKNOWLEDGED_PER_S):
                await self._require_same_primary(connection)
                await self._subscribe_all(connection)
                self._canary_returned.clear()
                self._canary_overdue_since = None
                while not self._canary_returned.is_set():
                    self._send_canary(connection)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._canary_returned.wait(), CANARY_WAIT_S)
                    if connection.lost.done():
                        raise BrokerUnavailable(str(connection.lost.result()))
        except BaseException as exc:
            connection.close()
            self._forget_connection()
            if isinstance(exc, hiredis.HiredisError):
                raise BrokerUnavailable(f"Redis at {self._address} refused: {exc}") from exc
            if isinstance(exc, TimeoutError):
                raise BrokerUnavailable(
                    "the subscriptions were not acknowledged, or the canary did not return"
                ) from None
            raise
        return connection

    async def _subscribe_all(self, connection: Connection) -> None:
        """Subscribe to the canary and to every wanted topic, also to those added meanwhile."""
        loop = asyncio.get_running_loop()
        self._unacknowledged.clear()
        for topic in self._topics.values():
            topic.acknowledged = topic.acknowledged or loop.create_future()
        canary = self._canary_acknowledged = loop.create_future()
        self._send("SUBSCRIBE", [self._canary])
        self._send_subscribe(list(self._topics))
        # Not a list made once: topics are added meanwhile.
        while pending := [
            acknowledged
            for acknowledged in (canary, *(topic.acknowledged for topic in self._topics.values()))
            if acknowledged is not None and not acknowledged.done()
        ]:
            futures: list[asyncio.Future[Any]] = [*pending[:BATCH], connection.lost]
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            if connection.lost.done():
                raise BrokerUnavailable(str(connection.lost.result()))

    async def _watch(self, connection: Connection) -> None:
        """Returns when the connection is lost. Drops it if PING or the canary gets no answer."""
        while not connection.lost.done():
            ignore_reply(connection.call("PING"))
            self._send_canary(connection)
            await asyncio.wait((connection.lost,), timeout=CANARY_EVERY_S)
            if connection.oldest_wait_s > DEAD_AFTER_S and not await connection.has_unread_reply():
                connection.close(BrokerUnavailable(f"no answer to PING within {DEAD_AFTER_S} s"))
            overdue_since = self._canary_overdue_since
            if overdue_since is not None and time.monotonic() - overdue_since > DEAD_AFTER_S:
                connection.close(BrokerUnavailable(f"the canary did not return within {DEAD_AFTER_S} s"))

    async def _require_same_primary(self, connection: Connection) -> None:
        """Two connections to one address may lead to two servers: DNS, a virtual IP or a proxy in a failover."""
        identity = await identity_of(connection)
        if self._commands.identity is None:
            raise BrokerUnavailable("the commands have no connection to the primary")
        if identity != self._commands.identity:
            raise BrokerUnavailable(
                f"Redis at {self._address} is two servers: the commands reach {self._commands.identity}, the"
                f" subscriptions {identity}"
            )

    def _send_canary(self, connection: Connection) -> None:
        """Publish a canary by the commands: it takes the way of an event."""
        self._canary_returned.clear()
        try:
            published = self._commands.publish_canary(self._canary, "alive?")
        except BrokerUnavailable:
            return  # when the commands are back, they have this connection replaced
        published.add_done_callback(partial(self._canary_published, connection))

    def _canary_published(self, connection: Connection, published: asyncio.Future[int]) -> None:
        """Redis has executed the PUBLISH. Only now does the canary's time begin: the calls before it may take long."""
        if published.cancelled() or published.exception() is not None or connection is not self._connection:
            return
        if published.result() == 0:
            connection.close(BrokerUnavailable("the commands' Redis does not know the subscriptions"))
        elif not self._canary_returned.is_set() and self._canary_overdue_since is None:
            self._canary_overdue_since = time.monotonic()

    def _send_subscribe(self, keys: list[bytes]) -> None:
        for key in keys:
            self._unacknowledged[key] = self._unacknowledged.get(key, 0) + 1
        self._send("SUBSCRIBE", keys)

    def _send(self, command: str, keys: list[bytes]) -> None:
        assert self._connection is not None
        for start in range(0, len(keys), BATCH):
            self._connection.push_only(command, *keys[start : start + BATCH])

    # Received pushes

    def _receive(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"message":
            self._receive_announcement(push[1], push[2])
        elif kind == b"subscribe":
            self._receive_acknowledgement(push[1])

    def _receive_acknowledgement(self, key: bytes) -> None:
        if key == self._canary:
            if self._canary_acknowledged is not None and not self._canary_acknowledged.done():
                self._canary_acknowledged.set_result(None)
            return
        left = self._unacknowledged.pop(key, 1) - 1
        if left > 0:
            self._unacknowledged[key] = left
            return
        topic = self._topics.get(key)
        if topic is not None and topic.acknowledged is not None:
            topic.acknowledged.set_result(None)
            topic.acknowledged = None
            self._generations += 1
            topic.generation = self._generations

    def _receive_announcement(self, key: bytes, payload: bytes) -> None:
        if key == self._canary:
            self._canary_overdue_since = None
            self._canary_returned.set()
            return
        topic = self._topics.get(key)
        if topic is None or not self.live:
            return
        lead = _LEAD.match(payload)
        if lead is None:
            self._skip(key, payload)
            return
        epoch, seq_text, prev, word, id_line = lead.groups()
        seq, repeat_key = int(seq_text), "" if word == b"-" else word.decode()
        if epoch == b"!":
            self._sink.disconnect(topic.name, repeat_key)
            return
        wire = payload[lead.end(4) + 1 :]
        if (id_line is not None) != (seq > 0) or not is_safe_frame(wire, len(id_line or b"")):
            self._skip(key, payload)
        elif seq:
            self._receive_event(topic, epoch, seq, int(prev), repeat_key, wire)
        else:
            self._sink.deliver_state(topic.name, repeat_key, wire)

    def _receive_event(self, topic: _Topic, epoch: bytes, seq: int, prev: int, repeat_key: str, wire: bytes) -> None:
        # An event that does not follow the last one is not delivered: if it is genuine, it is in the log, which the
        # resync reads. So neither a lost nor a forged announcement moves a stream past events that it has not received.
        if topic.epoch and topic.epoch != epoch:
            log.warning("a new order of events, %r, began on %s", epoch, topic.name)
            for other in self._topics.values():
                other.epoch, other.last = b"", None
            self._sink.resync(None)
            return
        if topic.last is not None and prev != topic.last:
            if topic.last_is_from_log and seq <= topic.last:
                return
            log.warning("a hole on %s: %d follows %d, not %d; reading the log", topic.name, seq, prev, topic.last)
            after, topic.last = topic.last, None
            self._sink.resync([topic.name], after=after)
            return
        topic.epoch, topic.last, topic.last_is_from_log = epoch, seq, False
        self._sink.deliver(topic.name, epoch.decode(), seq, repeat_key, wire)

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
