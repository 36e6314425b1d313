"""One connection to Redis: calls are written as they come (pipelined), replies and pushes are read as they come.

Why not redis-py's client: its pub/sub reconnects silently (announcements are lost), does not notice a dead connection,
and costs ten times as much as the reading itself. A `Connection` never reconnects: its `lost` future is done, every
waiting call fails, and its owner opens another and repairs what may have been missed. redis-py parses the address.

Must not know: channels, keys, what is sent.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import hiredis
from redis.connection import SSLConnection, parse_url

from notifier.broker.redis.scripts import Script
from notifier.errors import BrokerUnavailable

CONNECT_TIMEOUT_S: Final = 5.0
MAX_WAITING: Final = 20_000
"""Calls waiting for a reply. One more is refused as `BrokerUnavailable`: a stopped Redis must not fill memory."""

Push = Callable[[list[Any]], None]


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and who we are there."""

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
    """An open connection. Made by `open_connection`."""

    def __init__(self, on_push: Push | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._on_push = on_push
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._create_future = loop.create_future
        self.lost: asyncio.Future[Exception] = loop.create_future()
        """Done, with the reason, once the connection is gone."""
        self.heard_at = time.monotonic()
        """When the last byte came (monotonic seconds)."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _NOTHING:
                if type(reply) is hiredis.PushNotification:
                    if self._on_push is not None:
                        self._on_push(reply)
                    continue
                waiter, _ = self._waiting.popleft()
                if waiter.done():
                    continue
                if isinstance(reply, Exception):
                    waiter.set_exception(reply)
                else:
                    waiter.set_result(reply)
        except (hiredis.ProtocolError, IndexError) as fault:
            # Not Redis, or an answer that nobody asked for: what follows cannot be trusted.
            self.close(BrokerUnavailable(f"Redis sent what cannot be read: {fault}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or BrokerUnavailable("Redis closed the connection"))

    # Calls

    def call(self, *command: str | bytes | int | float) -> asyncio.Future[Any]:
        """Writes one command; the answer is its reply (bytes, int, list, None). Fails with `BrokerUnavailable`, or with
        `hiredis.ReplyError` when Redis refuses the command."""
        waiter: asyncio.Future[Any] = self._create_future()
        if self.lost.done() or self._transport is None:
            waiter.set_exception(BrokerUnavailable("the connection to Redis is lost"))
        elif len(self._waiting) >= MAX_WAITING:
            waiter.set_exception(BrokerUnavailable("too many calls are waiting for Redis"))
        else:
            self._waiting.append((waiter, time.monotonic()))
            self._transport.write(pack(command))
        return waiter

    def push_only(self, *command: str | bytes) -> None:
        """Writes a command that is answered by pushes alone (SUBSCRIBE, UNSUBSCRIBE)."""
        if not self.lost.done() and self._transport is not None:
            self._transport.write(pack(command))

    async def run(self, script: Script, keys: Any, args: Any) -> Any:
        """Runs a script; sends its source where Redis does not know it yet."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except hiredis.ReplyError as fault:
            if not str(fault).startswith("NOSCRIPT"):
                raise
        return await self.call("EVAL", script.source, len(keys), *keys, *args)

    @property
    def oldest_wait_s(self) -> float:
        """For how long the oldest call has been waiting."""
        return time.monotonic() - self._waiting[0][1] if self._waiting else 0.0

    @property
    def silent_s(self) -> float:
        """For how long calls have been waiting while nothing came. A Redis with much to do answers all the time,
        though the newest call waits for long."""
        return min(self.oldest_wait_s, time.monotonic() - self.heard_at)

    async def answers_waiting(self) -> bool:
        """Whether the oldest call is answered once the loop has read what has already come.

        A loop that was held up itself sees old calls and unread answers: Redis is not to blame for that.
        """
        oldest = self._waiting[0][0] if self._waiting else None
        await asyncio.sleep(0.05)
        return oldest is None or oldest.done()

    def close(self, reason: Exception | None = None) -> None:
        """Drops the connection at once; waiting calls fail."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason or BrokerUnavailable("the connection to Redis was closed"))

    def _end(self, reason: Exception) -> None:
        if self.lost.done():
            return
        self.lost.set_result(reason)
        waiting, self._waiting = self._waiting, deque()
        for waiter, _ in waiting:
            if not waiter.done():
                waiter.set_exception(BrokerUnavailable(f"the connection to Redis was lost: {reason}"))
                waiter.exception()  # whoever stopped waiting must not cause a warning


async def open_connection(target: Address, *, name: str, on_push: Push | None = None) -> Connection:
    """Connects and authenticates. Raises `BrokerUnavailable`."""
    loop = asyncio.get_running_loop()
    connection = Connection(on_push)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if target.path:
                await loop.create_unix_connection(lambda: connection, target.path)
            else:
                await loop.create_connection(lambda: connection, target.host, target.port, ssl=target.tls)
            login = ("AUTH", target.username or "default", target.password) if target.password else ()
            await connection.call("HELLO", 3, *login, "SETNAME", name)
            if target.database:
                await connection.call("SELECT", target.database)
    except (OSError, TimeoutError, hiredis.HiredisError, BrokerUnavailable) as fault:
        connection.close()
        reason = str(fault) or type(fault).__name__
        raise BrokerUnavailable(f"cannot reach Redis at {target}: {reason}") from fault
    except BaseException:
        connection.close()
        raise
    return connection


pack: Callable[[tuple[str | bytes | int | float, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # it takes any number


def forget(waiter: asyncio.Future[Any]) -> None:
    """Nobody waits for this answer: its failure is not worth a warning, the connection's end tells."""
    waiter.add_done_callback(lambda done: done.cancelled() or done.exception())


_NOTHING: Final = object()
