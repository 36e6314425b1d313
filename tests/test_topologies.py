"""The clusters and Sentinels that other tests rely on do what their methods say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import MovedError, TryAgainError

from tests.support import running, wait_for
from tests.topologies import KINDS, SLOTS, Node, RedisCluster, SentinelGroup, slot_of

pytestmark = [pytest.mark.programs, pytest.mark.slow]

KEYS = [f"{{moving}}{number}" for number in range(250)]
SLOT = slot_of(KEYS[0])


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    with running(RedisCluster(request.param)) as cluster:
        yield cluster


def test_the_slot_of_a_key_is_that_of_the_server(cluster: RedisCluster) -> None:
    node = cluster.nodes[0]
    for key in ("", "123456789", "a{b}c", "a{}c", "{a}{b}", "a{b", "n:{3.1}:seq"):
        assert slot_of(key) == node.call("CLUSTER", "KEYSLOT", key)


def test_a_cluster_has_three_primaries_with_a_replica_each(cluster: RedisCluster) -> None:
    assert len(cluster.primaries) == 3
    assert {cluster.replica_of(node) for node in cluster.primaries} == set(cluster.nodes) - set(cluster.primaries)
    assert {cluster.primary_of(slot) for slot in (0, SLOTS // 2, SLOTS - 1)} == set(cluster.primaries)


def test_a_moved_slot_is_served_with_its_keys_by_the_target(cluster: RedisCluster) -> None:
    source = cluster.primary_of(SLOT)
    target = cluster.other_primary(source)
    _write(source)
    cluster.move(SLOT, target)
    assert target.call("MGET", *KEYS) == KEYS
    with pytest.raises(MovedError, match=f"{SLOT} 127.0.0.1:{target.port}"):
        source.call("GET", KEYS[0])


def test_a_move_stopped_halfway_has_keys_at_both_and_can_be_finished(cluster: RedisCluster) -> None:
    source = cluster.primary_of(SLOT)
    target = cluster.other_primary(source)
    _write(source)
    move = cluster.begin_move(SLOT, target)
    move.carry(move.keys()[:100])
    assert 0 < len(move.keys()) == len(KEYS) - 100
    with pytest.raises(TryAgainError):
        source.call("MGET", *KEYS)
    assert cluster.primary_of(SLOT) is source
    move.finish()
    assert target.call("MGET", *KEYS) == KEYS


@pytest.mark.parametrize("cluster", ["valkey"], indirect=True)
def test_a_slot_moves_at_once_in_valkey(cluster: RedisCluster) -> None:
    source = cluster.primary_of(SLOT)
    target = cluster.other_primary(source)
    _write(source)
    cluster.move_atomically(SLOT, target)
    assert target.call("MGET", *KEYS) == KEYS


def test_a_manual_failover_makes_the_replica_the_primary(cluster: RedisCluster) -> None:
    before = cluster.primary_of(SLOT)
    _write(before)
    after = cluster.fail_over(SLOT)
    assert after.call("MGET", *KEYS) == KEYS
    wait_for(lambda: before.has_its_primarys_data, what="the former primary as a replica")
    cluster.wait_until_whole()
    assert cluster.replica_of(after) is before


@pytest.mark.parametrize("end", ["kill", "pause"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_replica_of_a_primary_that_is_silent_takes_over(kind: str, end: str) -> None:
    with running(RedisCluster(kind, node_timeout_s=1)) as cluster:
        silent = cluster.primary_of(SLOT)
        replica = cluster.replica_of(silent)
        getattr(silent, end)()
        assert silent not in cluster.running
        cluster.wait_for_owner(SLOT, replica)
        cluster.each("CONFIG", "SET", "cluster-node-timeout", 30_000)  # no other takeover on a busy machine
        getattr(silent, {"kill": "start", "pause": "resume"}[end])()
        cluster.each("CONFIG", "SET", "cluster-node-timeout", 30_000)
        cluster.wait_until_whole()
        assert (silent.is_primary, replica.is_primary) == (False, True)


@pytest.mark.parametrize("kind", KINDS)
def test_sentinels_fail_over_when_asked_and_when_the_primary_is_dead(kind: str) -> None:
    with running(SentinelGroup(kind, down_after_s=1)) as group:
        primary, replica = group.primary, group.replica
        primary.call("SET", "a", "1")
        primary.call("WAIT", 1, 5000)
        assert group.fail_over() is replica
        assert replica.call("GET", "a") == "1"
        group.wait_until_whole()
        replica.kill()
        wait_for(lambda: group.primary is primary and primary.is_primary, timeout_s=60, what="the other primary")


def test_no_process_outlives_its_topology() -> None:
    cluster, group = RedisCluster(), SentinelGroup()
    cluster.nodes[0].pause()
    nodes = [*cluster.nodes, *group.nodes, *group.sentinels]
    assert sum(node.runs for node in nodes) == len(nodes) - 1
    cluster.stop()
    group.stop()
    assert not any(node.runs or node.folder.exists() for node in nodes)
    for node in nodes:
        with pytest.raises(redis.ConnectionError):
            node.call("PING")


def _write(node: Node) -> None:
    node.call("MSET", *(word for key in KEYS for word in (key, key)))
