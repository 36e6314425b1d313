"""Connections to Redis that keep to the deadline of the attempt that uses them.

A call is several commands, on a connection that may first have to be opened: with a timeout for each of them alone, a
Redis that is paused would block a caller for longer than its budget. Must not know: scripts, retries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, parse_url
from redis.retry import Retry

from notifier.broker.redis.client_info import without_client_info

SHORTEST_S: Final = 0.001
"""A command after the deadline gets so much: 0 would make the socket non-blocking."""


class Deadline(threading.local):
    """When the attempt of this thread ends, by the monotonic clock; None outside of an attempt."""

    at: float | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """A block whose commands all end after `seconds` at the latest."""
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self.at = None

    @property
    def is_over(self) -> bool:
        """Whether this thread's attempt has no time left."""
        return self.at is not None and time.monotonic() >= self.at

    def limit(self, timeout_s: float) -> float:
        """The timeout, or what is left of the attempt if that is less."""
        return timeout_s if self.at is None else max(SHORTEST_S, min(timeout_s, self.at - time.monotonic()))


def connection_pool(
    url: str, *, timeout_s: float, deadline: Deadline, at: tuple[str, int] | None = None
) -> ConnectionPool:
    """A pool for the address, or for another host and port with its credentials and options. `timeout_s` is the upper
    bound for one connect and for one command."""
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    if at is not None:
        options |= {"host": at[0], "port": at[1]}
    base = without_client_info(options.pop("connection_class", Connection))

    class LimitedConnection(base):  # type: ignore[misc, valid-type]  # over TCP, TLS or a Unix socket
        def connect(self) -> None:
            self.socket_connect_timeout = self.socket_timeout = deadline.limit(timeout_s)
            super().connect()

        def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
            self._limit()
            super().send_packed_command(*args, **kwargs)

        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            self._limit()
            return super().read_response(*args, **kwargs)

        def _limit(self) -> None:
            if self._sock is not None:
                self._sock.settimeout(deadline.limit(timeout_s))

    return ConnectionPool(
        connection_class=LimitedConnection,
        **{
            **options,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),  # redis-py would repeat commands without an idempotency key
        },
    )
