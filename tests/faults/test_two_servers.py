"""One address, two servers: a failover behind DNS, a virtual IP or a proxy; a primary that was a replica for a moment.

What is wrong must show as an outage and a new epoch, never as a healthy process that delivers nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from notifier.broker.redis import primary, subscriptions
from notifier.broker.redis.connection import Address, open_connection
from notifier.broker.redis.scripts import Call
from notifier.event import Cursor
from tests.broker.support import note, opened
from tests.faults.clients import Listener, listening, until
from tests.faults.proxy import Proxy
from tests.faults.test_primary import broker_at
from tests.support import ADMIN_KEY, RedisServer, Service, running

TOPIC_OF = "user:ann"


async def test_a_primary_that_was_a_replica_between_two_looks_begins_a_new_epoch(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(RedisServer()) as older, own_redis.client() as client, older.client() as older_client:
        older_client.config_set("repl-diskless-sync-delay", 0)
        for watch_every_s in (2.0, 10.0):  # the longer for a machine on which the demotion was not brief
            monkeypatch.setattr(primary, "WATCH_EVERY_S", watch_every_s)
            async with broker_at(own_redis.port) as (broker, sink):
                for key in client.scan_iter("*"):
                    older_client.restore(key, 0, client.dump(key), replace=True)
                # What the older server lacks: these are lost when it becomes the primary for a moment.
                receipts = [await broker.publish(note()) for _ in range(5)]
                await asyncio.sleep(0.2)  # a look has just been, or is far: the demotion fits between two of them
                began = time.monotonic()
                client.replicaof("127.0.0.1", older.port)
                await until(lambda: client.info("replication")["master_link_status"] == "up", what="the older data")
                client.replicaof("NO", "ONE")
                took_s = time.monotonic() - began
                await until(lambda: sink.away, 30, "degraded")
                await until(lambda: broker.ready, what="the way back")
                assert (None, None) in sink.resyncs
                last = Cursor(receipts[-1].epoch, receipts[-1].seq)
                assert (await opened(broker, last)).verdict == "epoch_changed"
            if took_s < watch_every_s - 0.2:
                return
        raise AssertionError("no demotion was brief")


async def test_commands_that_stay_at_another_primary_move_to_that_of_the_address(own_redis: RedisServer) -> None:
    """The old primary goes on behind an address that leads elsewhere: what is stored there reaches no other process."""
    with running(RedisServer()) as other, other.client() as client:
        async with Proxy(own_redis.port) as proxy, broker_at(proxy.port) as (broker, sink):
            topic = broker.topics("ann", [TOPIC_OF])[0]
            await broker.subscribe([topic])
            assert broker.ready
            proxy.target = other.port
            proxy.cut(b"-sub")
            await until(lambda: _connected(client) == 2 and broker.ready, 10, what="both connections at the address")
            await broker.publish(note())
            await until(lambda: sink.events, what="the event")
            assert client.keys("*log:user:ann")


def _connected(client: redis.Redis) -> int:
    return sum(other["name"].startswith("notifier-") for other in client.client_list())


async def test_a_replica_is_refused_as_the_server_of_the_subscriptions(own_redis: RedisServer) -> None:
    """Its primary hands every announcement on to it, so the canary alone would come back."""
    with running(RedisServer()) as replica, replica.client() as client:
        client.replicaof("127.0.0.1", own_redis.port)
        await until(lambda: client.info("replication")["master_link_status"] == "up", 15, what="the replica")
        async with Proxy(own_redis.port) as proxy, broker_at(proxy.port) as (broker, _):
            assert broker.ready
            proxy.target = replica.port
            proxy.cut(b"-sub")
            await until(lambda: proxy.count(b"-sub") >= 3, 10, what="attempts at the replica")
            assert not broker.ready


async def test_an_attempt_to_connect_is_given_up_when_the_commands_have_another_primary(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "DEAD_AFTER_S", 60.0)
    async with Proxy(own_redis.port) as proxy, broker_at(proxy.port) as (broker, _):
        proxy.swallow_from = b"-sub"
        proxy.cut(b"-sub")
        await until(lambda: proxy.count(b"-sub") >= 2, what="an attempt that hangs")
        proxy.swallow_from = b""
        assert proxy.cut(b"SETNAME", without=b"-sub")
        await until(lambda: broker.ready, 20, what="ready, without waiting for the attempt that hangs")


async def test_what_was_read_before_a_loss_makes_no_hole_after_it(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(own_redis.port) as proxy, broker_at(proxy.port) as (broker, sink):
        topic = broker.topics("ann", [TOPIC_OF])[0]
        await broker.subscribe([topic])
        send, read, go_on = broker._shards.send, asyncio.Event(), asyncio.Event()

        def held_up(call: Call, parse: Callable[[Any], Any]) -> Awaitable[object]:
            async def wait_after(answer: Awaitable[object]) -> object:
                result = await answer
                read.set()
                await go_on.wait()
                return result

            answer = send(call, parse)
            return wait_after(answer) if call.script.name == "open" else answer

        monkeypatch.setattr(broker._shards, "send", held_up)
        opening = asyncio.create_task(opened(broker))
        await read.wait()
        proxy.target = 1
        proxy.cut(b"-sub")
        await until(lambda: not broker.ready, what="the loss")
        await broker.publish(note(subject="while the subscriptions were down"))
        proxy.target = own_redis.port
        await until(lambda: broker.ready, what="the way back")
        sink.resyncs.clear()
        go_on.set()
        await opening
        await broker.publish(note(subject="after"))
        await until(lambda: sink.events or sink.resyncs, what="the event")
        assert sink.resyncs == []
        assert b"after" in sink.events[-1][2]


async def test_a_disconnect_also_ends_a_stream_that_came_while_its_process_was_cut_off(own_redis: RedisServer) -> None:
    async with Proxy(own_redis.port) as proxy:
        # In a thread: the service needs the proxy to start, and the proxy runs on this loop.
        cut_off = await asyncio.to_thread(Service, redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        with running(cut_off) as service, running(Service(redis_url=own_redis.url)) as other:
            before = Listener(service.port, "ann")
            async with listening(before) as tasks:
                await until(lambda: before.live, what="the stream from before")
                proxy.target = 1
                proxy.cut(b"SETNAME")
                await until(lambda: before.of("degraded"), what="the outage")
                during = Listener(service.port, "ann", comes_back=False)
                bystander = Listener(service.port, "bob", comes_back=False)
                tasks += [asyncio.create_task(during.run()), asyncio.create_task(bystander.run())]
                await until(lambda: during.of("degraded") and bystander.of("degraded"), what="the waiting streams")
                with other.client(ADMIN_KEY) as admin:
                    admin.post("/v1/users/ann/disconnect").raise_for_status()
                await asyncio.sleep(0.1)
                proxy.target = own_redis.port
                await until(lambda: during.of("bye"), 15, what="the end")
                assert [bye.data["reason"] for bye in during.of("bye")] == ["revoked"]
                await until(lambda: bystander.live, 15, what="another user's stream")
                # Disconnecting is not refusing: who still holds a token comes back, and stays.
                again = Listener(service.port, "ann", comes_back=False)
                tasks.append(asyncio.create_task(again.run()))
                await until(lambda: again.live, what="the stream from after")
                await asyncio.sleep(0.3)
                assert not again.of("bye")


async def test_a_command_that_cannot_be_packed_leaves_the_answers_in_their_order(own_redis: RedisServer) -> None:
    connection = await open_connection(Address.from_url(own_redis.url), name="test")
    try:
        with pytest.raises(UnicodeEncodeError):
            connection.call("ECHO", "\ud800")
        assert await asyncio.wait_for(connection.call("ECHO", "in order"), 2) == b"in order"
    finally:
        connection.close()
