"""Asks whether replicas have what was written to a shard's primary: `NOTIFIER_REDIS_WAIT_REPLICAS`.

Redis answers a write before a replica has it, and a failover removes what none has. `WAIT` answers how many have it.
One `WAIT` is under way at a time; the writes that are answered meanwhile share the next.

It has a connection of its own, since `WAIT` blocks its connection: reads, further writes and the watch of the primary
go on. `WAIT` covers what its own connection has written, and a repeated call writes nothing. So each `WAIT` follows a
small write, which Redis runs after everything that has been answered.

Must not know: which calls are made, how the connections are opened and watched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from notifier.broker.redis.connection import Connection
from notifier.broker.redis.identity import REPLICATION, Identity, check_identity
from notifier.errors import BrokerUnavailable

log = logging.getLogger("notifier.broker")

WAIT_MS: Final = 1000
"""How long one `WAIT` waits. A write waits for two at most, since one may be under way."""
Confirmed = Callable[[BrokerUnavailable | None], None]
"""Takes None if enough replicas have what was written before, or the reason. Raises nothing."""


class Confirmations:
    """The confirmations of one connection to a primary."""

    def __init__(self, link: Connection, key: str, replicas: int, identity: Identity) -> None:
        """link: a connection for `WAIT` alone, to the primary with this identity. key: where the small write goes."""
        self.link = link
        self._key = key
        self._replicas = replicas
        self._identity = identity
        self._same = (b"role:master\r\n", f"master_replid:{identity.replication_id}\r\n".encode())
        """Lines of INFO by which the identity is known; some of a managed Redis are hidden."""
        self._asked: list[Confirmed] = []
        """Those of the `WAIT` under way."""
        self._due: list[Confirmed] = []
        """Those of the next. As many as calls are waiting for their answers: the API's bounds are theirs."""
        self._is_asking = False
        self._refusal: BrokerUnavailable | None = None
        """Of the `WAIT` under way, as far as it is known."""
        self._is_refusing = False
        """True if the last question was not answered with enough replicas."""

    def ask(self, confirmed: Confirmed) -> None:
        """Call `confirmed` when enough replicas have everything that this primary has answered, or did not confirm it
        in time."""
        self._due.append(confirmed)
        if not self._is_asking:
            self._is_asking = True
            # The answers of one read arrive one after the other: all of them share this question.
            asyncio.get_running_loop().call_soon(self._send)

    def keep_open(self) -> None:
        """To be called every second: Redis may close an idle connection."""
        self.link.call("PING")

    async def require_answers(self, timeout_s: float) -> None:
        """Close the link if Redis has been silent for longer than this and a `WAIT`."""
        silent_s = timeout_s + WAIT_MS / 1000
        if self.link.unanswered_s > silent_s and not await self.link.has_unread_reply():
            self.link.close(BrokerUnavailable(f"no answer to WAIT within {silent_s:g} s"))

    def _send(self) -> None:
        self._asked, self._due = self._due, []
        self._refusal = None
        # Without an end: in a slot that is moving, a key that is absent could not be written.
        self.link.send(self._receive_stored, "SET", self._key, "")
        self.link.send(self._receive_count, "WAIT", self._replicas, WAIT_MS)
        # A primary that was a replica in between may have dropped the writes, and its replicas confirm what is left.
        self.link.send(self._receive_replication, "INFO", REPLICATION)

    def _receive_stored(self, reply: Any) -> None:
        self._refuse_if_failed("SET", reply)

    def _receive_count(self, reply: Any) -> None:
        self._refuse_if_failed("WAIT", reply)
        if self._refusal is None and int(reply) < self._replicas:
            reason = f"{int(reply)} of {self._replicas} replicas confirmed the write within {WAIT_MS} ms"
            self._refusal = BrokerUnavailable(f"{reason}: it may be lost at a failover")

    def _receive_replication(self, reply: Any) -> None:
        self._refuse_if_failed("INFO", reply)
        if self._refusal is None and not all(line in reply for line in self._same):
            try:
                check_identity(self._identity, reply)
            except BrokerUnavailable as exc:
                self._refusal = exc
        self._log_change()
        asked, self._asked = self._asked, []
        for confirmed in asked:
            confirmed(self._refusal)
        self._is_asking = bool(self._due)
        if self._is_asking:
            self._send()

    def _log_change(self) -> None:
        is_refusing = self._refusal is not None
        if is_refusing and not self._is_refusing and not self.link.lost.done():
            log.warning("%s: writes are answered 503 until %d confirm", self._refusal, self._replicas)
        elif self._is_refusing and not is_refusing:
            log.info("enough replicas confirm writes again")
        self._is_refusing = is_refusing

    def _refuse_if_failed(self, command: str, reply: Any) -> None:
        if self._refusal is None and isinstance(reply, Exception):
            if not isinstance(reply, BrokerUnavailable):
                reply = BrokerUnavailable(f"Redis refused {command}: {reply}")
            self._refusal = reply
