"""Shards that move to another server, are refused or are away: what their users see, and that others see nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Coroutine
from functools import partial
from typing import Any

import pytest

from notifier.broker.redis import commands, connection, primary, subscriptions
from notifier.broker.redis.addresses import parse_target
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys, slot_of
from notifier.broker.redis.places import Cluster, MovingPlaces, Sentinels
from notifier.broker.values import History, Idempotency, Options, Receipt
from notifier.errors import BrokerUnavailable, IdempotencyMismatch
from tests.broker.support import Recorder, listed, note, until
from tests.support import RedisServer, running
from tests.topologies import RedisCluster, SentinelGroup

LIMITS: dict[str, Any] = {"history": History(50, 50, 3600), "max_replay": 100}
MOVING = r"TRYAGAIN|ASK|non local key"
"""In the errors of a call whose keys are on their way."""


@contextlib.asynccontextmanager
async def broker_at(url: str, shards: int = 1) -> AsyncIterator[tuple[RedisBroker, Recorder]]:
    sink = Recorder()
    broker = RedisBroker.from_url(url, Options(prefix=f"notifier:m{uuid.uuid4().hex[:8]}:", shards=shards, **LIMITS))
    await broker.start(sink)
    yield broker, sink
    await broker.close()


def user_of(broker: RedisBroker, shard: int) -> str:
    return next(f"u{n}" for n in range(999) if broker._keys.shard_of_name(f"u{n}") == shard)


async def listens(broker: RedisBroker, user: str) -> str:
    """The topic of a user, subscribed."""
    topic = broker.topics(user, [f"user:{user}"])[0]
    await broker.subscribe([topic])
    return topic


@pytest.mark.parametrize("watch_every_s", [primary.WATCH_EVERY_S, 3600.0])
async def test_an_idle_shard_that_moves_is_found_at_its_new_place(
    redis_cluster: RedisCluster, watch_every_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by the `sunsubscribe` alone that the older node sends unasked."""
    monkeypatch.setattr(primary, "WATCH_EVERY_S", watch_every_s)
    async with broker_at(redis_cluster.url, 3) as (broker, sink):
        users = [user_of(broker, shard) for shard in range(3)]
        topics = [await listens(broker, user) for user in users]
        slot = slot_of(topics[0])
        source = redis_cluster.primary_of(slot)
        try:
            # In a thread: it waits for the servers.
            await asyncio.to_thread(redis_cluster.move, slot, redis_cluster.other_primary(source))
            await until(lambda: sink.away[-2:] == [True, False], 20)
            assert set(sink.away_prefixes) == {broker._keys.tag(0)}
            assert sink.resyncs == [([topics[0]], None)]
            for user in users:
                await broker.publish(note(f"user:{user}"))
            await until(lambda: len(sink.events) == 3)
            assert {topic for topic, _, _ in sink.events} == set(topics)
        finally:
            await asyncio.to_thread(redis_cluster.move, slot, source)


async def test_a_call_during_a_move_is_repeated_for_a_while(
    redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_s = commands.MOVING_S
    async with broker_at(redis_cluster.url) as (broker, _):
        first = await broker.publish(note("user:eve"))
        slot = slot_of(broker._keys.seq(0))
        source = redis_cluster.primary_of(slot)
        begin = partial(redis_cluster.begin_move, slot, redis_cluster.other_primary(source))

        async def refused(call: Coroutine[Any, Any, Receipt]) -> asyncio.Task[Receipt]:
            """A call that the source refuses: not all of its keys are there."""
            waiting = asyncio.create_task(call)
            await until(lambda: broker._shards.commands[0]._retries or waiting.done(), 20)
            return waiting

        moving = await asyncio.to_thread(begin)
        try:
            with monkeypatch.context() as patch:
                # A busy machine has more time; no time remains none.
                patch.setattr(commands, "MOVING_S", 20 * bound_s)
                call = await refused(broker.publish(note()))
                await asyncio.to_thread(moving.give_up)
                assert (await call).cursor == f"{first.epoch}-{first.seq + 1}"

                moving = await asyncio.to_thread(begin)
                # Some of the keys are at the other node.
                await asyncio.to_thread(lambda: moving.carry(moving.keys()[:2]))
                call = await refused(broker.publish(note("user:bob")))
                patch.setattr(commands, "MOVING_S", bound_s)
                began = time.monotonic()
                with pytest.raises(BrokerUnavailable, match=MOVING):
                    await broker.publish(note(subject="during the move"))
                assert 2.9 < time.monotonic() - began < 10  # 3 s
                await asyncio.to_thread(moving.finish)
                await asyncio.wait((call,))
                # The connection ends with the move. The caller's own repeat comes to the other node.
                assert not re.search(MOVING, str(call.exception()))
            await until(lambda: broker.ready, 20)
            while True:
                with contextlib.suppress(BrokerUnavailable):
                    last = await broker.publish(note(subject="after the move"))
                    break
                await asyncio.sleep(0.05)
            assert last.epoch != first.epoch
            assert [subject for subject, _ in await listed(broker)] == ["after the move", "Hi"]
        finally:
            await asyncio.to_thread(moving.finish)
            await asyncio.to_thread(redis_cluster.move, slot, source)


def key_on(broker: RedisBroker, shard: int, number: int = 0) -> Idempotency:
    """A key whose claim is on this shard."""
    names = (f"p:{number}-{n}" for n in range(999))
    return Idempotency(next(name for name in names if broker._keys.shard_of_name(name) == shard), "a")


async def publish_under_keys(broker: RedisBroker, user: str, *keys: Idempotency) -> None:
    """Publish to a user, each key twice: one by one, and in a batch. None may wait for another shard."""
    async with asyncio.timeout(20):
        for number, key in enumerate((*keys, *keys)):
            await broker.publish(note(f"user:{user}", subject=f"{number % len(keys)}"), key)
        events = [(note(f"user:{user}", subject=f"{number}"), key) for number, key in enumerate(keys)]
        await asyncio.gather(*(answer for answer in broker.submit_all(events) if isinstance(answer, Awaitable)))


async def test_a_claim_on_a_shard_that_moves_delays_no_publish_to_another(
    redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MOVING_S", 3600)
    async with broker_at(redis_cluster.url, 3) as (broker, _):
        ann, keys = user_of(broker, 1), [key_on(broker, 0, number) for number in range(2)]
        slot = slot_of(broker._keys.seq(0))
        source = redis_cluster.primary_of(slot)
        moving = await asyncio.to_thread(redis_cluster.begin_move, slot, redis_cluster.other_primary(source))
        try:
            await publish_under_keys(broker, ann, *keys)
        finally:
            await asyncio.to_thread(moving.give_up)
        await publish_under_keys(broker, ann, *keys)
        assert [subject for subject, _ in await listed(broker, ann)] == ["1", "0"]


@pytest.mark.programs
async def test_a_claim_on_a_shard_that_hangs_delays_no_publish_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primary, "CALL_TIMEOUT_S", 3600)
    with running(RedisServer()) as server, running(RedisServer()) as hung:
        async with broker_at(f"{server.url},{hung.url}") as (broker, _):
            ann, keys = user_of(broker, 0), [key_on(broker, 1, number) for number in range(2)]
            assert hung.process is not None
            hung.process.signal(signal.SIGSTOP)
            try:
                await publish_under_keys(broker, ann, *keys)
            finally:
                hung.process.signal(signal.SIGCONT)
            await publish_under_keys(broker, ann, *keys)
            assert [subject for subject, _ in await listed(broker, ann)] == ["1", "0"]


@pytest.mark.programs
async def test_a_foreign_value_in_the_place_of_a_claim_stops_no_publish(redis_server: RedisServer) -> None:
    async with broker_at(redis_server.url, 2) as (broker, _):
        ann, bob = user_of(broker, 0), user_of(broker, 1)
        key = key_on(broker, 1)
        with redis_server.client() as client:
            client.set(broker._keys.idempotency(1, f"{key.key}#all"), "foreign")
        await publish_under_keys(broker, ann, key)
        assert len(await listed(broker, ann)) == 1
        with pytest.raises(IdempotencyMismatch):
            await broker.publish(note(f"user:{bob}"), Idempotency(key.key, "another body"))


async def test_a_failover_by_sentinels_is_followed(sentinels: SentinelGroup) -> None:
    async with broker_at(sentinels.url) as (broker, sink):
        await listens(broker, "ann")
        first = await broker.publish(note())
        try:
            await asyncio.to_thread(sentinels.fail_over)
            await until(lambda: sink.away[-2:] == [True, False], 30)
            await broker.open("ann", ["user:ann"], None, subscribe=True)  # as the sink does after a resync
            assert (await broker.publish(note(subject="after"))).epoch != first.epoch
            await until(lambda: len(sink.events) == 2)
            assert [subject for subject, _ in await listed(broker)] == ["after", "Hi"]
        finally:
            await asyncio.to_thread(sentinels.wait_until_whole)


class Named(MovingPlaces):
    """One primary, which a test replaces by another."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.asked = 0

    async def of(self, shard: int) -> Address:
        self.asked += 1
        return Address.from_url(self.server.url)

    def __str__(self) -> str:
        return "the primary that the test names"


class Chosen(Named):
    """It may be that one of those who choose it was cut off from the others, together with the process."""

    moves_silently = True
    agreed = True

    async def is_agreed(self, shard: int, address: Address) -> bool:
        return self.agreed


@pytest.mark.programs
@pytest.mark.parametrize("agreed", [True, False])
async def test_what_was_written_while_most_sentinels_were_not_heard_begins_another_epoch(
    redis_server: RedisServer, agreed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have chosen another primary meanwhile, where others are, and the writes are gone."""
    monkeypatch.setattr(primary, "WATCH_EVERY_S", 0.05)
    monkeypatch.setattr(primary, "SENTINELS_AGREE_S", 0.0)
    with running(RedisServer()) as older, redis_server.client() as client:
        keys, places = Keys(f"notifier:m{uuid.uuid4().hex[:8]}:"), Chosen(older)
        broker, other = (RedisBroker(at, keys, **LIMITS) for at in (places, Named(redis_server)))
        await broker.start(Recorder())
        places.agreed = agreed
        await broker.publish(note())
        asked = places.asked
        await until(lambda: places.asked > asked + 3, 20)
        await other.start(Recorder())
        epoch = client.get(keys.epoch(0))
        places.server = redis_server
        here, there = (each._shards.commands[0]._primary for each in (broker, other))
        await until(lambda: broker.ready and here.identity == there.identity)
        assert (client.get(keys.epoch(0)) == epoch) is agreed
        await broker.close()
        await other.close()


async def answer_of(places: Sentinels) -> Address:
    """The primary by the Sentinels, once one of them answers in time."""
    while True:
        with contextlib.suppress(BrokerUnavailable):
            return await places.of(0)


async def test_a_sentinel_without_most_of_the_others_names_a_primary_that_is_not_agreed(
    sentinels: SentinelGroup,
) -> None:
    places = Sentinels(parse_target(sentinels.url))
    address = await answer_of(places)
    while not await places.is_agreed(0, address):  # on a busy machine, an answer may come too late
        await asyncio.sleep(0.1)
    cut_off = sentinels.sentinels[1:]
    try:
        for sentinel in cut_off:
            sentinel.pause()
        places._names._answered_at = 0.0  # it is not answered from what is known
        assert not await places.is_agreed(0, address)
        assert await answer_of(places) == address
    finally:
        for sentinel in cut_off:
            sentinel.resume()
        await places.close()
        await asyncio.to_thread(sentinels.wait_until_whole)


@pytest.mark.programs
@pytest.mark.parametrize("end", ["hung", "killed"])
async def test_an_attempt_at_a_dead_primary_ends_when_another_replaces_it(
    redis_server: RedisServer, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the shard is away for as long as the attempt, or the pause after it, takes."""
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 3600)
    monkeypatch.setattr(primary, "IDENTIFY_TIMEOUT_S", 3600)
    monkeypatch.setattr(primary, "RECONNECT_S", (3600, 3600))
    with running(RedisServer()) as dead:
        places = Named(dead)
        broker = RedisBroker(places, Keys(f"notifier:m{uuid.uuid4().hex[:8]}:"), **LIMITS)
        assert dead.process is not None
        dead.process.signal(signal.SIGSTOP) if end == "hung" else dead.kill()
        starting = asyncio.create_task(broker.start(Recorder()))
        try:
            await until(lambda: starting.done() if end == "killed" else places.asked, 10)
            places.server = redis_server
            await until(lambda: broker.ready, 20)
        finally:
            if end == "hung":
                dead.process.signal(signal.SIGCONT)
            await starting
            await broker.close()


@pytest.mark.programs
async def test_a_connection_to_a_primary_that_hangs_ends_when_another_replaces_it(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the shard is away until the calls have waited for `CALL_TIMEOUT_S`."""
    monkeypatch.setattr(primary, "CALL_TIMEOUT_S", 3600)
    monkeypatch.setattr(subscriptions, "DEAD_AFTER_S", 3600)
    with running(RedisServer()) as hung:
        places, sink = Named(hung), Recorder()
        broker = RedisBroker(places, Keys(f"notifier:m{uuid.uuid4().hex[:8]}:"), **LIMITS)
        await broker.start(sink)
        assert hung.process is not None
        hung.process.signal(signal.SIGSTOP)
        publishing = asyncio.ensure_future(broker.publish(note()))
        try:
            places.server = redis_server
            await until(lambda: sink.away[-2:] == [True, False], 20)
            with pytest.raises(BrokerUnavailable):
                await publishing
            await broker.publish(note())
        finally:
            hung.process.signal(signal.SIGCONT)
            await broker.close()


class Astray(Cluster):
    """A cluster whose map is old: it names another node than the primary."""

    node: Address | None = None
    asked = 0

    async def of(self, shard: int) -> Address:
        self.asked += 1
        return self.node or await super().of(shard)


class Deaf(Sentinels):
    """The library that asks the Sentinels loses each cancellation."""

    def __init__(self) -> None:
        super().__init__(parse_target("redis+sentinel://127.0.0.1:26379/notifier/0"))
        self.asked = asyncio.Event()

    async def _ask(self) -> Address:
        self.asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return Address("primary")


async def test_a_wait_for_another_primary_ends_although_the_library_loses_its_cancellation() -> None:
    """The connection for calls was never opened again: the pause after a refused attempt had no end."""
    places = Deaf()
    waiting = asyncio.create_task(places.moved(0, Address("primary")))
    await places.asked.wait()
    waiting.cancel()
    await asyncio.wait((waiting,), timeout=5)
    assert waiting.cancelled()
    await places.close()


class Asking(Cluster):
    """Notes which nodes are asked where the shards are."""

    def __init__(self, *seeds: Address) -> None:
        super().__init__(seeds, Keys(f"notifier:m{uuid.uuid4().hex[:8]}:", 1, "sharded"))
        self.asked: list[int] = []

    async def _slots_by(self, node: Address) -> list[tuple[int, int, Address]]:
        self.asked.append(node.port)
        return await super()._slots_by(node)


async def test_a_node_that_hangs_is_asked_after_all_others(
    redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question to it takes as long as its bound, while a shard waits to know who follows that node."""
    monkeypatch.setattr("notifier.broker.redis.places.ASK_TIMEOUT_S", 3.0)
    monkeypatch.setattr("notifier.broker.redis.places.AVOIDED_S", 3600.0)
    hung, *others = redis_cluster.primaries
    places = Asking(*(Address.from_url(node.url) for node in (hung, *others)))
    hung.pause()
    try:
        for _ in range(6):
            places._answer._answered_at = 0.0  # none of them is answered from what is known
            await places.of(0)
    finally:
        hung.resume()
    assert places.asked[0] == hung.port
    assert hung.port not in places.asked[1:]
    assert set(places.asked[1:]) == {node.port for node in others}


async def test_subscriptions_that_are_led_to_a_replica_are_not_live(redis_cluster: RedisCluster) -> None:
    """A replica accepts SSUBSCRIBE and passes on what its primary publishes, until the link between the two is cut."""
    keys = Keys(f"notifier:m{uuid.uuid4().hex[:8]}:", 1, "sharded")
    places, sink = Astray([Address.from_url(redis_cluster.primaries[0].url)], keys), Recorder()
    broker = RedisBroker(places, keys, **LIMITS)
    await broker.start(sink)
    topic = await listens(broker, "ann")
    primary = redis_cluster.primary_of(slot_of(topic))
    replica = redis_cluster.replica_of(primary)
    try:
        places.node, asked = Address.from_url(replica.url), places.asked
        primary.call("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: places.asked >= asked + 3, 20)
        assert sink.away == [True]
        assert replica.call("PUBSUB", "SHARDCHANNELS") == []
        places.node = None
        await until(lambda: broker.ready, 20)
        await broker.publish(note())
        await until(lambda: sink.events)
    finally:
        await broker.close()


@pytest.mark.programs
async def test_a_refused_subscription_closes_the_connection_and_is_tried_again() -> None:
    """Its error is a reply, and an acknowledgement is none: every later reply would be taken for another call's."""
    with running(RedisServer()) as server, server.client() as client:
        async with broker_at(server.url) as (broker, sink):
            client.execute_command("ACL", "SETUSER", "default", "resetchannels", "&*canary*")
            with pytest.raises(BrokerUnavailable):
                await listens(broker, "ann")
            await until(lambda: sink.away, 5)
            client.execute_command("ACL", "SETUSER", "default", "allchannels")
            await until(lambda: broker.ready, 10)
            await broker.publish(note())
            await until(lambda: sink.events)


@pytest.mark.programs
async def test_a_primary_without_enough_replicas_is_away_until_it_has_them() -> None:
    with running(RedisServer()) as server, server.client() as client:
        async with broker_at(server.url) as (broker, sink):
            await broker.publish(note(subject="before"))
            client.config_set("min-replicas-to-write", 1)
            with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
                await broker.publish(note(subject="refused"))
            await until(lambda: sink.away == [True])
            client.config_set("min-replicas-to-write", 0)
            await until(lambda: sink.away == [True, False], 10)
            await broker.publish(note(subject="after"))
            assert [subject for subject, _ in await listed(broker)] == ["after", "before"]


@pytest.mark.programs
async def test_a_shard_that_is_away_stops_only_what_needs_it() -> None:
    with running(RedisServer()) as server, running(RedisServer(append_only=True)) as other:
        async with broker_at(f"{server.url},{other.url}") as (broker, sink):
            ann, bob = user_of(broker, 0), user_of(broker, 1)
            topics = [await listens(broker, ann), await listens(broker, bob)]
            other.kill()
            await until(lambda: sink.away, 10)
            assert (sink.away, sink.away_prefixes) == ([True], [broker._keys.tag(1)])
            assert broker.ready
            assert broker.shards_away == [1]

            key = Idempotency(f"p:{uuid.uuid4().hex}", "a")
            to_both = note([f"user:{ann}", f"user:{bob}"], subject="to both", id="m-1")
            with pytest.raises(BrokerUnavailable):
                await broker.publish(to_both, key)
            with pytest.raises(BrokerUnavailable):
                await broker.publish(note(f"user:{bob}"))
            for number in range(20):  # the claims of some of these keys would be on the other shard
                await broker.publish(note(f"user:{ann}", subject=f"{number}"), Idempotency(f"p:{number}", "a"))
            await until(lambda: len(sink.events) == 20)

            other.start()
            await until(lambda: not broker.shards_away, 20)
            for _ in range(2):
                await broker.publish(to_both, key)
            assert [subject for subject, _ in await listed(broker, bob)] == ["to both"]
            assert [subject for subject, _ in await listed(broker, ann)].count("to both") == 1
            await until(lambda: topics[1] in {topic for topic, _, _ in sink.events})
            assert sink.resyncs == [([topics[1]], None)]


@pytest.mark.programs
async def test_a_publish_that_one_shard_has_stored_is_completed_by_a_repeat() -> None:
    """The other shard hangs: its loss shows only by its silence."""
    with running(RedisServer()) as server, running(RedisServer()) as other:
        async with broker_at(f"{server.url},{other.url}") as (broker, sink):
            ann, bob = user_of(broker, 0), user_of(broker, 1)
            await listens(broker, ann)
            assert other.process is not None
            key = Idempotency("p:" + next(f"{n}" for n in range(99) if broker._keys.shard_of_name(f"p:{n}") == 0), "a")
            other.process.signal(signal.SIGSTOP)
            try:
                with pytest.raises(BrokerUnavailable):
                    await broker.publish(note(["all"], id="m-1"), key)
            finally:
                other.process.signal(signal.SIGCONT)
            await until(lambda: not broker.shards_away, 20)
            await broker.publish(note(["all"], id="m-1"), key)
            for user in (ann, bob):
                assert [subject for subject, _ in await listed(broker, user)] == ["Hi"]
            assert len(sink.events) <= 1
