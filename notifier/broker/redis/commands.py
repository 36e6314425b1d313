"""Commands and scripts on a shard's primary, over one connection for all of them.

Must not know: how the connection is opened and watched, channels, streams, subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import hiredis

from notifier.broker.redis.connection import Connection, is_unknown_script, settle
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.primary import NOT_PRIMARY, Primary
from notifier.broker.redis.scripts import (
    FOREIGN_VALUE_ERRORS,
    MALFORMED,
    WRITING,
    Call,
    malformed,
    repair_arguments,
    script,
)
from notifier.errors import BrokerUnavailable, NotifierError

log = logging.getLogger("notifier.broker")

T = TypeVar("T")
_Retry = asyncio.Task[Any]

MOVING: Final = ("TRYAGAIN", "ASK ")
NOT_LOCAL: Final = "non local key"
"""In the errors of a node while it hands the shard's keys over to another one. The call has changed nothing: every
script names all its keys."""
MOVING_S: Final = 3.0
"""How long such a call is repeated."""
MOVING_PAUSE_S: Final = 0.03


class Commands:
    """Runs commands and scripts of one shard. Every call may raise `BrokerUnavailable`."""

    def __init__(self, primary: Primary, keys: Keys) -> None:
        self._primary = primary
        self._keys = keys
        self._retries: set[_Retry] = set()
        self.quarantined = 0
        """Keys renamed because they held a foreign value."""

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
        connection = over or self._primary.connection
        if connection is None:
            raise BrokerUnavailable("Redis is away")
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
                self._primary.wrote_at = time.monotonic()
                if self._primary.confirmations is not None:
                    self._primary.confirm(connection, partial(_settle_confirmed, call, read, result, reply))
                    return
            _settle_read(call, read, result, reply)

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
        connection = self._primary.connection
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

    def confirmation(self) -> Callable[[], Awaitable[None]]:
        """To be called before what is to be confirmed is written, or read: the call that returns when enough replicas
        have it, and raises `BrokerUnavailable` if they do not. At once where no replica is waited for."""
        return partial(self._confirm, self._primary.connection)

    async def _confirm(self, connection: Connection | None) -> None:
        if self._primary.wait_replicas:
            answer = asyncio.get_running_loop().create_future()
            self._primary.confirm(connection, partial(settle, answer))
            try:
                await answer
            finally:
                del answer  # with it, an error and this function's frame would be a cycle

    async def try_once(self, *calls: Sequence[str | bytes | int], within_s: float) -> Any:
        """The answer to the last of these commands on one key, all sent at once. Raises `BrokerUnavailable` if it does
        not arrive in this time, and at once if the shard is moving or the key holds a foreign value."""
        connection = self._primary.connection
        if connection is None:
            raise BrokerUnavailable("Redis is away")
        loop = asyncio.get_running_loop()
        for call in calls[:-1]:
            connection.send(_ignore, *call)
        answer = connection.call(*calls[-1])
        # Not a timeout around the wait: after a blocked event loop, an answer that has been read counts.
        timer = loop.call_later(within_s, settle, answer, BrokerUnavailable(f"no answer within {within_s} s"))
        try:
            return await answer
        except hiredis.ReplyError as exc:
            if str(exc).startswith("WRONGTYPE"):
                with contextlib.suppress(hiredis.ReplyError):
                    await self._repair(connection, [str(calls[-1][1])])
            raise _unavailable(connection, str(calls[-1][0]), exc) from exc
        finally:
            timer.cancel()
            del answer

    def publish_canary(self, channel: bytes, payload: str) -> asyncio.Future[int]:
        """Publish to a channel; the future's result is the number of its subscribers on this Redis."""
        connection = self._primary.connection
        if connection is None:
            raise BrokerUnavailable("Redis is away")
        return connection.call(self._keys.publish_command, channel, payload)

    async def _repair(self, connection: Connection, names: Sequence[str]) -> None:
        """Rename keys that hold foreign values, so that their names can be used again."""
        for name in await connection.run(script("repair"), *repair_arguments(self._keys, names)):
            self.quarantined += 1
            key = name.decode()
            log.error("quarantined a key that holds a foreign value: %s is now %s:foreign", key, key)


def _settle_read(call: Call, read: Callable[[Any], T], result: asyncio.Future[T], reply: Any) -> None:
    try:
        result.set_result(read(reply))
    except NotifierError as exc:
        settle(result, exc)
    except MALFORMED as exc:
        settle(result, malformed(call.script.name, exc))


def _settle_confirmed(
    call: Call, read: Callable[[Any], T], result: asyncio.Future[T], reply: Any, refusal: BrokerUnavailable | None
) -> None:
    if refusal is not None:
        settle(result, refusal)
    elif not result.done():
        _settle_read(call, read, result, reply)


def _ignore(reply: Any) -> None:
    """Of a command whose answer does not matter."""


def _unchanged(answer: Any) -> Any:
    return answer


def _unavailable(connection: Connection, refused: str, exc: hiredis.ReplyError) -> BrokerUnavailable:
    """The error for a refused call. Closes the connection if Redis is not a primary."""
    if str(exc).startswith(NOT_PRIMARY):
        connection.close(BrokerUnavailable(str(exc)))
    return BrokerUnavailable(f"Redis refused {refused}: {exc}")


def is_moving(exc: Exception) -> bool:
    """True if a node refused a call because the shard's keys are on their way to another node."""
    return str(exc).startswith(MOVING) or NOT_LOCAL in str(exc)
