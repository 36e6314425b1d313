"""The subscriptions of a process to one shard: one connection, opened, watched and opened again.

    connect -> same primary as the commands -> subscribe to all wanted topics -> every acknowledgement
            -> canary returned -> live -> lost -> connect ...

The canary is published on the commands' connection and received here, as every event is.

While the connection is not live, announcements are dropped: going live resyncs the shard's streams, which then read the
log. In a cluster, SSUBSCRIBE: plain PUBLISH would go to every node. A shard that moves to another node ends its
subscriptions and leaves the connection open.

Must not know: streams, what an announcement means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import eq
from typing import Any, Final, TypeVar

import hiredis

from notifier.broker import Sink
from notifier.broker.redis.announcements import Topics
from notifier.broker.redis.commands import Commands
from notifier.broker.redis.connection import Connection, open_connection
from notifier.broker.redis.identity import identity_of
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import Places
from notifier.broker.redis.primary import Primary
from notifier.broker.redis.scripts import Call
from notifier.errors import BrokerUnavailable

log = logging.getLogger("notifier.broker")

T = TypeVar("T")

CANARY_EVERY_S: Final = 2.0
DEAD_AFTER_S: Final = 6.0
"""A connection is dropped if PING is not answered, or a published canary does not return, for this long."""
CANARY_WAIT_S: Final = 0.5
RECONNECT_S: Final = (0.05, 2.0)
"""Upper bounds of the first and of the longest random pause between attempts to connect."""
ACKNOWLEDGED_PER_S: Final = 10_000
"""Subscriptions that Redis acknowledges in a second, at least: connecting takes longer with many topics."""
BATCH: Final = 1000
"""Topics of one SUBSCRIBE command."""
_CONFIRMATIONS: Final = frozenset((b"subscribe", b"ssubscribe", b"unsubscribe", b"sunsubscribe"))


class Subscriptions:
    """Keeps the wanted topics subscribed and passes their announcements to the sink."""

    def __init__(
        self,
        places: Places,
        keys: Keys,
        shard: int,
        sink: Sink,
        primary: Primary,
        commands: Commands,
        *,
        process: str,
        name: str,
        topic_ttl_s: int,
        on_change: Callable[[], None],
    ) -> None:
        self._places = places
        self._shard = shard
        self._primary = primary
        self._commands = commands
        self._canary = keys.canary(shard, process).encode()
        self._subscribe, self._unsubscribe = ("SUBSCRIBE", "UNSUBSCRIBE")
        if keys.is_sharded:
            self._subscribe, self._unsubscribe = ("SSUBSCRIBE", "SUNSUBSCRIBE")
        self._name = name
        self._on_change = on_change
        """Called when `live` changes."""
        self._joining = sink.joining
        self.topics = Topics(sink, topic_ttl_s=topic_ttl_s, is_every=keys.shards == 1)
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
        self.keeper: asyncio.Task[None] | None = None
        """Watches and reopens the connection."""

    async def start(self) -> None:
        """Returns when live, or when the first attempt failed."""
        first_attempt = asyncio.Event()
        self.keeper = asyncio.create_task(self._keep_connected(first_attempt), name="redis-subscriptions")
        await first_attempt.wait()

    async def close(self) -> None:
        if self.keeper is not None:
            self.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.keeper
        if self._connection is not None:
            self._connection.close()

    async def add(self, names: Sequence[str]) -> None:
        """Subscribe; returns when Redis has acknowledged every topic. If the connection is not live, the topics are
        subscribed when it is, and `BrokerUnavailable` is raised."""
        pending = self._add(names)
        for acknowledged in pending:
            await asyncio.shield(acknowledged)

    def add_and_send(self, names: Sequence[str], call: Call, read: Callable[[Any], T]) -> asyncio.Future[T]:
        """As `add`, then `Commands.send` on the same connection: Redis runs the call once the topics are subscribed, so
        an event that the call does not see is received. `read` is called while they still are."""
        self._add(names)
        if not self._primary.alive:
            raise BrokerUnavailable("Redis is away")
        return self._commands.send(call, read, over=self._connection)

    def _add(self, names: Sequence[str]) -> list[asyncio.Future[None]]:
        added, pending = self.topics.add(names)
        # Also while the connection is being opened: it goes live only with every topic that is wanted by then.
        if self._connection is not None and not self._connection.lost.done():
            self._send_subscribe(added)
        if not self.live:
            raise BrokerUnavailable("the subscriptions are down")
        return pending

    def remove(self, names: Iterable[str]) -> None:
        """Unsubscribe."""
        removed = self.topics.remove(names)
        if removed and self._connection is not None and not self._connection.lost.done():
            self._send(self._unsubscribe, removed)

    def reconnect(self, reason: str) -> None:
        """Drop the connection, or the attempt at one, and connect at once: this Redis may no longer be the primary."""
        self.live = False
        self._retry_now.set()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is not None:
            self._connection.close(BrokerUnavailable(reason))

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
            if was_live or len(self.topics):
                self.topics.resync()
            was_live = True
            self._on_change()
            first_attempt.set()
            await self._watch(connection)
            self.live = False
            self.topics.lose()
            log.warning("subscriptions: the connection is lost: %s", connection.lost.result())
            self._on_change()

    async def _pause(self, pause_s: float) -> None:
        """Wait before the next attempt, or until `reconnect`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._retry_now.wait(), pause_s)

    async def _open(self) -> Connection:
        """A connection to the commands' primary on which every wanted topic is subscribed and the canary has
        returned."""
        try:
            async with asyncio.timeout(DEAD_AFTER_S):
                address = await self._places.of(self._shard)
        except TimeoutError:
            raise BrokerUnavailable(f"{self._places} did not say where shard {self._shard} is") from None
        connection = await open_connection(address, name=self._name, on_pushes=self._receive)
        self._connection = connection
        try:
            async with asyncio.timeout(DEAD_AFTER_S + len(self.topics) / ACKNOWLEDGED_PER_S):
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
            self.topics.lose()
            if isinstance(exc, hiredis.HiredisError):
                raise BrokerUnavailable(f"Redis at {address} refused: {exc}") from exc
            if isinstance(exc, TimeoutError):
                raise BrokerUnavailable(
                    "the subscriptions were not acknowledged, or the canary did not return"
                ) from None
            raise
        return connection

    async def _subscribe_all(self, connection: Connection) -> None:
        """Subscribe to the canary and to every wanted topic, also to those added meanwhile."""
        self.topics.begin()
        canary = self._canary_acknowledged = asyncio.get_running_loop().create_future()
        self._send(self._subscribe, [self._canary])
        self._send_subscribe(self.topics.keys())
        while pending := [future for future in (canary, *self.topics.pending()) if not future.done()]:
            futures: list[asyncio.Future[Any]] = [*pending[:BATCH], connection.lost]
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            if connection.lost.done():
                raise BrokerUnavailable(str(connection.lost.result()))

    async def _watch(self, connection: Connection) -> None:
        """Returns when the connection is lost. Drops it if PING or the canary gets no answer."""
        while not connection.lost.done():
            connection.call("PING")
            self._send_canary(connection)
            await asyncio.wait((connection.lost,), timeout=CANARY_EVERY_S)
            if connection.oldest_wait_s > DEAD_AFTER_S and not await connection.has_unread_reply():
                connection.close(BrokerUnavailable(f"no answer to PING within {DEAD_AFTER_S} s"))
            overdue_since = self._canary_overdue_since
            if overdue_since is not None and time.monotonic() - overdue_since > DEAD_AFTER_S:
                connection.close(BrokerUnavailable(f"the canary did not return within {DEAD_AFTER_S} s"))

    async def _require_same_primary(self, connection: Connection) -> None:
        """Raises `BrokerUnavailable` if this connection leads to another server than the commands do, as DNS, a virtual
        IP or a proxy can make it in a failover. The commands then reconnect too: what they store at a server that the
        address has left is lost."""
        identity = await identity_of(connection)
        if self._primary.identity is None:
            raise BrokerUnavailable("the commands have no connection to the primary")
        if identity != self._primary.identity:
            reason = (
                f"Redis at {self._places} is two servers: the commands reach {self._primary.identity}, the"
                f" subscriptions {identity}"
            )
            self._primary.reconnect(reason)
            raise BrokerUnavailable(reason)

    def _send_canary(self, connection: Connection) -> None:
        """Publish a canary on the commands' connection, as an event is published."""
        self._canary_returned.clear()
        try:
            published = self._commands.publish_canary(self._canary, "alive?")
        except BrokerUnavailable:
            return  # `reconnect` is called when the commands have a connection again
        published.add_done_callback(partial(self._canary_published, connection))

    def _canary_published(self, connection: Connection, published: asyncio.Future[int]) -> None:
        """Redis has executed the PUBLISH. The timeout starts here, because the calls queued before it may take long."""
        if published.cancelled() or published.exception() is not None or connection is not self._connection:
            return
        if published.result() == 0:
            connection.close(BrokerUnavailable("the commands' Redis does not know the subscriptions"))
        elif not self._canary_returned.is_set() and self._canary_overdue_since is None:
            self._canary_overdue_since = time.monotonic()

    def _send_subscribe(self, keys: list[bytes]) -> None:
        self.topics.subscribing(keys)
        self._send(self._subscribe, keys)

    def _send(self, command: str, keys: list[bytes]) -> None:
        assert self._connection is not None
        for start in range(0, len(keys), BATCH):
            self._connection.subscribe(command, keys[start : start + BATCH])

    # Received pushes

    def _receive(self, pushes: Sequence[list[Any]]) -> None:
        """Announcements that follow each other on one topic, as of a batch, are written to its streams together."""
        if len(pushes) > 1:
            topics = [push[1] for push in pushes]
            if any(map(eq, topics, topics[1:])):
                with self._joining():
                    for push in pushes:
                        self._receive_push(push)
                return
        for push in pushes:
            self._receive_push(push)

    def _receive_push(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == b"message" or kind == b"smessage":
            key = push[1]
            if key == self._canary:
                self._canary_overdue_since = None
                self._canary_returned.set()
            elif self.live:
                self.topics.receive(key, push[2])
        elif kind in _CONFIRMATIONS and self._connection is not None:
            if not self._connection.confirms(kind, push[1]):
                self._connection.close(BrokerUnavailable("the shard has moved"))
            elif not kind.endswith(b"unsubscribe"):
                self._receive_acknowledgement(push[1])

    def _receive_acknowledgement(self, key: bytes) -> None:
        if key == self._canary:
            if self._canary_acknowledged is not None and not self._canary_acknowledged.done():
                self._canary_acknowledged.set_result(None)
            return
        self.topics.acknowledge(key)
