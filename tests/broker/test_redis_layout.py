"""Processes with other shards than those of the stored layout stop, and say why."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys, slot_of
from notifier.broker.redis.places import One
from notifier.broker.values import History, Options
from notifier.errors import BrokerUnavailable, ConfigurationError
from tests.broker.support import Recorder
from tests.support import RedisServer, running
from tests.topologies import RedisCluster

LIMITS: dict[str, Any] = {"history": History(50, 50, 3600), "max_replay": 100}


def broker_of(url: str, prefix: str, shards: int = 1) -> RedisBroker:
    return RedisBroker.from_url(url, Options(prefix=prefix, shards=shards, **LIMITS))


async def stored_by(url: str, prefix: str, shards: int = 1) -> None:
    broker = broker_of(url, prefix, shards)
    await broker.start(Recorder())
    assert broker.ready
    await broker.close()


async def refusal(url: str, prefix: str, shards: int = 1) -> str:
    broker = broker_of(url, prefix, shards)
    with pytest.raises(ConfigurationError) as caught:
        await broker.start(Recorder())
    await broker.close()
    return str(caught.value)


async def test_other_shards_than_the_stored_ones_are_refused(redis_server: RedisServer) -> None:
    prefix = f"notifier:l{uuid.uuid4().hex[:8]}:"
    await stored_by(redis_server.url, prefix, 3)
    await stored_by(redis_server.url, prefix, 3)
    assert "Redis has the shards '3 plain', and this process has '2 plain'" in await refusal(
        redis_server.url, prefix, 2
    )


async def test_several_primaries_are_refused_in_another_order_and_alone(redis_server: RedisServer) -> None:
    prefix = f"notifier:l{uuid.uuid4().hex[:8]}:"
    with running(RedisServer()) as other:
        await stored_by(f"{redis_server.url},{other.url}", prefix)
        assert "'2 several 1', and this process has '2 several 0'" in await refusal(
            f"{other.url},{redis_server.url}", prefix
        )
        assert "'2 several 0', and this process has '2 plain'" in await refusal(redis_server.url, prefix, 2)


async def test_a_node_of_a_cluster_is_refused_without_the_cluster(redis_cluster: RedisCluster) -> None:
    """With one shard both have the same keys, but one announces with PUBLISH and the other with SPUBLISH."""
    prefix = f"notifier:l{uuid.uuid4().hex[:8]}:"
    await stored_by(redis_cluster.url, prefix)
    node = redis_cluster.primary_of(slot_of(Keys(prefix).layout))
    assert "'1 sharded', and this process has '1 plain'" in await refusal(node.url, prefix)


async def test_a_cluster_is_refused_beside_one_of_its_nodes(redis_cluster: RedisCluster) -> None:
    prefix = f"notifier:l{uuid.uuid4().hex[:8]}:"
    node = redis_cluster.primary_of(slot_of(Keys(prefix).layout))
    await stored_by(node.url, prefix)
    assert "'1 plain', and this process has '1 sharded'" in await refusal(redis_cluster.url, prefix)


@pytest.mark.programs
async def test_a_process_that_started_without_its_redis_ends_when_it_finds_another_layout() -> None:
    with running(RedisServer()) as server:
        prefix = f"notifier:l{uuid.uuid4().hex[:8]}:"
        server.kill()
        broker = broker_of(server.url, prefix, 2)
        await broker.start(Recorder())
        assert not broker.ready
        server.start()
        with server.client() as client:
            client.set(broker._keys.layout, "3 plain")
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(broker.failed(), 20)
        assert caught.group_contains(ConfigurationError, match="'3 plain', and this process has '2 plain'")
        with pytest.raises(ConfigurationError):
            await broker.close()


class LayoutAway(One):
    """The server that has the layout does not answer."""

    is_away = True

    async def of_layout(self) -> Address | None:
        if self.is_away:
            raise BrokerUnavailable("it does not answer")
        return None


async def test_a_layout_that_could_not_be_compared_at_first_is_compared_later(redis_server: RedisServer) -> None:
    prefix = f"notifier:l{uuid.uuid4().hex[:8]}:"
    await stored_by(redis_server.url, prefix, 3)
    places = LayoutAway(Address.from_url(redis_server.url))
    broker = RedisBroker(places, Keys(prefix, 2), **LIMITS)
    await broker.start(Recorder())
    assert broker.ready
    places.is_away = False
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(broker.failed(), 20)
    assert caught.group_contains(ConfigurationError, match="'3 plain', and this process has '2 plain'")
    with pytest.raises(ConfigurationError):
        await broker.close()
