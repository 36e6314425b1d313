"""The connection to Redis' primary: when it is dropped, and when it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

import pytest

from notifier.broker.redis import subscriptions
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.redis.primary import CALL_TIMEOUT_S, IDENTIFY_TIMEOUT_S
from notifier.broker.values import History
from notifier.check import check_broker
from notifier.errors import BrokerUnavailable
from notifier.settings import load
from tests.broker.support import Recorder, note, opened
from tests.faults.clients import until
from tests.faults.proxy import Proxy
from tests.support import RedisServer, running

LIMITS = {"history": History(50, 50, 3600), "max_replay": 100}


@contextlib.asynccontextmanager
async def broker_at(port: int, *, shards: int = 1) -> AsyncIterator[tuple[RedisBroker, Recorder]]:
    sink = Recorder()
    keys = Keys(f"notifier:p{shards}:", shards=shards)
    broker = RedisBroker(One(Address.from_url(f"redis://127.0.0.1:{port}/0")), keys, **LIMITS)
    await broker.start(sink)
    yield broker, sink
    await broker.close()


@pytest.mark.parametrize("noticed_by", ["a write", "a look"])
async def test_a_primary_that_became_a_replica_is_not_used_until_it_is_a_primary_again(
    own_redis: RedisServer, noticed_by: str
) -> None:
    with running(RedisServer()) as other, own_redis.client() as client:
        async with broker_at(own_redis.port) as (broker, sink):
            before = await broker.publish(note())
            client.replicaof("127.0.0.1", other.port)
            await until(lambda: client.info("replication")["role"] == "slave", what="the demotion")
            if noticed_by == "a write":
                with pytest.raises(BrokerUnavailable):
                    await broker.publish(note())
            await until(lambda: sink.away, 10, "degraded")
            assert not broker.ready
            with pytest.raises(BrokerUnavailable):
                await broker.publish(note())
            client.replicaof("NO", "ONE")
            await until(lambda: broker.ready, what="the way back")
            # Writes may have been lost or added meanwhile: a new epoch.
            assert (await broker.publish(note())).epoch != before.epoch


@pytest.mark.parametrize(
    ("replaced", "judged", "warning"),
    [
        ({}, "ok", ""),
        ({b"role:": b"r---:"}, "ok", ""),
        ({b"run_id:": b"r-----:"}, "unknown", "hides run_id: a failover may not be recognised"),
        ({b"master_replid:": b"m------------:"}, "unknown", "hides master_replid: a failover may not be recognised"),
        (
            {b"run_id:": b"r-----:", b"master_replid:": b"m------------:"},
            "weakens",
            "hides run_id and master_replid: a failover is not recognised, and clients miss events without a reset",
        ),
    ],
)
async def test_a_server_that_hides_what_a_failover_is_recognised_by_is_named_once(
    own_redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    replaced: dict[bytes, bytes],
    judged: str,
    warning: str,
) -> None:
    """By the service in its log, and by `check-broker`."""
    async with Proxy(own_redis.port) as proxy:
        proxy.replaced = replaced
        async with broker_at(proxy.port, shards=3) as (broker, sink):
            await broker.publish(note())
            assert proxy.cut(b"SETNAME")
            await until(lambda: sink.away, what="the loss")
            await until(lambda: broker.ready and not broker.shards_away, what="the way back")
        warnings = [each.getMessage() for each in caplog.records if " hides " in each.getMessage()]
        assert len(warnings) == bool(warning)
        assert all(text.endswith(f":{proxy.port} {warning}") for text in warnings)
        settings = load(broker_url=f"redis://127.0.0.1:{proxy.port}/0")
        results = await asyncio.to_thread(lambda: {each.name: each for each in check_broker(settings)})
        assert (results["identity"].verdict, results["role"].verdict) == (judged, "ok")
        assert warning.partition(": ")[2] in results["identity"].seen


async def test_a_connection_that_dies_while_it_reads_the_identity_is_dropped(own_redis: RedisServer) -> None:
    async with Proxy(own_redis.port) as proxy:
        proxy.swallow_from = b"INFO"
        async with broker_at(proxy.port) as (broker, _):
            assert not broker.ready
            proxy.swallow_from = b""
            await until(lambda: broker.ready, IDENTIFY_TIMEOUT_S + 4, "the connection after")
            await broker.publish(note())


async def test_a_dead_connection_without_calls_is_noticed(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "DEAD_AFTER_S", 60.0)
    async with Proxy(own_redis.port) as proxy, broker_at(proxy.port) as (broker, sink):
        await broker.publish(note())
        assert proxy.swallow(b"SETNAME") == 2  # calls and subscriptions
        await until(lambda: sink.away, 20, "degraded, before the subscriptions notice")


async def test_a_primary_that_answers_all_the_time_is_kept_however_long_the_queue(own_redis: RedisServer) -> None:
    async with broker_at(own_redis.port) as (broker, sink):
        await broker.publish(note())
        # Each call takes a tenth of a second, so the last calls wait longer than the limit for a dead connection.
        started = time.monotonic()
        calls = [broker._shards.call(0, "EVAL", SLOW, 0) for _ in range(math.ceil(10 * CALL_TIMEOUT_S) + 12)]
        await asyncio.gather(*calls)
        assert time.monotonic() - started > CALL_TIMEOUT_S + 1.1
        assert sink.away == []
        assert (await opened(broker)).verdict == "new"


SLOW = """
local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
local start = now()
while now() - start < 100 do end
"""
# Redis answers after all commands of one read: with this padding, a read holds few of them.
SLOW += f"-- {'x' * 4000}"
