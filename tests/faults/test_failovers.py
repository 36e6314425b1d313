"""Failovers under load that leave the connections as they are: each client is reset, and what follows reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import redis

from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.faults.proxy import Proxy
from tests.faults.publishers import Publisher
from tests.faults.test_nothing_lost import roomy
from tests.support import RedisServer, Service, running


async def test_a_primary_that_was_a_replica_for_a_moment_resets_every_client(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    """It comes back with the data of a server that lacks the newest events, before any process has looked."""
    demotions, slowest_s = scale.whole(1, 10), 0.0
    with (
        running(RedisServer()) as older,
        own_redis.client() as client,
        older.client() as older_client,
        running(Service(redis_url=own_redis.url, env=roomy())) as service,
    ):
        older_client.config_set("repl-diskless-sync-delay", 0)
        listeners = [Listener(service.port, f"u{number}") for number in range(scale.whole(10, 50))]
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners):
            for _ in range(demotions):
                await publisher.publish_for(0.5, 100)
                _copy(client, older_client)

                async def demote() -> None:
                    client.replicaof("127.0.0.1", older.port)
                    await until(lambda: client.info("replication")["master_link_status"] == "up", what="the older data")
                    client.replicaof("NO", "ONE")

                # The demotion may meet any moment of the watch.
                slowest_s = max(slowest_s, await _reset_by(demote, publisher, listeners, seed.uniform(0.2, 0.8)))
            await _what_follows_arrives(service, listeners, seed)
        figure(
            clients=len(listeners),
            demotions=demotions,
            published=len(publisher.acknowledged),
            resets=sum(len(listener.resets) for listener in listeners),
            slowest_reset_s=round(slowest_s, 1),
            silent_losses=0,
        )


async def test_subscriptions_that_reach_another_server_than_the_calls_reset_every_client(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    """The address leads to another server, as in a failover by DNS or a proxy; only the subscriptions reconnect."""
    moves, slowest_s = scale.whole(2, 10), 0.0
    with running(RedisServer()) as other:
        async with Proxy(own_redis.port) as proxy, _service_at(proxy.port) as service:
            listeners = [Listener(service.port, f"u{number}") for number in range(scale.whole(10, 50))]
            publisher = Publisher(service, ["all"], seed)
            async with listening(*listeners):
                for move in range(moves):

                    async def redirect(target: int = (other, own_redis)[move % 2].port) -> None:
                        proxy.target = target
                        assert proxy.cut(b"-sub")

                    slowest_s = max(slowest_s, await _reset_by(redirect, publisher, listeners, 0.3))
                await _what_follows_arrives(service, listeners, seed)
    figure(
        clients=len(listeners),
        moves=moves,
        published=len(publisher.acknowledged),
        refused=publisher.refused,
        resets=sum(len(listener.resets) for listener in listeners),
        slowest_reset_s=round(slowest_s, 1),
        silent_losses=0,
    )


@contextlib.asynccontextmanager
async def _service_at(redis_port: int) -> AsyncIterator[Service]:
    """The service on a Redis that this event loop forwards to, which must not be blocked."""
    service = await asyncio.to_thread(Service, redis_url=f"redis://127.0.0.1:{redis_port}/0", env=roomy())
    try:
        yield service
    finally:
        await asyncio.to_thread(service.stop)


def _copy(source: redis.Redis, target: redis.Redis) -> None:
    target.flushall()
    for key in source.scan_iter("*"):
        ttl_ms = max(0, source.pttl(key))
        if (value := source.dump(key)) is not None:
            target.restore(key, ttl_ms, value, replace=True)


async def _reset_by(
    failover: Callable[[], Awaitable[None]], publisher: Publisher, listeners: Sequence[Listener], pause_s: float
) -> float:
    """Publish, and after a pause let the failover happen. Returns how long it took until every client was reset."""
    publishing = asyncio.create_task(publisher.publish_for(1.5, 100))
    await asyncio.sleep(pause_s)
    began, resets = time.monotonic(), [len(listener.resets) for listener in listeners]
    await failover()
    await _all_reset(listeners, resets)
    took_s = time.monotonic() - began
    await publishing
    return took_s


async def _all_reset(listeners: Sequence[Listener], before: Sequence[int]) -> None:
    await until(
        lambda: all(
            len(listener.resets) > count and listener.live for listener, count in zip(listeners, before, strict=True)
        ),
        30,
        what="a reset at every client",
    )


async def _what_follows_arrives(service: Service, listeners: Sequence[Listener], seed: random.Random) -> None:
    """Messages published from now on reach every client, each once and in order."""
    known = {listener: len(listener.messages) for listener in listeners}
    publisher = Publisher(service, ["all"], seed)
    await publisher.publish_for(1, 100)
    sent = [message_id for _, message_id in publisher.acknowledged]
    await until(lambda: all(listener.messages[-1].data["id"] == sent[-1] for listener in listeners), 30)
    for listener, count in known.items():
        received = [message.data["id"] for message in listener.messages[count:]]
        assert [message_id for message_id in received if message_id in sent] == sent
