"""Clients of the primaries, by shard: of one primary, several, that of Sentinels, or the nodes of a cluster.

A place is asked for within an attempt, and again after a call has failed. Behind Sentinels, a primary that was replaced
goes on answering: where the new one lacks what the older one has answered, another epoch begins, as in the service.
Must not know: scripts, retries.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from typing import Any, Final

import redis
from redis.exceptions import MovedError, NoPermissionError
from redis.sentinel import Sentinel

from django_bridge.conf import Settings
from django_bridge.publisher.redis_connection import Deadline, connection_pool
from django_bridge.publisher.transport import Unreachable
from notifier.broker.redis.addresses import host_of, keys_of, parse_target
from notifier.broker.redis.keys import layout_error, slot_of
from notifier.broker.values import IDEMPOTENCY_TTL_S
from notifier.event import new_epoch

log = logging.getLogger("django_bridge")

Host = tuple[str, int]

TIMEOUT_SHARE: Final = 0.4
"""Share of the time budget for one connect or one command, so that a hanging attempt leaves time for another."""
ASK_SENTINELS_EVERY_S: Final = 1.0
"""A primary that was cut off goes on answering: only the Sentinels know that there is another."""
CHECK_LAYOUT_EVERY_S: Final = 5.0
"""How often the node of the layout is asked while it is away. Each question may take a connect's share of a call."""
REMEMBERED: Final = 64
"""Newest writes of a shard that a new primary is asked for: threads that write at the same time end in any order."""


class _Written:
    """The newest writes to a shard that one primary has answered."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.keys: deque[str] = deque(maxlen=REMEMBERED)
        """Their idempotency keys."""
        self.at = 0.0
        """When the last was answered, in monotonic seconds."""


class RedisPlaces:
    """The client of each shard. Thread-safe."""

    def __init__(self, settings: Settings, deadline: Deadline) -> None:
        """Raises ValueError for an address that cannot be used. Connects to nothing."""
        self._target = parse_target(settings.redis_url)
        self.keys = keys_of(self._target, settings.prefix, settings.shards)
        self._deadline = deadline
        self._limits: dict[str, Any] = {"timeout_s": settings.timeout_s * TIMEOUT_SHARE, "deadline": deadline}
        self._clients: dict[tuple[str, Host | None], redis.Redis] = {}
        """By plain address, and the host that stands in place of its own."""
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._primary: Host | None = None
        """As the Sentinels know it."""
        self._slots: list[tuple[int, int, Host]] = []
        """First and last slot of each range, and its node."""
        self._turn = 0
        """Which node is asked next: one that was cut off has an old map."""
        self._checked: set[int] = set()
        """The shards whose layout was compared."""
        self._layout_asked_at = -math.inf
        """While the node of the layout is away: when it was asked, in monotonic seconds."""
        self._written: dict[int, _Written] = {}
        """By shard, behind Sentinels: what its last primary has answered."""

    def of(self, shard: int) -> redis.Redis:
        """The client of a shard's primary. Raises `RedisError`, and `Unreachable` if the stored layout of the shards
        is another."""
        client = self._at(slot_of(self.keys.seq(shard)), shard)
        if shard not in self._checked and self._has_this_layout(shard, client):
            self._checked.add(shard)
        written = self._written.get(shard)
        if written is not None and written.client is not client and self._written.pop(shard, None) is written:
            try:
                self._begin_epoch_without(written, shard, client)
            except redis.RedisError:
                self._written.setdefault(shard, written)
                raise
        return client

    def wrote(self, shard: int, client: redis.Redis, key: str) -> None:
        """A primary has answered a write that stores this idempotency key."""
        if self._target.mode == "sentinel":
            written = self._written.get(shard)
            if written is None or written.client is not client:
                written = self._written[shard] = _Written(client)
            written.keys.append(key)
            written.at = time.monotonic()

    def _begin_epoch_without(self, written: _Written, shard: int, client: redis.Redis) -> None:
        """Begin another epoch if the new primary lacks a write. Clients that were reset before its answer do not learn
        of it."""
        if time.monotonic() - written.at > IDEMPOTENCY_TTL_S / 2:
            return  # the keys expire: what is missing says nothing
        names = set(written.keys)
        if client.exists(*names) < len(names):
            log.warning("shard %d of Redis was replaced and lacks the newest writes: another epoch begins", shard)
            client.set(self.keys.epoch(shard), new_epoch())

    def ask_again(self, shard: int) -> None:
        """A call has failed: the shard may be elsewhere now."""
        self._slots, self._primary = [], None
        self._checked.discard(shard)

    def close(self) -> None:
        for client in list(self._clients.values()):
            client.connection_pool.disconnect()

    def _has_this_layout(self, shard: int, client: redis.Redis) -> bool:
        """Store the layout if none is stored. Raises `Unreachable` if it is another. False if that is not known: a
        cluster has it on one node, and while that is away the shards of the others are used, as by the service."""
        here = self.keys.layout_at(shard)
        if not self.keys.is_sharded:
            stored = _stored(client, self.keys.layout, here)
        else:
            now = time.monotonic()
            if now - self._layout_asked_at < CHECK_LAYOUT_EVERY_S:
                return False
            if self._layout_asked_at > -math.inf:
                self._layout_asked_at = now  # before the answer: other threads need not wait for it too
            try:
                stored = _stored(self._at(slot_of(self.keys.layout), shard), self.keys.layout, here)
            except (NoPermissionError, MovedError):
                raise
            except redis.RedisError as exc:
                if self._deadline.is_over:
                    raise  # this says nothing about the node
                log.warning("the layout of the shards could not be checked: %s", exc)
                self._layout_asked_at = now
                self._slots = []  # another node may have it now
                return False
            self._layout_asked_at = -math.inf
        if stored not in (None, here):
            raise Unreachable(layout_error(self.keys, here, stored))
        return True

    def _at(self, slot: int, shard: int) -> redis.Redis:
        target = self._target
        if target.mode == "sentinel":
            return self._client(target.primary, self._primary_now())
        if target.mode == "cluster":
            return self._client(target.urls[0], self._node_of(slot))
        return self._client(target.urls[shard if target.mode == "several" else 0])

    def _client(self, url: str, at: Host | None = None) -> redis.Redis:
        with self._lock:
            client = self._clients.get((url, at))
            if client is None:
                pool = connection_pool(url, at=at, **self._limits)
                client = self._clients[url, at] = redis.Redis(connection_pool=pool)
            return client

    def _primary_now(self) -> Host:
        primary = self._primary
        if primary is None or time.monotonic() - self._asked_at > ASK_SENTINELS_EVERY_S:
            sentinel = Sentinel([])  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            sentinel.sentinels = [self._client(url) for url in self._target.urls]
            host, port = sentinel.discover_master(self._target.service)  # type: ignore[no-untyped-call]  # as above
            self._primary, self._asked_at = primary, _ = (str(host), int(port)), time.monotonic()
        return primary

    def _node_of(self, slot: int) -> Host:
        slots = self._slots or self._ask_the_cluster()
        for first, last, host in slots:
            if first <= slot <= last:
                return host
        raise redis.exceptions.ClusterDownError(f"no node has the slot {slot}")

    def _ask_the_cluster(self) -> list[tuple[int, int, Host]]:
        urls = self._target.urls
        known = list(self._clients.values()) or [self._client(url) for url in urls]
        self._turn += 1
        exc: redis.RedisError | None = None
        clients = [*known, *(self._client(url) for url in urls)]
        start = self._turn % len(clients)
        for client in (*clients[start:], *clients[:start]):
            try:
                # As two words: redis-py has no form of its own for this answer.
                rows: Any = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]  # as above
            except redis.RedisError as refused:
                exc = refused
                continue
            asked = client.connection_pool.connection_kwargs["host"]
            self._slots = [
                (first, last, (host_of(primary[0], asked), int(primary[1]))) for first, last, primary, *_ in rows
            ]
            return self._slots
        raise exc or redis.ConnectionError("no node of the cluster answers")


def _stored(client: redis.Redis, key: str, value: str) -> str | None:
    """The value of a key, which is set if there is none."""
    stored: Any = client.set(key, value, nx=True, get=True)
    return None if stored is None else bytes(stored).decode("utf-8", "replace")
