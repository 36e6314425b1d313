"""Commands and scripts on a shard's primary: one connection for all of them, reopened when it is lost, and the epoch
rule.

The epoch rule: every new connection compares the primary's identity with the stored identity of the shard. Another
primary, or a restarted one, may have lost its newest writes, so the epoch is replaced before any cursor is judged. A
shard that moves to another node is a lost connection and another primary.

Behind Sentinels, a primary that was replaced goes on answering until each process has noticed. A process that wrote
meanwhile, and is not the first to reach the new primary, begins another epoch: what it answered is not there, and the
streams of the others were reset too early to be excused for it.

Must not know: channels, streams, subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import hiredis

from notifier.broker.redis.connection import Address, Connection, is_unknown_script, open_connection, settle
from notifier.broker.redis.identity import REPLICATION, Identity, check_identity, identity_of
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.layout import Layout
from notifier.broker.redis.places import Places
from notifier.broker.redis.scripts import FOREIGN_VALUE_ERRORS, MALFORMED, Call, malformed, repair_arguments, script
from notifier.errors import BrokerUnavailable, NotifierError
from notifier.event import new_epoch

log = logging.getLogger("notifier.broker")

T = TypeVar("T")
_Retry = asyncio.Task[Any]

CALL_TIMEOUT_S: Final = 3.0
"""A connection on which calls are pending and no data arrives for this long is dropped; the calls fail with it."""
IDENTIFY_TIMEOUT_S: Final = 5.0
"""For opening a connection and checking the primary's identity, together."""
WATCH_EVERY_S: Final = 1.0
RECONNECT_S: Final = (0.05, 2.0)
"""Upper bounds of the first and of the longest random pause between attempts to connect."""

NOT_PRIMARY: Final = ("READONLY", "MASTERDOWN", "LOADING", "MOVED", "CLUSTERDOWN", "NOREPLICAS")
"""Errors of a Redis that is not, or no longer, a usable primary of the shard. The connection is dropped: the next one
applies the epoch rule."""
MOVING: Final = ("TRYAGAIN", "ASK ")
NOT_LOCAL: Final = "non local key"
"""In the errors of a node while it hands the shard's keys over to another one. The call has changed nothing: every
script names all its keys."""
MOVING_S: Final = 3.0
"""How long such a call is repeated."""
MOVING_PAUSE_S: Final = 0.03
SENTINELS_AGREE_S: Final = 10.0
"""How long a Sentinel may name the older primary after another one has named the new (Redis says: seconds)."""
WRITING: Final = frozenset({"publish", "task", "output", "mark", "forget", "retract", "correct"})
"""Scripts whose answer promises that something is stored."""


class Commands:
    """Runs commands and scripts of one shard. Every call may raise `BrokerUnavailable`."""

    def __init__(
        self,
        places: Places,
        keys: Keys,
        shard: int,
        layout: Layout,
        *,
        name: str,
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
        self._on_lost = on_lost
        self._on_back = on_back
        self._connection: Connection | None = None
        self.identity: Identity | None = None
        """The primary behind the connection; None while there is none."""
        self._last_identity: Identity | None = None
        """The primary of the last connection that was used."""
        self._epoch = b""
        """Of the shard, when the connection was opened."""
        self._wrote_at = -math.inf
        """When the last write was answered, in monotonic seconds."""
        self._confirmed_at = -math.inf
        """When the Sentinels last named the connection's primary, in monotonic seconds."""
        self.keeper: asyncio.Task[None] | None = None
        """Watches and reopens the connection."""
        self._retries: set[_Retry] = set()
        self.quarantined = 0
        """Keys renamed because they held a foreign value."""

    async def start(self) -> None:
        """Returns when connected, or when the first attempt failed."""
        with contextlib.suppress(BrokerUnavailable):
            self._connection, self.identity = await self._connect()
        self.keeper = asyncio.create_task(self._keep_connected(), name="redis-calls")

    async def close(self) -> None:
        if self.keeper is not None:
            self.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.keeper
        if self._connection is not None:
            self._connection.close()

    @property
    def alive(self) -> bool:
        return self._connection is not None and not self._connection.lost.done()

    def reconnect(self, reason: str) -> None:
        """Drop the connection and open another: the address leads to another primary now."""
        if self._connection is not None:
            self._connection.close(BrokerUnavailable(reason))

    # Calls

    async def run(self, call: Call) -> Any:
        """Run a script; keys with foreign values are quarantined, and it runs again."""
        return await self.send(call, _unchanged)

    def send(
        self,
        call: Call,
        read: Callable[[Any], T],
        *,
        over: Connection | None = None,
        result: asyncio.Future[T] | None = None,
    ) -> asyncio.Future[T]:
        """As `run`; the call is sent before this returns, and the result is what `read` makes of the answer. Redis runs
        the calls in the order of sending. over: another connection to the same primary, instead of this one. result:
        the future that gets the result, instead of a new one."""
        if self._connection is None:
            raise BrokerUnavailable("Redis is away")
        connection = over or self._connection
        if result is None:
            result = asyncio.get_running_loop().create_future()
        receive = partial(self._receive, connection, call, read, result)
        connection.send(receive, "EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
        return result

    def _receive(
        self, connection: Connection, call: Call, read: Callable[[Any], T], result: asyncio.Future[T], reply: Any
    ) -> None:
        if result.done():
            return  # its caller is gone
        if isinstance(reply, hiredis.ReplyError):
            retry = asyncio.create_task(self._retry(connection, call, reply))
            self._retries.add(retry)
            retry.add_done_callback(partial(self._retried, connection, call, read, result))
        elif isinstance(reply, Exception):
            settle(result, reply)
        else:
            if call.script.name in WRITING:
                self._wrote_at = time.monotonic()
            try:
                result.set_result(read(reply))
            except NotifierError as exc:
                settle(result, exc)
            except MALFORMED as exc:
                settle(result, malformed(call.script.name, exc))

    async def _retry(self, connection: Connection, call: Call, exc: hiredis.ReplyError) -> Any:
        """The answer to a script call that Redis refused: it does not know the script, keys hold foreign values, or the
        shard is moving."""
        deadline, is_repaired = time.monotonic() + MOVING_S, False
        while True:
            try:
                if is_unknown_script(exc):
                    return await connection.call("EVAL", call.script.source, len(call.keys), *call.keys, *call.args)
                if is_moving(exc) and time.monotonic() < deadline:
                    await asyncio.sleep(MOVING_PAUSE_S)
                elif not is_repaired and any(part in str(exc) for part in FOREIGN_VALUE_ERRORS):
                    # Every script reads all its keys before it writes, so the failed run stored nothing.
                    is_repaired = True
                    await self._repair(connection, call.keys)
                else:
                    raise _unavailable(connection, f"the script {call.script.name}", exc) from exc
                return await connection.run(call.script, call.keys, call.args)
            except hiredis.ReplyError as refused:
                exc = refused

    def _retried(
        self, connection: Connection, call: Call, read: Callable[[Any], T], result: asyncio.Future[T], retry: _Retry
    ) -> None:
        self._retries.discard(retry)
        if retry.cancelled():
            result.cancel()
        else:
            self._receive(connection, call, read, result, retry.exception() or retry.result())

    async def call(self, *command: str | bytes | int) -> Any:
        """Run one command."""
        connection = self._connection
        if connection is None:
            raise BrokerUnavailable("Redis is away")
        deadline, is_repaired = time.monotonic() + MOVING_S, False
        while True:
            try:
                return await connection.call(*command)
            except hiredis.ReplyError as exc:
                if is_moving(exc) and time.monotonic() < deadline:
                    await asyncio.sleep(MOVING_PAUSE_S)
                elif not is_repaired and str(exc).startswith("WRONGTYPE"):
                    is_repaired = True
                    await self._repair(connection, [str(command[1])])  # commands on a value name its key first
                else:
                    raise _unavailable(connection, str(command[0]), exc) from exc

    def publish_canary(self, channel: bytes, payload: str) -> asyncio.Future[int]:
        """Publish to a channel; the future's result is the number of its subscribers on this Redis."""
        if self._connection is None:
            raise BrokerUnavailable("Redis is away")
        return self._connection.call(self._keys.publish_command, channel, payload)

    async def _repair(self, connection: Connection, names: Sequence[str]) -> None:
        """Rename keys that hold foreign values, so that their names can be used again."""
        for name in await connection.run(script("repair"), *repair_arguments(self._keys, names)):
            self.quarantined += 1
            key = name.decode()
            log.error("quarantined a key that holds a foreign value: %s is now %s:foreign", key, key)

    # The connection

    async def _connect(self) -> tuple[Connection, Identity]:
        """A connection to a primary on which the epoch rule has been applied."""
        try:
            async with asyncio.timeout(IDENTIFY_TIMEOUT_S):
                address = self._address = await self._places.of(self._shard)
                return await self._places.while_at(
                    self._shard, address, self._identified(address), lambda opened: opened[0].close()
                )
        except TimeoutError as exc:
            raise BrokerUnavailable(f"Redis at {self._places} did not send its identity in time") from exc

    async def _identified(self, address: Address) -> tuple[Connection, Identity]:
        connection, shard = await open_connection(address, name=self._name), self._shard
        try:
            identity = await identity_of(connection)
            await self._layout.require(connection, shard)
            names = [self._keys.epoch(shard), self._keys.identity(shard)]
            writes_lost = self._may_have_written_elsewhere(identity)
            args: list[str | bytes | int] = [str(identity), new_epoch(), int(writes_lost)]
            epoch, replaced = await connection.run(script("identity"), names, args)
            self._last_identity, self._epoch = identity, epoch
            self._confirmed_at = time.monotonic()
            if replaced:
                level = logging.WARNING if replaced == 1 else logging.INFO
                log.log(level, "shard %d begins epoch %s on primary %s", shard, epoch.decode(), identity)
        except (hiredis.HiredisError, BrokerUnavailable) as exc:
            connection.close()
            raise BrokerUnavailable(f"Redis at {address} refused: {exc}") from exc
        except BaseException:
            connection.close()
            raise
        return connection, identity

    def _may_have_written_elsewhere(self, identity: Identity) -> bool:
        """True if this process was answered by a primary that had been replaced by this one."""
        if not self._places.moves_silently or self._last_identity in (None, identity):
            return False
        return self._wrote_at > self._confirmed_at - SENTINELS_AGREE_S

    async def _keep_connected(self) -> None:
        pause_s = RECONNECT_S[0]
        while True:
            if self._connection is not None and not self._connection.lost.done():
                await self._watch(self._connection)
            self.identity = None
            self._on_lost()
            try:
                self._connection, self.identity = await self._connect()
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
            connection.call("GET", identity_key).add_done_callback(same)
            if self._places.moves_silently:
                same = partial(_compare_stored, connection, self._epoch)
                connection.call("GET", epoch_key).add_done_callback(same)
            await asyncio.wait((connection.lost,), timeout=WATCH_EVERY_S)
            if self._places.moves_silently and not connection.lost.done():
                await self._require_same_place(connection)
            if connection.unanswered_s > CALL_TIMEOUT_S and not await connection.has_unread_reply():
                connection.close(BrokerUnavailable(f"no answer within {CALL_TIMEOUT_S} s"))

    async def _require_same_place(self, connection: Connection) -> None:
        """Drop the connection if the primary is elsewhere now. An answer that cannot be had changes nothing."""
        asked_at = time.monotonic()
        with contextlib.suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(WATCH_EVERY_S):
                address = await self._places.of(self._shard)
            if address == self._address:
                self._confirmed_at = asked_at
            else:
                connection.close(BrokerUnavailable(f"the primary is at {address} now, not at {self._address}"))


def _unchanged(answer: Any) -> Any:
    return answer


def _unavailable(connection: Connection, refused: str, exc: hiredis.ReplyError) -> BrokerUnavailable:
    """The error for a refused call. Closes the connection if Redis is not a primary."""
    if str(exc).startswith(NOT_PRIMARY):
        connection.close(BrokerUnavailable(str(exc)))
    return BrokerUnavailable(f"Redis refused {refused}: {exc}")


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


def is_moving(exc: Exception) -> bool:
    """True if a node refused a call because the shard's keys are on their way to another node."""
    return str(exc).startswith(MOVING) or NOT_LOCAL in str(exc)
