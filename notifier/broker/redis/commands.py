"""The calls to Redis' primary: one connection for all of them, opened again when it is lost, and the epoch rule.

Whoever opens a connection to a primary compares its identity with the one that each shard keeps. Another one may have
lost its newest writes, so the epoch is replaced before any cursor is judged.

Must not know: channels, streams, subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import hiredis

from notifier.broker.redis.connection import Address, Connection, open_connection
from notifier.broker.redis.keys import KINDS, Keys
from notifier.broker.redis.scripts import Call, script
from notifier.errors import BrokerUnavailable
from notifier.event import new_epoch

log = logging.getLogger("notifier.broker")

CALL_TIMEOUT_S: Final = 3.0
"""While calls wait and nothing at all comes for so long, the connection is dead, and they fail with it."""
CONNECT_TIMEOUT_S: Final = 5.0
"""For all of it: the connection, and the look at the primary's identity."""
WATCH_EVERY_S: Final = 1.0
ROLE: Final = "replication"
"""The section of INFO that tells a primary from a replica."""
RECONNECT_S: Final = (0.05, 2.0)
"""First and longest pause before another attempt; each pause is drawn at random below its bound."""

NOT_PRIMARY: Final = ("READONLY", "MASTERDOWN", "LOADING")
"""Refusals of a Redis that is no primary, or no longer: whoever connects again finds out, and keeps the epoch rule."""


class Commands:
    """Runs commands and scripts, or raises `BrokerUnavailable`."""

    def __init__(
        self,
        target: Address,
        keys: Keys,
        *,
        name: str,
        on_lost: Callable[[], None],
        on_back: Callable[[], None],
    ) -> None:
        self._address = target
        self._keys = keys
        self._name = name
        self._on_lost = on_lost
        self._on_back = on_back
        self._connection: Connection | None = None
        self.keeper: asyncio.Task[None]
        self.quarantined = 0
        """Keys that held something else than our names stand for."""

    async def start(self) -> None:
        """Returns when connected, or when the first attempt failed."""
        with contextlib.suppress(BrokerUnavailable):
            self._connection = await self._connect()
        self.keeper = asyncio.create_task(self._keep(), name="redis-calls")

    async def close(self) -> None:
        self.keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.keeper
        if self._connection is not None:
            self._connection.close()

    @property
    def alive(self) -> bool:
        return self._connection is not None and not self._connection.lost.done()

    # Calls

    async def run(self, call: Call) -> Any:
        """One script call."""
        connection = self._connection
        if connection is None:
            raise BrokerUnavailable("Redis is away")
        try:
            try:
                return await connection.run(call.script, call.keys, call.args)
            except hiredis.ReplyError as fault:
                if not any(word in str(fault) for word in ("WRONGTYPE", "not an integer")):
                    raise
                # Somebody wrote something else under our names. Every script reads all its keys before it writes.
                await self._repair(connection, call.keys)
                return await connection.run(call.script, call.keys, call.args)
        except hiredis.ReplyError as fault:
            raise _refused(connection, f"the script {call.script.name}", fault) from fault

    async def call(self, *command: str | int) -> Any:
        """One command."""
        connection = self._connection
        if connection is None:
            raise BrokerUnavailable("Redis is away")
        try:
            return await connection.call(*command)
        except hiredis.ReplyError as fault:
            raise _refused(connection, str(command[0]), fault) from fault

    async def _repair(self, connection: Connection, names: Sequence[str]) -> None:
        """Renames keys that hold foreign values, so that their names can be used again."""
        kinds = [KINDS[self._keys.word(name)] for name in names]
        for name in await connection.run(script("repair"), names, kinds):
            self.quarantined += 1
            log.error(
                "quarantined a key that holds a foreign value: %s is now %s:foreign", name.decode(), name.decode()
            )

    # The connection

    async def _connect(self) -> Connection:
        """A connection whose primary is known: where it is another one than before, the epoch is replaced first."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._identified(await open_connection(self._address, name=self._name))
        except TimeoutError as fault:
            raise BrokerUnavailable(f"Redis at {self._address} did not tell who it is") from fault

    async def _identified(self, connection: Connection) -> Connection:
        try:
            identity = await _identity(connection)
            for shard in range(self._keys.shards):
                names = [self._keys.epoch(shard), self._keys.identity(shard)]
                epoch, replaced = await connection.run(script("identity"), names, [identity, new_epoch()])
                if replaced:
                    level = logging.WARNING if replaced == 1 else logging.INFO
                    log.log(level, "shard %d begins epoch %s on primary %s", shard, epoch.decode(), identity)
        except (hiredis.HiredisError, BrokerUnavailable) as fault:
            connection.close()
            raise BrokerUnavailable(f"Redis at {self._address} refused: {fault}") from fault
        except BaseException:
            connection.close()
            raise
        return connection

    async def _keep(self) -> None:
        pause_s = RECONNECT_S[0]
        while True:
            if self._connection is not None and not self._connection.lost.done():
                await self._watch(self._connection)
            self._on_lost()
            try:
                self._connection = await self._connect()
            except BrokerUnavailable as fault:
                log.warning("%s; trying again", fault)
                await asyncio.sleep(random.uniform(0, pause_s))
                pause_s = min(pause_s * 2, RECONNECT_S[1])
                continue
            pause_s = RECONNECT_S[0]
            self._on_back()

    async def _watch(self, connection: Connection) -> None:
        while not connection.lost.done():
            # Who only reads would not notice that writes are refused; and an idle connection must not be a dead one.
            connection.call("INFO", ROLE).add_done_callback(partial(_judge_role, connection))
            await asyncio.wait((connection.lost,), timeout=WATCH_EVERY_S)
            if connection.silent_s > CALL_TIMEOUT_S and not await connection.answers_waiting():
                connection.close(BrokerUnavailable(f"no answer within {CALL_TIMEOUT_S} s"))


def _refused(connection: Connection, what: str, fault: hiredis.ReplyError) -> BrokerUnavailable:
    """The error for a refusal. The connection is closed where it leads to no primary."""
    if str(fault).startswith(NOT_PRIMARY):
        connection.close(BrokerUnavailable(str(fault)))
    return BrokerUnavailable(f"Redis refused {what}: {fault}")


def _judge_role(connection: Connection, answer: asyncio.Future[bytes]) -> None:
    if not answer.cancelled() and answer.exception() is None and b"role:slave" in answer.result():
        connection.close(BrokerUnavailable("this Redis is a replica now"))


async def _identity(connection: Connection) -> str:
    """What tells one life of one primary from another: its run id and its replication id."""
    found: dict[str, str] = {}
    for section in ("server", ROLE):
        text = (await connection.call("INFO", section)).decode()
        found.update(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if found.get("role") not in (None, "master"):
        raise BrokerUnavailable("this Redis is a replica; the primary is needed")
    return f"{found.get('run_id', '?')}/{found.get('master_replid', '?')}"
