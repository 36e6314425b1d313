"""The brokers under test: memory, SQLite, and Redis: plain, with three shards on one primary and on three, behind
Sentinels, as a cluster with one shard and with twelve, append-only, with least rights; and a cluster of Valkey.

A new broker is added to the parameters of `broker` and to `create_broker`.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from notifier.broker import Broker, History, Options
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.sqlite.broker import SqliteBroker
from tests.broker.support import HISTORY, OUTPUT_BYTES, Recorder
from tests.support import RedisServer, running


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


@pytest.fixture
def raw(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the Redis that a module's brokers use. Removes their keys, the module's `KEYS`, after each test."""
    with redis_server.client() as client:
        yield client
        for key in client.scan_iter(f"{request.module.KEYS.prefix}*"):
            client.delete(key)


LIMITS: dict[str, Any] = {
    "history": History(HISTORY, HISTORY, 3600),
    "max_replay": 12,
    "output_bytes": OUTPUT_BYTES,
}


@dataclass(frozen=True)
class Primaries:
    """Several servers, one shard each."""

    url: str


@pytest.fixture(scope="package")
def several_redis(redis_server: RedisServer, append_only_redis: RedisServer) -> Iterator[Primaries]:
    with running(RedisServer()) as server:
        yield Primaries(",".join(each.url for each in (server, redis_server, append_only_redis)))


SERVERS = {
    "redis": ("redis_server", 1),
    "redis-3-shards": ("redis_server", 3),
    "redis-several": ("several_redis", 1),
    "redis-sentinel": ("sentinels", 1),
    "redis-cluster": ("redis_cluster", 1),
    "redis-cluster-12-shards": ("redis_cluster", 12),
    "redis-valkey-cluster-12-shards": ("valkey_cluster", 12),
    "redis-append-only": ("append_only_redis", 1),
    "redis-guarded": ("guarded_redis", 1),
}
"""The fixture of each kind of Redis, which has an `url`, and the number of shards."""


@pytest.fixture(params=["memory", "sqlite", *SERVERS])
async def broker(request: pytest.FixtureRequest, sink: Recorder) -> AsyncIterator[Broker]:
    started = create_broker(request.param, request)
    await started.start(sink)
    yield started
    await started.close()


@pytest.fixture(params=["memory", "sqlite", "redis", "redis-3-shards"])
async def roomy_broker(request: pytest.FixtureRequest, sink: Recorder) -> AsyncIterator[Broker]:
    """A broker that keeps thousands of messages for each channel."""
    started = create_broker(request.param, request, history_size=4000)
    await started.start(sink)
    yield started
    await started.close()


def create_broker(kind: str, request: pytest.FixtureRequest, *, history_size: int = HISTORY) -> Broker:
    limits = {**LIMITS, "history": History(history_size, history_size, 3600)}
    if kind == "memory":
        return MemoryBroker(**limits)
    if kind == "sqlite":
        return SqliteBroker(request.getfixturevalue("tmp_path") / "notifier.db", **limits)
    fixture, shards = SERVERS[kind]
    options = Options(prefix=f"notifier:t{uuid.uuid4().hex[:8]}:", shards=shards, **limits)
    return RedisBroker.from_url(request.getfixturevalue(fixture).url, options)
