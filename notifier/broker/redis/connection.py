"""One connection to Redis. Calls are pipelined: those of one turn of the event loop leave in one write, replies and
pushes are read as they arrive.

Why not redis-py's client: its pub/sub reconnects silently (announcements are lost), does not notice a dead connection,
and costs ten times as much as the reading itself. A `Connection` never reconnects: its `lost` future is done, every
waiting call fails, and its owner opens another and repairs what may have been missed. redis-py parses the address.

Must not know: channels, keys, what the calls mean.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import hiredis
from redis.connection import SSLConnection, parse_url

from notifier.broker.redis.scripts import Script
from notifier.errors import BrokerUnavailable

CONNECT_TIMEOUT_S: Final = 5.0
MAX_WAITING: Final = 20_000
"""Most calls that wait for a reply. Further ones raise `BrokerUnavailable`: a stopped Redis must not fill memory."""

OnPushes = Callable[[Sequence[list[Any]]], None]
"""Takes the pushes of one read that follow each other, without a reply between them. Raises nothing."""
Receive = Callable[[Any], None]
"""Takes the reply to a call: bytes, int, list or None; `hiredis.ReplyError` if Redis refuses the command;
`BrokerUnavailable` if there will be no reply. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is, and the credentials to log in with."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    username: str = ""
    password: str = ""
    database: int = 0
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """An address from `redis://`, `rediss://` or `unix://`. Raises ValueError, and OSError for a CA file or a
        certificate that cannot be read."""
        parts: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        tls = None
        if parts.get("connection_class") is SSLConnection:
            tls = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"))
            if parts.get("ssl_cert_reqs") == "none":
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            if parts.get("ssl_certfile"):
                tls.load_cert_chain(parts["ssl_certfile"], parts.get("ssl_keyfile"))
        return cls(
            host=parts.get("host", "localhost"),
            port=parts.get("port", 6379),
            path=parts.get("path", ""),
            username=parts.get("username", "") or "",
            password=parts.get("password", "") or "",
            database=int(parts.get("db", 0) or 0),
            tls=tls,
        )

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Connection(asyncio.Protocol):
    """An open connection, created by `open_connection`."""

    def __init__(self, on_pushes: OnPushes | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._on_pushes = on_pushes or _ignore
        self._waiting: deque[tuple[Receive, float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._create_future = loop.create_future
        self._call_soon = loop.call_soon
        self._out: list[bytes] = []
        """Commands of this turn of the event loop, not yet written."""
        self.lost: asyncio.Future[Exception] = loop.create_future()
        """Done when the connection is lost; the result is the reason."""
        self.received_at = time.monotonic()
        """When the last data arrived, in monotonic seconds."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received_at = time.monotonic()
        reader = self._reader
        reader.feed(data)
        reply: Any = None
        pushes: list[list[Any]] = []
        try:
            while (reply := reader.gets()) is not _NOTHING:
                if type(reply) is hiredis.PushNotification:
                    pushes.append(reply)
                    continue
                if pushes:
                    self._on_pushes(pushes)
                    pushes = []
                receive, _ = self._waiting.popleft()
                receive(reply)
            if pushes:
                self._on_pushes(pushes)
        except (hiredis.ProtocolError, IndexError) as exc:
            # Not the Redis protocol, or a reply without a call: the rest of the data cannot be assigned to calls.
            what = str(reply) if isinstance(reply, hiredis.ReplyError) else f"an unreadable reply: {exc}"
            self.close(BrokerUnavailable(f"Redis sent {what}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or BrokerUnavailable("Redis closed the connection"))

    # Calls

    def call(self, *command: str | bytes | int | float) -> asyncio.Future[Any]:
        """Send one command. The future's result is the reply (bytes, int, list or None), its exception
        `BrokerUnavailable`, or `hiredis.ReplyError` if Redis refuses the command."""
        answer: asyncio.Future[Any] = self._create_future()
        self.send(partial(settle, answer), *command)
        return answer

    def send(self, receive: Receive, *command: str | bytes | int | float) -> None:
        """Send one command. `receive` gets the reply; at once, if the command cannot be sent."""
        data = pack(command)  # before the call is queued: a command that cannot be packed gets no reply
        if self.lost.done() or self._transport is None:
            receive(BrokerUnavailable("the connection to Redis is lost"))
        elif len(self._waiting) >= MAX_WAITING:
            receive(BrokerUnavailable("too many calls are waiting for Redis"))
        else:
            self._waiting.append((receive, time.monotonic()))
            self._write(data)

    def subscribe(self, command: str, names: Sequence[bytes]) -> None:
        """Write a SUBSCRIBE or UNSUBSCRIBE. Redis confirms each name by a push; a reply is a refusal, and ends the
        connection."""
        if not self.lost.done() and self._transport is not None:
            self._waiting.append((_Confirming(self, command.lower().encode(), deque(names)), time.monotonic()))
            self._write(pack((command, *names)))

    def confirms(self, kind: bytes, name: bytes) -> bool:
        """True for the push that confirms the next name of the oldest SUBSCRIBE or UNSUBSCRIBE; once for each."""
        oldest = self._waiting[0][0] if self._waiting else None
        if not isinstance(oldest, _Confirming) or oldest.kind != kind or oldest.names[0] != name:
            return False
        oldest.names.popleft()
        if not oldest.names:
            self._waiting.popleft()
        return True

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not self.lost.done() and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script by its SHA-1; by its source if Redis has not cached it."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except hiredis.ReplyError as exc:
            if not is_unknown_script(exc):
                raise
        return await self.call("EVAL", script.source, len(keys), *keys, *args)

    @property
    def oldest_wait_s(self) -> float:
        """How long the oldest pending call has waited; 0 if none is pending."""
        return time.monotonic() - self._waiting[0][1] if self._waiting else 0.0

    @property
    def unanswered_s(self) -> float:
        """How long calls have been pending without any data from Redis. A busy Redis keeps answering, even if each call
        waits long."""
        return min(self.oldest_wait_s, time.monotonic() - self.received_at)

    async def has_unread_reply(self) -> bool:
        """True if the oldest pending call is answered after a short pause, in which the event loop reads its sockets.

        After a blocked event loop, calls look old although Redis has answered them.
        """
        oldest = self._waiting[0] if self._waiting else None
        await asyncio.sleep(0.05)
        return oldest is None or not self._waiting or self._waiting[0] is not oldest

    def close(self, reason: Exception | None = None) -> None:
        """Drop the connection at once. Pending calls raise `BrokerUnavailable`."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason or BrokerUnavailable("the connection to Redis was closed"))

    def _end(self, reason: Exception) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        waiting, self._waiting = self._waiting, deque()
        for receive, _ in waiting:
            receive(BrokerUnavailable(f"the connection to Redis was lost: {reason}"))


@dataclass(slots=True, eq=False)
class _Confirming:
    """The place of a SUBSCRIBE or UNSUBSCRIBE among the calls, whose replies could not be told apart without it."""

    connection: Connection
    kind: bytes
    names: deque[bytes]
    """Those that are not confirmed yet."""

    def __call__(self, reply: Any) -> None:
        self.connection.close(BrokerUnavailable(f"Redis refused the subscriptions: {reply}"))


async def open_connection(address: Address, *, name: str, on_pushes: OnPushes | None = None) -> Connection:
    """Connect and authenticate. Raises `BrokerUnavailable`."""
    loop = asyncio.get_running_loop()
    connection = Connection(on_pushes)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if address.path:
                await loop.create_unix_connection(lambda: connection, address.path)
            else:
                await loop.create_connection(lambda: connection, address.host, address.port, ssl=address.tls)
            login = ("AUTH", address.username or "default", address.password) if address.password else ()
            await connection.call("HELLO", 3, *login, "SETNAME", name)
            if address.database:
                await connection.call("SELECT", address.database)
    except (OSError, TimeoutError, hiredis.HiredisError, BrokerUnavailable) as exc:
        connection.close()
        reason = str(exc) or type(exc).__name__
        raise BrokerUnavailable(f"cannot reach Redis at {address}: {reason}") from exc
    except BaseException:
        connection.close()
        raise
    return connection


pack: Callable[[tuple[str | bytes | int | float, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # it takes any number


def _ignore(pushes: Sequence[list[Any]]) -> None:
    """Of a connection without subscriptions."""


def settle(answer: asyncio.Future[Any], reply: Any) -> None:
    """Give a future its result or its exception, unless its caller is gone."""
    if answer.done():
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
        answer.exception()  # marks it as retrieved: asyncio logs nothing if no caller awaits it
    else:
        answer.set_result(reply)


def is_unknown_script(exc: Exception) -> bool:
    """True if Redis does not know the SHA-1 of a script call."""
    return str(exc).startswith("NOSCRIPT")


_NOTHING: Final = object()
