"""The errors by which the nodes of a cluster refuse a call, in their own words: which are repeated, and which lose the
connection."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence

import hiredis
import pytest

from notifier.broker.redis.commands import is_moving
from notifier.broker.redis.connection import Address, Connection, open_connection
from notifier.broker.redis.primary import NOT_PRIMARY
from tests.support import free_port, running
from tests.topologies import KINDS, Node, RedisCluster, slot_of

pytestmark = pytest.mark.programs

READ_ANOTHER = "redis.call('GET', KEYS[1]) return redis.call('GET', ARGV[1])"
"""Reads a key that is not in KEYS."""


@contextlib.asynccontextmanager
async def connected(node: Node) -> AsyncIterator[Connection]:
    connection = await open_connection(Address.from_url(node.url), name="test")
    try:
        yield connection
    finally:
        connection.close()


async def refusal(connection: Connection, *command: str | int) -> hiredis.ReplyError:
    with pytest.raises(hiredis.ReplyError) as refused:
        await connection.call(*command)
    return refused.value


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest) -> RedisCluster:
    shared: RedisCluster = request.getfixturevalue(f"{request.param}_cluster")
    return shared


async def test_what_a_shard_that_is_moving_refuses_is_repeated(cluster: RedisCluster) -> None:
    tag = f"{{{uuid.uuid4().hex}}}"
    there, absent, slot = f"{tag}there", f"{tag}absent", slot_of(tag)
    source = await asyncio.to_thread(cluster.primary_of, slot)
    target = await asyncio.to_thread(cluster.other_primary, source)
    calls: dict[str, Sequence[str | int]] = {
        "TRYAGAIN ": ("MGET", there, absent),
        f"ASK {slot} 127.0.0.1:{target.port}": ("GET", absent),
        "non local key": ("EVAL", READ_ANOTHER, 1, there, absent),
    }
    async with connected(source) as connection, connected(target) as other:
        await connection.call("SET", there, "1")
        move = await asyncio.to_thread(cluster.begin_move, slot, target)
        try:
            for words, call in calls.items():
                exc = await refusal(connection, *call)
                assert words in str(exc)
                assert is_moving(exc), exc
                assert not str(exc).startswith(NOT_PRIMARY)
        finally:
            await asyncio.to_thread(move.give_up)
            await connection.call("DEL", there)
        exc = await refusal(other, "GET", there)
        assert str(exc) == f"MOVED {slot} 127.0.0.1:{source.port}"
        assert str(exc).startswith(NOT_PRIMARY)
        assert not is_moving(exc)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_node_that_may_not_answer_loses_the_connection(kind: str) -> None:
    with running(Node(kind, ["--cluster-enabled", "yes", "--cluster-port", str(free_port())])) as node:
        await asyncio.to_thread(node.start)
        async with connected(node) as connection:
            of_no_node = await refusal(connection, "GET", "a")
            assert str(of_no_node) == "CLUSTERDOWN Hash slot not served"
            await connection.call("CLUSTER", "ADDSLOTS", slot_of("a"))
            not_all = await refusal(connection, "GET", "a")  # cluster-require-full-coverage yes
            assert str(not_all) == "CLUSTERDOWN The cluster is down"
            for exc in (of_no_node, not_all):
                assert str(exc).startswith(NOT_PRIMARY)
                assert not is_moving(exc)
