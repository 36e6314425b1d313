"""A cluster under load whose slots move and whose primaries fail: nothing is lost silently, and the other shards do not
notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from notifier.broker.redis.commands import MOVING_S
from notifier.broker.redis.primary import CALL_TIMEOUT_S
from tests.faults.clients import until
from tests.faults.conftest import FAULT_KINDS, Scale
from tests.faults.load import Load, Site, is_well, loaded, others, round_of, seen, site_on, under_load
from tests.faults.proxy import Proxy
from tests.support import running
from tests.topologies import Node, RedisCluster

Figure = Callable[..., None]
SILENT_S = 2.0
"""How long a primary may be silent in the cases of dead primaries (s)."""


@pytest.fixture(scope="module", params=FAULT_KINDS)
def cluster(request: pytest.FixtureRequest, scale: Scale) -> Iterator[RedisCluster]:
    """A cluster that has no takeover of itself."""
    with running(RedisCluster(request.param)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def site(cluster: RedisCluster) -> Iterator[Site]:
    """A service on it, for the tests of this module."""
    with running(site_on(cluster.url, workers=2)) as site:
        yield site


@pytest.fixture(params=FAULT_KINDS)
def mortal_cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """A cluster whose replicas take over soon, and whose data outlives a kill."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with running(RedisCluster(request.param, node_timeout_s=SILENT_S, options=options)) as cluster:
        yield cluster


def shards_at(load: Load, cluster: RedisCluster, *nodes: Node) -> list[int]:
    """The shards of these primaries."""
    return [shard for shard in load.listeners if cluster.primary_of(load.slot(shard)) in nodes]


async def test_a_slot_that_moves_loses_nothing_and_concerns_no_other_shard(
    cluster: RedisCluster, site: Site, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    load = await moved_by(cluster, site, cluster.move, seed, scale)
    figure(**seen(load))


@pytest.mark.full
@pytest.mark.parametrize("cluster", ["valkey"], indirect=True)
async def test_a_slot_that_moves_at_once_loses_nothing_and_concerns_no_other_shard(
    cluster: RedisCluster, site: Site, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    load = await moved_by(cluster, site, cluster.move_atomically, seed, scale)
    figure(**seen(load))
    assert load.longest_refused_s < scale.bound_s(0.5)


def shards_to_move(load: Load, seed: random.Random, scale: Scale) -> list[int]:
    return [seed.choice(list(load.listeners)) for _ in range(scale.whole(1, 5))]


async def moved_by(
    cluster: RedisCluster, site: Site, move: Callable[[int, Node], None], seed: random.Random, scale: Scale
) -> Load:
    """Move slots of shards under load."""
    async with loaded(site, seed) as load:
        moved = set()
        for shard in shards_to_move(load, seed, scale):
            moved.add(shard)
            slot = load.slot(shard)
            await asyncio.to_thread(move, slot, cluster.other_primary(cluster.primary_of(slot)))
            await load.goes_on()
            await round_of(load, scale)
    load.assert_unaffected(others(load, list(moved)))
    assert load.gone == 0
    return load


async def test_a_move_that_stops_halfway_refuses_its_shard_only(
    cluster: RedisCluster, site: Site, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    async with loaded(site, seed) as load:
        moved = set()
        for shard in shards_to_move(load, seed, scale):
            moved.add(shard)
            slot = load.slot(shard)
            source = cluster.primary_of(slot)
            move = cluster.begin_move(slot, cluster.other_primary(source))
            # The counter of events, which every publish needs, and half of the others.
            keys = await asyncio.to_thread(move.keys)
            await asyncio.to_thread(move.carry, {load.keys.seq(shard), *seed.sample(keys, len(keys) // 2)})
            await load.refuses(load.users[shard])
            await load.goes_on([load.users[other] for other in others(load, list(moved))])
            await asyncio.to_thread(move.finish)
            await load.goes_on()
            await round_of(load, scale)
    unaffected = others(load, list(moved))
    load.assert_unaffected(unaffected)
    # Also those whose idempotency key belongs to the shard that moves.
    assert all(load.users[shard].longest_s() < scale.bound_s(MOVING_S) for shard in unaffected)
    assert load.gone == 0
    figure(**seen(load))


@pytest.mark.full
async def test_an_idle_shard_that_moves_is_noticed(
    cluster: RedisCluster, site: Site, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    slowest_s, moved = 0.0, set[int]()
    async with loaded(site, seed) as load:
        for _ in range(scale.whole(1, 5)):
            await round_of(load, scale)
            load.pause()
            shard = seed.choice(list(load.listeners))
            moved.add(shard)
            listener, slot = load.listeners[shard], load.slot(shard)
            await asyncio.sleep(seed.uniform(0.2, 1.2))  # any moment of the watch
            resets, began = len(listener.resets), time.monotonic()
            await asyncio.to_thread(cluster.move, slot, cluster.other_primary(cluster.primary_of(slot)))
            await until(lambda: len(listener.resets) > resets and is_well(listener), 60, "a reset")  # noqa: B023
            slowest_s = max(slowest_s, listener.resets[-1].at - began)
            load.go_on()
            await load.goes_on()
    load.assert_unaffected(others(load, list(moved)))
    assert load.gone == 0
    figure(**{**seen(load), "outage_s": round(slowest_s, 2)})
    assert slowest_s < scale.bound_s(1.5)


async def test_a_manual_failover_loses_nothing(
    cluster: RedisCluster, site: Site, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    async with loaded(site, seed) as load:
        for _ in range(scale.whole(1, 5)):
            shard = seed.choice(list(load.listeners))
            slot = load.slot(shard)
            concerned = shards_at(load, cluster, cluster.primary_of(slot))
            before = load.troubles(others(load, concerned))
            await asyncio.to_thread(cluster.fail_over, slot)
            await load.goes_on()
            await asyncio.to_thread(cluster.wait_until_whole)
            await round_of(load, scale)
            assert load.troubles(before) == before
    assert load.gone == 0
    figure(**seen(load))
    assert max(load.longest_degraded_s, load.longest_publish_s) < scale.bound_s(1)


@pytest.mark.parametrize("end", ["killed", pytest.param("hung", marks=pytest.mark.full)])
async def test_a_primary_that_is_silent_is_replaced_and_returns_as_a_replica(
    mortal_cluster: RedisCluster, end: str, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    cluster, slowest_s, slowest_elected_s = mortal_cluster, 0.0, 0.0
    async with under_load(cluster.url, seed) as load:
        for _ in range(scale.whole(1, 5)):
            silent = cluster.primary_of(load.slot(seed.choice(list(load.listeners))))
            concerned = shards_at(load, cluster, silent)
            before = load.troubles(others(load, concerned))
            replica = cluster.replica_of(silent)
            (silent.kill if end == "killed" else silent.pause)()
            began = time.monotonic()
            await load.goes_on([load.users[other] for other in before])
            await until(lambda: replica.is_primary, 60, "another primary")  # noqa: B023
            slowest_elected_s = max(slowest_elected_s, time.monotonic() - began)
            await load.goes_on()
            slowest_s = max(slowest_s, time.monotonic() - began)
            await asyncio.to_thread(silent.start if end == "killed" else silent.resume)
            await asyncio.to_thread(cluster.wait_until_whole)
            assert not silent.is_primary
            await load.goes_on()
            await round_of(load, scale)
            assert load.troubles(before) == before
            # Also those whose idempotency key belongs to a shard of the silent primary.
            assert all(load.users[other].longest_s(began) < scale.bound_s(CALL_TIMEOUT_S) for other in before)
    slowest = {"slowest_elected_s": round(slowest_elected_s, 1), "slowest_back_s": round(slowest_s, 1)}
    figure(**seen(load, gone=load.gone, **slowest))
    assert max(load.longest_degraded_s, load.longest_publish_s) < scale.bound_s(SILENT_S + 3)


@pytest.mark.full
async def test_two_of_three_primaries_die_and_come_back(
    mortal_cluster: RedisCluster, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    cluster = mortal_cluster
    async with under_load(cluster.url, seed) as load:
        for _ in range(scale.whole(1, 5)):
            dead = seed.sample(cluster.primaries, 2)
            for node in dead:
                node.kill()
            # The shards of the third too: it knows after the node timeout that it is alone.
            await until(lambda: not any(map(is_well, load.listeners.values())), 60, "degraded")
            for node in dead:
                await asyncio.to_thread(node.start)
            await asyncio.to_thread(cluster.wait_until_whole)
            await load.goes_on()
            await round_of(load, scale)
    figure(**seen(load, gone=load.gone))


@pytest.mark.full
async def test_a_refused_ssubscribe_degrades_the_shards_of_its_node_only(
    cluster: RedisCluster, site: Site, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    async with loaded(site, seed) as load:
        node = cluster.primary_of(load.slot(0))
        concerned = shards_at(load, cluster, node)
        for _ in range(scale.whole(1, 5)):
            node.call("ACL", "SETUSER", "default", "-ssubscribe")
            try:
                node.call("CLIENT", "KILL", "TYPE", "pubsub")
                await degraded_alone(load, concerned)
            finally:
                node.call("ACL", "SETUSER", "default", "+ssubscribe")
            await until(lambda: all(map(is_well, load.listeners.values())), 60, "live again")
            await round_of(load, scale)
    load.assert_unaffected(others(load, concerned))
    assert (load.gone, load.resets) == (0, 0)
    figure(**seen(load))


@pytest.mark.parametrize("kind", FAULT_KINDS)
async def test_a_service_that_is_cut_off_from_a_node_degrades_its_shards_only(
    kind: str, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    async with behind_a_proxy(kind) as (cluster, proxy), under_load(cluster.url, seed) as load:
        node = cluster.nodes[0]
        concerned = shards_at(load, cluster, node)
        for _ in range(scale.whole(1, 5)):
            await led_astray(load, proxy, 1, b"SETNAME", concerned)
            await round_of(load, scale)
        load.assert_unaffected(others(load, concerned))
        assert load.resets == 0
    assert load.gone == 0
    figure(**seen(load))


@pytest.mark.full
@pytest.mark.parametrize("kind", FAULT_KINDS)
async def test_a_subscription_that_reaches_a_replica_is_not_used(
    kind: str, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    """A replica accepts SSUBSCRIBE, and what is published at its primary may come late there, or not at all."""
    async with behind_a_proxy(kind) as (cluster, proxy), under_load(cluster.url, seed) as load:
        node = cluster.nodes[0]
        concerned = shards_at(load, cluster, node)
        for _ in range(scale.whole(1, 5)):
            await led_astray(load, proxy, cluster.replica_of(node).port, b"-sub", concerned)
            await round_of(load, scale)
        load.assert_unaffected(others(load, concerned))
        assert load.resets == 0
    assert load.gone == 0
    figure(**seen(load))


@contextlib.asynccontextmanager
async def behind_a_proxy(kind: str) -> AsyncIterator[tuple[RedisCluster, Proxy]]:
    """A cluster whose first primary is named to clients, and to its replica, with the port of a proxy."""
    async with Proxy(0) as proxy:

        def announce(port: int) -> int:
            proxy.target = port
            return proxy.port

        with running(await asyncio.to_thread(RedisCluster, kind, announced={0: announce})) as cluster:
            yield cluster, proxy


async def degraded_alone(load: Load, shards: list[int]) -> None:
    """Wait until no stream of these shards is live, while the others go on."""
    await until(lambda: not any(is_well(load.listeners[shard]) for shard in shards), 60, "degraded")
    await load.goes_on([load.users[shard] for shard in others(load, shards)])


async def led_astray(load: Load, proxy: Proxy, port: int, word: bytes, shards: list[int]) -> None:
    """Cut the connections that began with this word. Those that follow are led to another port, until no stream of
    these shards is live."""
    right = proxy.target
    proxy.target = port
    assert proxy.cut(word)
    await degraded_alone(load, shards)
    proxy.target = right
    await until(lambda: all(map(is_well, load.listeners.values())), 60, "live again")
