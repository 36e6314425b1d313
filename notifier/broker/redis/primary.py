"""The connection for calls to a shard's primary: opened, watched and opened again when it is lost; the epoch rule.

The epoch rule: every new connection compares the primary's identity with the stored identity of the shard. Another
primary, or a restarted one, may have lost its newest writes, so the epoch is replaced before any cursor is judged. A
shard that moves to another node is a lost connection and another primary.

Behind Sentinels, a primary that was replaced goes on answering until each process has noticed. One that is cut off with
it, and with one Sentinel, notices nothing. A process that wrote after most Sentinels last named its primary, and is not
the first to reach the new one, begins another epoch: what it was answered is not there, and the streams of the others
were reset too early to be excused for it.

Must not know: which calls are made, channels, streams, subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import hiredis

from notifier.broker.redis.confirmations import Confirmations, Confirmed
from notifier.broker.redis.connection import Address, Connection, open_connection
from notifier.broker.redis.identity import REPLICATION, Identity, check_identity, identity_of
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.layout import Layout
from notifier.broker.redis.places import Places
from notifier.broker.redis.scripts import script
from notifier.errors import BrokerUnavailable
from notifier.event import new_epoch
from notifier.histogram import Histogram

log = logging.getLogger("notifier.broker")

CALL_TIMEOUT_S: Final = 3.0
"""A connection on which calls are pending and no data arrives for this long is dropped; the calls fail with it."""
IDENTIFY_TIMEOUT_S: Final = 5.0
"""For opening a connection and checking the primary's identity, together."""
WATCH_EVERY_S: Final = 1.0
SILENT_S: Final = 0.5
"""A connection without an answer for this long may lead to a primary that was replaced."""
RECONNECT_S: Final = (0.05, 2.0)
"""Upper bounds of the first and of the longest random pause between attempts to connect."""

NOT_PRIMARY: Final = ("READONLY", "MASTERDOWN", "LOADING", "MOVED", "CLUSTERDOWN", "NOREPLICAS")
"""Errors of a Redis that is not, or no longer, a usable primary of the shard. The connection is dropped: the next one
applies the epoch rule."""
SENTINELS_AGREE_S: Final = 10.0
"""How long a Sentinel may name the older primary after another one has named the new (Redis says: seconds)."""


_Opened = tuple[Connection, Identity, Confirmations | None]


class Primary:
    """The primary of one shard, for `Commands`."""

    def __init__(
        self,
        places: Places,
        keys: Keys,
        shard: int,
        layout: Layout,
        *,
        name: str,
        wait_replicas: int,
        on_lost: Callable[[], None],
        on_back: Callable[[], None],
    ) -> None:
        self._places = places
        self._address: Address | None = None
        """Where the last connection leads."""
        self._keys = keys
        self._shard = shard
        self._layout = layout
        self._name = name
        self.wait_replicas = wait_replicas
        """How many replicas must have a write before it is answered."""
        self._on_lost = on_lost
        self._on_back = on_back
        self.connection: Connection | None = None
        """The last connection, which may be lost."""
        self.identity: Identity | None = None
        """The primary behind the connection; None while there is none."""
        self.confirmations: Confirmations | None = None
        """Of the connection's writes; None where no replica is waited for."""
        self._last_identity: Identity | None = None
        """The primary of the last connection that was used."""
        self._epoch = b""
        """Of the shard, when the connection was opened."""
        self.wrote_at = -math.inf
        """When the last write was answered, in monotonic seconds: set by those who make the calls."""
        self.round_trips = Histogram()
        """Of a command among all others on the connection, once a second: each call waits as long."""
        self._confirmed_at = -math.inf
        """When most Sentinels last named the connection's primary, in monotonic seconds."""
        self._confirming: asyncio.Task[None] | None = None
        """Asks them: not waited for, as one of them may hang."""
        self._is_layout_known = False
        """True if the layout was compared on this connection."""
        self.keeper: asyncio.Task[None] | None = None
        """Watches and reopens the connection."""

    async def start(self) -> None:
        """Returns when connected, or when the first attempt failed."""
        with contextlib.suppress(BrokerUnavailable):
            self.connection, self.identity, self.confirmations = await self._connect()
        self.keeper = asyncio.create_task(self._keep_connected(), name="redis-calls")

    async def close(self) -> None:
        try:
            if self.keeper is not None:
                self.keeper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self.keeper  # raises what has ended it
        finally:
            if self._confirming is not None:
                self._confirming.cancel()
            if self.connection is not None:
                self.connection.close()
            if self.confirmations is not None:
                self.confirmations.link.close()

    @property
    def alive(self) -> bool:
        return self.connection is not None and not self.connection.lost.done()

    def reconnect(self, reason: str) -> None:
        """Drop the connection and open another: the address leads to another primary now."""
        if self.connection is not None:
            self.connection.close(BrokerUnavailable(reason))

    # Opening and watching

    async def _connect(self) -> _Opened:
        """A connection to a primary on which the epoch rule has been applied."""
        try:
            async with asyncio.timeout(IDENTIFY_TIMEOUT_S):
                address = self._address = await self._places.of(self._shard)
                return await self._places.while_at(
                    self._shard, address, self._identified(address), lambda opened: opened[0].close()
                )
        except TimeoutError as exc:
            raise BrokerUnavailable(f"Redis at {self._places} did not send its identity in time") from exc

    async def _identified(self, address: Address) -> _Opened:
        connection, shard = await open_connection(address, name=self._name), self._shard
        try:
            identity = await identity_of(connection)
            confirmations = await self._confirmations_of(connection, address, identity)
            self._is_layout_known = await self._layout.require(connection, shard)
            names = [self._keys.epoch(shard), self._keys.identity(shard)]
            writes_lost = self._may_have_written_elsewhere(identity)
            args: list[str | bytes | int] = [str(identity), new_epoch(), int(writes_lost)]
            epoch, replaced = await connection.run(script("identity"), names, args)
            self._last_identity, self._epoch = identity, epoch
            if replaced:
                level = logging.WARNING if replaced == 1 else logging.INFO
                log.log(level, "shard %d begins epoch %s on primary %s", shard, epoch.decode(), identity)
        except (hiredis.HiredisError, BrokerUnavailable) as exc:
            connection.close()
            raise BrokerUnavailable(f"Redis at {address} refused: {exc}") from exc
        except BaseException:
            connection.close()
            raise
        return connection, identity, confirmations

    async def _confirmations_of(
        self, connection: Connection, address: Address, identity: Identity
    ) -> Confirmations | None:
        """Those of a connection. If one of the two connections is lost, so is the other: an answer over the one says
        nothing about another primary."""
        if not self.wait_replicas:
            return None
        link = await open_connection(address, name=f"{self._name}-wait")
        connection.lost.add_done_callback(lambda lost: link.close(lost.result()))
        link.lost.add_done_callback(lambda lost: connection.close(lost.result()))
        if await identity_of(link) != identity:
            raise BrokerUnavailable("two connections lead to different servers")
        return Confirmations(link, self._keys.replicated(self._shard), self.wait_replicas, identity)

    def confirm(self, connection: Connection | None, confirmed: Confirmed) -> None:
        """Call `confirmed` when replicas have everything that was answered over this connection."""
        if self.confirmations is None or connection is not self.connection:
            confirmed(BrokerUnavailable("the connection to Redis was lost before replicas confirmed the write"))
        else:
            self.confirmations.ask(confirmed)

    def _may_have_written_elsewhere(self, identity: Identity) -> bool:
        """True if this process was answered by a primary that had been replaced by this one."""
        if not self._places.moves_silently or self._last_identity in (None, identity):
            return False
        return self.wrote_at > self._confirmed_at - SENTINELS_AGREE_S

    async def _keep_connected(self) -> None:
        pause_s = RECONNECT_S[0]
        while True:
            if self.connection is not None and not self.connection.lost.done():
                await self._watch(self.connection)
            self.identity = None
            self._on_lost()
            try:
                self.connection, self.identity, self.confirmations = await self._connect()
            except BrokerUnavailable as exc:
                log.warning("%s; trying again", exc)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._places.moved(self._shard, self._address), random.uniform(0, pause_s))
                pause_s = min(pause_s * 2, RECONNECT_S[1])
                continue
            pause_s = RECONNECT_S[0]
            self._on_back()

    async def _watch(self, connection: Connection) -> None:
        """Returns when the connection is lost. Drops it if Redis stops answering or becomes a replica."""
        identity_key, epoch_key = self._keys.identity(self._shard), self._keys.epoch(self._shard)
        while not connection.lost.done():
            # A process that only reads would not see writes refused, and on an idle connection a loss goes unnoticed.
            assert self.identity is not None
            connection.call("INFO", REPLICATION).add_done_callback(partial(_compare, connection, self.identity))
            same = partial(_compare_stored, connection, str(self.identity).encode())
            stored = connection.call("GET", identity_key)
            stored.add_done_callback(same)
            stored.add_done_callback(partial(self._note_round_trip, time.monotonic()))
            if self._places.moves_silently:
                same = partial(_compare_stored, connection, self._epoch)
                connection.call("GET", epoch_key).add_done_callback(same)
            if self.confirmations is not None:
                self.confirmations.keep_open()
            waiting = self._wait(connection)
            if self._is_layout_known:
                await waiting
            else:
                _, self._is_layout_known = await asyncio.gather(waiting, self._layout.require(connection, self._shard))
            if self._places.moves_silently and not connection.lost.done():
                await self._require_same_place(connection)
            if connection.unanswered_s > CALL_TIMEOUT_S and not await connection.has_unread_reply():
                connection.close(BrokerUnavailable(f"no answer within {CALL_TIMEOUT_S} s"))
            if self.confirmations is not None:
                await self.confirmations.require_answers(CALL_TIMEOUT_S)

    async def _wait(self, connection: Connection) -> None:
        """Until the next look, or the connection is lost. A server that hangs is asked nothing more once another is the
        primary: `CALL_TIMEOUT_S` may be far."""
        if connection.unanswered_s < SILENT_S:
            await asyncio.wait((connection.lost,), timeout=WATCH_EVERY_S)
            return
        moved = asyncio.create_task(self._places.moved(self._shard, self._address))
        try:
            await asyncio.wait((connection.lost, moved), timeout=WATCH_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            if moved.done() and connection.unanswered_s >= SILENT_S:
                connection.close(BrokerUnavailable(f"Redis at {self._address} was replaced"))
        finally:
            moved.cancel()

    def _note_round_trip(self, sent_at: float, answer: asyncio.Future[bytes | None]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self.round_trips.observe_s(time.monotonic() - sent_at)

    async def _require_same_place(self, connection: Connection) -> None:
        """Drop the connection if the primary is elsewhere now. An answer that cannot be had changes nothing."""
        asked_at = time.monotonic()
        with contextlib.suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(WATCH_EVERY_S):
                address = await self._places.of(self._shard)
            if address != self._address:
                connection.close(BrokerUnavailable(f"the primary is at {address} now, not at {self._address}"))
            elif self._confirming is None or self._confirming.done():
                self._confirming = asyncio.create_task(self._confirm(address, asked_at))

    async def _confirm(self, address: Address, asked_at: float) -> None:
        if await self._places.is_agreed(self._shard, address):
            self._confirmed_at = asked_at


def _compare(connection: Connection, identity: Identity, info: asyncio.Future[bytes]) -> None:
    """Close the connection if its Redis is a replica now, or was one since the connection was opened."""
    if info.cancelled() or info.exception() is not None:
        return
    try:
        check_identity(identity, info.result())
    except BrokerUnavailable as exc:
        connection.close(exc)


def _compare_stored(connection: Connection, expected: bytes, stored: asyncio.Future[bytes | None]) -> None:
    """Close the connection if the shard's identity or epoch is not, or no longer, that of when it was opened: another
    process has met another primary, or the shard has moved. None was deleted, with all else: the scripts see that."""
    if stored.cancelled():
        return
    exc = stored.exception()
    if exc is None and stored.result() not in (None, expected):
        connection.close(BrokerUnavailable("the shard was used on another primary meanwhile"))
    elif str(exc).startswith(NOT_PRIMARY):
        connection.close(BrokerUnavailable(str(exc)))
