"""An event that was answered with 200 reaches every client of its channels, in order, once; or the client is reset."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notifier.connection_records import ASKED
from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.faults.publishers import Publisher, assert_same
from tests.support import RedisServer, Service, running

ROOMY = {
    "NOTIFIER_HISTORY_SIZE": "10000",
    "NOTIFIER_MAX_REPLAY": "50000",
    "NOTIFIER_PUBLISH_RATE": "0",
    "NOTIFIER_MAX_BACKLOG_BYTES": "200000000",
    "NOTIFIER_MAX_STREAMS_PER_USER": "10000",
    "NOTIFIER_MAX_STREAMS_PER_ADDRESS": "10000",
}
"""Limits that these cases must not reach: they test for loss, not for bounds."""


def roomy(**more: str) -> dict[str, str]:
    return {**ROOMY, "NOTIFIER_PREFIX": f"n{random.randrange(1 << 30)}:", **more}


FURTHER = [pytest.param(kind, marks=pytest.mark.full) for kind in ("sqlite", "sentinels", "valkey_cluster")]


@pytest.fixture(params=["memory", pytest.param("redis_server", id="redis"), *FURTHER])
def any_service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    embedded = {"memory": "memory:", "sqlite": f"sqlite://{tmp_path}/notifier.db"}
    url = embedded.get(request.param) or request.getfixturevalue(request.param).url
    workers = 1 if request.param in embedded else 2
    # One shard, also in a cluster: these cases compare with one order of all events.
    with running(Service(workers=workers, env=roomy(NOTIFIER_BROKER_URL=url, NOTIFIER_SHARDS="1"))) as service:
        yield service


async def test_connecting_while_events_are_published_misses_nothing(
    any_service: Service, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    connects = scale.whole(80, 2000)
    publisher = Publisher(any_service, ["user:ann", "group:staff", "all"], seed)
    listeners = [Listener(any_service.port, "ann", ("staff",)) for _ in range(connects)]
    tasks = []
    async with publisher.publishing(scale(150, 300), at_least_s=scale(0, 25)):
        for listener in listeners:
            tasks.append(asyncio.create_task(listener.run()))
            await asyncio.sleep(seed.uniform(0, 0.02))
        await until(lambda: all(listener.live for listener in listeners), 60, "every stream's hello")
    last = publisher.last_cursor
    await until(lambda: all(listener.cursor == last for listener in listeners), 60, "the last message")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    every = publisher.ids_for("user:ann", "group:staff", "all")
    for listener in listeners:
        assert listener.connects == 1
        # Everything after its hello.
        assert_same(listener, every[len(every) - len(listener.messages) :])
        start = listener.of("hello")[0].seq
        assert [item.seq for item in listener.messages] == list(range(start + 1, start + 1 + len(listener.messages)))
    figure(
        connects=connects, published=len(every), delivered=sum(len(listener.messages) for listener in listeners), gaps=0
    )


async def test_clients_that_are_cut_again_and_again_lose_nothing(
    any_service: Service, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    clients, cuts = scale.whole(25, 300), scale.whole(4, 20)
    users = [f"u{i % 20}" for i in range(clients)]
    listeners = [Listener(any_service.port, user, pause_s=seed.uniform(0, 0.05)) for user in users]
    publisher = Publisher(any_service, [*(f"user:u{i}" for i in range(20)), "all"], seed)
    left = {id(listener): cuts for listener in listeners}
    async with listening(*listeners):
        async with publisher.publishing(100, at_least=50, at_least_s=scale(0, 60)):
            while any(left.values()):
                listener = seed.choice(listeners)
                if left[id(listener)] and listener.live:
                    listener.cut()
                    left[id(listener)] -= 1
                await asyncio.sleep(0.004)
        await publisher.delivered(listeners, 60)
    publisher.assert_complete(listeners)
    assert not any(listener.resets for listener in listeners)
    assert sum(listener.connects for listener in listeners) >= clients * cuts
    figure(clients=clients, cuts=clients * cuts, published=len(publisher.acknowledged), lost=0)


async def test_a_killed_subscription_connection_loses_nothing(
    redis_server: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(Service(redis_url=redis_server.url, workers=2, env=roomy())) as service:
        listeners = [Listener(service.port, f"u{i}", ("staff",)) for i in range(12)]
        publisher = Publisher(service, ["user:u1", "group:staff", "all"], seed)
        kills = scale.whole(4, 27)
        async with listening(*listeners):
            async with publisher.publishing(scale(100, 500), at_least=200):
                with redis_server.client() as client:
                    for _ in range(kills):
                        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                        await asyncio.sleep(seed.uniform(0.2, 0.9))
            await publisher.delivered(listeners)
            await until(lambda: all(listener.of("degraded")[-1].data == {"degraded": False} for listener in listeners))
        publisher.assert_complete(listeners)
        for listener in listeners:
            assert (listener.connects, listener.resets) == (1, [])
            assert listener.of("degraded")
        recovered_s = max(listener.longest_degraded_s for listener in listeners)
        assert recovered_s < scale(10, 2)
        figure(kills=kills, published=len(publisher.acknowledged), lost=0, longest_degraded_s=round(recovered_s, 2))


@pytest.mark.parametrize("away_s", [3, pytest.param(15, marks=pytest.mark.full)])
async def test_redis_killed_and_started_again_loses_nothing(
    durable_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None], away_s: int
) -> None:
    with running(Service(redis_url=durable_redis.url, env=roomy())) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(5)]
        publisher = Publisher(service, ["user:u1", "all"], seed)
        async with listening(*listeners):
            async with publisher.publishing(scale(100, 200), at_least=200):
                await until(lambda: len(listeners[0].messages) > 50, what="the first messages")
                durable_redis.kill()
                await until(lambda: all(listener.of("degraded") for listener in listeners), what="degraded")
                await until(lambda: publisher.refused, what="a refusal")
                await asyncio.sleep(scale(away_s / 10, away_s))
                await asyncio.to_thread(durable_redis.start)
                await until(
                    lambda: all(listener.of("degraded")[-1].data == {"degraded": False} for listener in listeners)
                )
                await asyncio.sleep(scale(0, 5))
            # The reset replaces the messages published meanwhile; the ones published now are delivered live.
            async with publisher.publishing(200, at_least=50):
                pass
            await until(
                lambda: all(listener.messages[-1].data["id"] == publisher.due(listener)[-1] for listener in listeners)
            )
        assert publisher.refused
        assert publisher.slowest_refusal_s < scale(10, 4.5)
        for listener in listeners:
            # A restarted primary begins a new epoch, so every client is reset.
            assert listener.connects == 1
            assert len(listener.resets) == 1
            every = publisher.due(listener)
            with service.user(listener.user) as user:
                page = user.get("/v1/inbox", params={"limit": 100}).json()
            late = [
                item.data["id"]
                for item in listener.events[listener.events.index(listener.resets[0]) :]
                if item.type == "message"
            ]
            assert late == every[len(every) - len(late) :]
            # Every acknowledged message is in the inbox, also those published before the reset.
            assert [item["id"] for item in page["messages"]] == every[::-1][:100]
        figure(published=len(publisher.acknowledged), resets=len(listeners), lost=0, refused=publisher.refused)


async def test_a_stopped_redis_is_noticed_and_loses_nothing(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(Service(redis_url=own_redis.url, env=roomy())) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(5)]
        publisher = Publisher(service, ["user:u1", "all"], seed)
        async with listening(*listeners):
            async with publisher.publishing(scale(60, 200), at_least=100, at_least_s=scale(0, 20)):
                await until(lambda: len(listeners[0].messages) > 20, what="the first messages")
                assert own_redis.process is not None
                own_redis.process.signal(signal.SIGSTOP)
                await until(lambda: all(listener.of("degraded") for listener in listeners), what="degraded")
                await asyncio.sleep(scale(0, 10))
                own_redis.process.signal(signal.SIGCONT)
            await publisher.delivered(listeners)
            await until(lambda: all(listener.of("degraded")[-1].data == {"degraded": False} for listener in listeners))
        publisher.assert_complete(listeners)
        assert publisher.slowest_refusal_s < scale(10, 4.5)
        assert all((listener.connects, listener.resets) == (1, []) for listener in listeners)
        figure(
            published=len(publisher.acknowledged),
            lost=0,
            refused=publisher.refused,
            slowest_503_s=round(publisher.slowest_refusal_s, 2),
        )


@pytest.mark.timeout(300)
async def test_a_killed_worker_s_users_go_on_at_another(
    redis_server: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(Service(redis_url=redis_server.url, workers=2, env=roomy())) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(scale.whole(30, 200))]
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners):
            async with publisher.publishing(scale(50, 100), at_least=50, at_least_s=scale(0, 10)):
                await until(lambda: listeners[0].messages, what="the first message")
                os.kill(worker_pids(service)[0], signal.SIGKILL)
                await until(lambda: any(listener.connects > 1 for listener in listeners), what="a stream that moved")
            await publisher.delivered(listeners)
        publisher.assert_complete(listeners)
        moved = sum(listener.connects > 1 for listener in listeners)
        figure(streams=len(listeners), moved=moved, published=len(publisher.acknowledged), lost=0)


@pytest.mark.full  # `make test` has it in test_forgetful_clients.py
@pytest.mark.timeout(600)
async def test_a_rolling_restart_under_load_loses_nothing(
    redis_server: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    env = roomy(NOTIFIER_DRAIN_S=str(scale(0.5, 5)))
    with running(Service(redis_url=redis_server.url, workers=2, env=env)) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(scale.whole(20, 200))]
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners):
            async with publisher.publishing(scale(50, 200), at_least=50, at_least_s=scale(0, 25)):
                await until(lambda: listeners[0].messages, what="the first message")
                await replace_workers(service)
            await publisher.delivered(listeners)
        publisher.assert_complete(listeners)
        assert not any(listener.resets for listener in listeners)
        assert all(listener.of("bye") for listener in listeners)
        figure(streams=len(listeners), published=len(publisher.acknowledged), lost=0, moved=len(listeners))


async def test_after_any_churn_the_subscriptions_are_those_of_the_open_streams(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    env = roomy()
    with running(Service(redis_url=own_redis.url, env=env)) as service, own_redis.client() as client:
        listeners = [Listener(service.port, f"u{i % 40}", pause_s=0.001) for i in range(scale.whole(40, 400))]
        cuts = scale.whole(200, 6000)
        async with listening(*listeners):
            for number in range(cuts):
                seed.choice(listeners).cut()
                if number % 100 == 50:
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await asyncio.sleep(0.002)
            staying = listeners[: len(listeners) // 4]
            for listener in listeners[len(staying) :]:
                listener.leave()
            users = {listener.user for listener in staying}
            expected = {
                f"{env['NOTIFIER_PREFIX']}{{0}}:ch:{name}".encode() for name in ("all", *map("user:{}".format, users))
            }
            pattern = f"{env['NOTIFIER_PREFIX']}*:ch:*"
            own = f"{env['NOTIFIER_PREFIX']}{{0}}:ch:{ASKED}".encode()  # of the process, whichever streams it has
            await until(lambda: {*client.pubsub_channels(pattern)} == {*expected, own}, 20, "the right subscriptions")
        await until(lambda: client.pubsub_channels(pattern) == [own], 20, "no other subscription")
        figure(cuts=cuts, subscriptions=len(expected), surplus=0)


async def replace_workers(service: Service) -> None:
    """A rolling restart."""
    before = set(worker_pids(service))
    service.process.signal(signal.SIGUSR2)
    await until(lambda: not set(worker_pids(service)) & before, 200, "new workers")


def worker_pids(service: Service) -> list[int]:
    """The worker processes of a supervisor."""
    parent = service.process.child.pid
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == parent and b"spawn_main" in (entry / "cmdline").read_bytes():
                    pids.append(int(entry.name))
            except OSError:
                continue
    return pids
