"""The brokers under test: memory, SQLite, and Redis: plain, with three shards on one primary and on three, behind
Sentinels, as a cluster with one shard and with twelve, append-only; and a cluster of Valkey. With least rights: plain,
and where writes wait for a replica, behind Sentinels and in a cluster.

A new broker is added to the parameters of `broker` and to `create_broker`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from notifier.broker import Broker
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.redis import confirmations
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.values import History, Options
from tests.broker.support import HISTORY, OUTPUT_BYTES, Recorder
from tests.support import REPOSITORY, RedisServer, running
from tests.topologies import Node, RedisCluster, SentinelGroup


@pytest.fixture
def sink() -> Recorder:
    return Recorder()


@pytest.fixture(scope="package")
def append_only_redis() -> Iterator[RedisServer]:
    with running(RedisServer(append_only=True)) as server:
        yield server


@pytest.fixture(scope="package")
def guarded_redis() -> Iterator[RedisServer]:
    """A Redis whose user has only the rights of deploy/redis-users.acl. Fails if a command was refused."""
    with running(RedisServer(guarded=True)) as server:
        yield server
        with server.client() as client:
            assert client.acl_log() == []


@pytest.fixture(scope="module")
def small_redis() -> Iterator[RedisServer]:
    """A Redis of a module that scans all keys at each step: those of other tests would make every scan slow."""
    with running(RedisServer()) as server:
        yield server


@pytest.fixture
def raw(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the Redis that a module's brokers use. Removes their keys, the module's `KEYS`, after each test."""
    with redis_server.client() as client:
        yield client
        for key in client.scan_iter(f"{request.module.KEYS.prefix}*", count=10_000):  # other tests' keys are there too
            client.delete(key)


LIMITS: dict[str, Any] = {
    "history": History(HISTORY, HISTORY, 3600),
    "max_replay": 12,
    "output_bytes": OUTPUT_BYTES,
}


@dataclass(frozen=True)
class Address:
    """Of several servers."""

    url: str


@pytest.fixture(scope="package")
def several_redis(redis_server: RedisServer, append_only_redis: RedisServer) -> Iterator[Address]:
    with running(RedisServer()) as server:
        yield Address(",".join(each.url for each in (server, redis_server, append_only_redis)))


@contextlib.contextmanager
def guarded(nodes: Sequence[Node]) -> Iterator[None]:
    """The users of deploy/redis-users.acl on these servers, with their names as passwords; `default` stays, for the
    servers themselves. Fails if a command was refused."""
    users = [line.split()[1:] for line in (REPOSITORY / "deploy" / "redis-users.acl").read_text().splitlines()]
    for node in nodes:
        node.call("ACL", "LOG", "RESET")
        for name, *rules in users:
            if name != "default":
                node.call("ACL", "SETUSER", name, *rules, f">{name}")
    yield
    assert [entry for node in nodes for entry in node.call("ACL", "LOG")] == []


@pytest.fixture(scope="package")
def guarded_cluster(redis_cluster: RedisCluster) -> Iterator[Address]:
    with guarded(redis_cluster.nodes):
        yield Address(redis_cluster.url.replace("://", "://notifier:notifier@"))


@pytest.fixture(scope="package")
def guarded_sentinels(sentinels: SentinelGroup) -> Iterator[Address]:
    with guarded(sentinels.nodes):
        yield Address(sentinels.url.replace("://", "://notifier:notifier@"))


SERVERS = {
    "redis": ("redis_server", 1),
    "redis-3-shards": ("redis_server", 3),
    "redis-several": ("several_redis", 1),
    "redis-cluster": ("redis_cluster", 1),
    "redis-valkey-cluster-12-shards": ("valkey_cluster", 12),
    "redis-append-only": ("append_only_redis", 1),
    "redis-sentinel": ("sentinels", 1),
    "redis-guarded": ("guarded_redis", 1),
    "redis-guarded-sentinel": ("guarded_sentinels", 1),
    "redis-guarded-cluster-12-shards": ("guarded_cluster", 12),
}
"""The fixture of each kind of Redis, which has an `url`, and the number of shards."""
CONFIRMED = ("redis-guarded-sentinel", "redis-guarded-cluster-12-shards")
"""The kinds whose writes are answered when a replica has them."""


@pytest.fixture(params=["memory", "sqlite", *SERVERS])
async def broker(request: pytest.FixtureRequest, sink: Recorder) -> AsyncIterator[Broker]:
    started = create_broker(request.param, request)
    await started.start(sink)
    yield started
    await started.close()


ROOMY = ["memory", "sqlite", "redis", "redis-3-shards"]
LARGE = ["redis-several", "redis-sentinel", "redis-valkey-cluster-12-shards"]
"""Kinds with which `make test` runs no case of thousands of messages."""


@pytest.fixture(params=[*ROOMY, *(pytest.param(kind, marks=pytest.mark.full) for kind in LARGE)])
async def roomy_broker(request: pytest.FixtureRequest, sink: Recorder) -> AsyncIterator[Broker]:
    """A broker that keeps thousands of messages for each channel."""
    started = create_broker(request.param, request, history_size=4000)
    await started.start(sink)
    yield started
    await started.close()


def create_broker(kind: str, request: pytest.FixtureRequest, *, history_size: int = HISTORY) -> Broker:
    limits = {**LIMITS, "history": History(history_size, history_size, 3600, topic_size=3)}
    if kind == "memory":
        return MemoryBroker(**limits)
    if kind == "sqlite":
        return SqliteBroker(request.getfixturevalue("tmp_path") / "notifier.db", **limits)
    fixture, shards = SERVERS[kind]
    if kind in CONFIRMED:
        limits["redis_wait_replicas"] = 1
        # A replica on a busy machine may need longer than the service waits.
        request.getfixturevalue("monkeypatch").setattr(confirmations, "WAIT_MS", 30_000)
    options = Options(prefix=f"notifier:t{uuid.uuid4().hex[:8]}:", shards=shards, **limits)
    return RedisBroker.from_url(request.getfixturevalue(fixture).url, options)
