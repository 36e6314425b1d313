"""An event that was answered with 200 reaches every client of its channels, in order, once; or the client is told."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.clients import Listener, listening, until
from tests.support import API_KEY, RedisServer, Service, bearer, running


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> random.Random:
    number = random.randrange(1 << 30)
    print(f"seed {number}")
    return random.Random(number)


@pytest.fixture
def durable_redis() -> Iterator[RedisServer]:
    with running(RedisServer(append_only=True)) as server:
        yield server


class Publisher:
    """Publishes to users at a rate and keeps what was acknowledged."""

    def __init__(self, service: Service, to: list[str], seed: random.Random) -> None:
        self.url = service.url
        self.to = to
        self.seed = seed
        self.acknowledged: list[tuple[str, str]] = []
        """(channel, message id) in the order of their acknowledgement."""
        self.last_cursor = ""
        self.refused = 0
        self._number = 0

    async def publish_for(self, seconds: float, per_second: float) -> None:
        headers = bearer(API_KEY)
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=15) as client:
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                await self.publish(client)
                await asyncio.sleep(1 / per_second)

    async def publish(self, client: httpx.AsyncClient) -> None:
        to = self.seed.choice(self.to)
        self._number += 1
        key = {"Idempotency-Key": f"p-{self._number}"}
        body = {"to": [to], "subject": f"{self._number}"}
        for _ in range(100):
            try:
                answer = await client.post("/v1/messages", json=body, headers=key)
            except httpx.HTTPError:
                self.refused += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code == 200:
                self.acknowledged.append((to, answer.json()["id"]))
                self.last_cursor = answer.json()["cursor"]
                return
            assert answer.status_code == 503, answer.text
            self.refused += 1
            await asyncio.sleep(0.1)

    def ids_for(self, *channels: str) -> list[str]:
        return [identity for to, identity in self.acknowledged if to in channels]


def assert_complete(listener: Listener, sent: list[str]) -> None:
    """Every id that was sent, in order, once."""
    got = [one.data["id"] for one in listener.messages]
    assert len(got) == len(set(got)), f"{listener.user} got something twice"
    assert got == sent, f"{listener.user}: {len(sent)} sent, {len(got)} got, missing {set(sent) - set(got)}"
    seqs = [one.seq for one in listener.messages]
    assert seqs == sorted(seqs)


@pytest.fixture(params=["memory", "redis"])
def any_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    env = {"NOTIFIER_HISTORY_SIZE": "5000", "NOTIFIER_MAX_STREAMS_PER_USER": "10000", "NOTIFIER_MAX_REPLAY": "10000"}
    url = "" if request.param == "memory" else request.getfixturevalue("redis_server").url
    env["NOTIFIER_PREFIX"] = f"n{random.randrange(1 << 30)}:"
    env["NOTIFIER_MAX_STREAMS_PER_ADDRESS"] = "10000"
    with running(Service(redis_url=url, workers=2 if url else 1, env=env)) as service:
        yield service


async def test_connecting_while_events_are_published_misses_nothing(any_service: Service, seed: random.Random) -> None:
    publisher = Publisher(any_service, ["user:ann", "group:staff", "all"], seed)
    publishing = asyncio.create_task(publisher.publish_for(4, 400))
    listeners = [Listener(any_service.port, "ann", ("staff",)) for _ in range(300)]
    tasks = []
    for one in listeners:
        tasks.append(asyncio.create_task(one.run()))
        await asyncio.sleep(seed.uniform(0, 0.02))
    await publishing
    every = publisher.ids_for("user:ann", "group:staff", "all")
    last = int(publisher.last_cursor.rpartition("-")[2])
    await until(lambda: all(one.live and max(item.seq for item in one.heard if item.id) == last for one in listeners))
    for task in tasks:
        task.cancel()
    for one in listeners:
        assert one.connects == 1
        # From its hello on, everything.
        assert_complete(one, every[len(every) - len(one.messages) :])
        start = one.of("hello")[0].seq
        assert [one.seq for one in one.messages] == list(range(start + 1, start + 1 + len(one.messages)))


async def test_clients_that_are_cut_again_and_again_lose_nothing(any_service: Service, seed: random.Random) -> None:
    users = [f"user:u{i}" for i in range(20)]
    listeners = [Listener(any_service.port, f"u{i % 20}", pause_s=seed.uniform(0, 0.05)) for i in range(60)]
    publisher = Publisher(any_service, [*users, "all"], seed)
    async with listening(*listeners):
        publishing = asyncio.create_task(publisher.publish_for(4, 300))
        while not publishing.done():
            seed.choice(listeners).cut()
            await asyncio.sleep(0.01)
        await publishing
        await until(
            lambda: all(len(one.messages) >= len(publisher.ids_for(f"user:{one.user}", "all")) for one in listeners),
            what="every message at every client",
        )
    for one in listeners:
        assert_complete(one, publisher.ids_for(f"user:{one.user}", "all"))
        assert not one.resets
    assert sum(one.connects for one in listeners) > 150


async def test_a_killed_subscription_link_loses_nothing(redis_server: RedisServer, seed: random.Random) -> None:
    env = {"NOTIFIER_PREFIX": f"n{random.randrange(1 << 30)}:", "NOTIFIER_HISTORY_SIZE": "5000"}
    with running(Service(redis_url=redis_server.url, workers=2, env=env)) as service:
        listeners = [Listener(service.port, f"u{i}", ("staff",)) for i in range(12)]
        publisher = Publisher(service, ["user:u1", "group:staff", "all"], seed)
        async with listening(*listeners):
            publishing = asyncio.create_task(publisher.publish_for(4, 400))
            with redis_server.client() as client:
                while not publishing.done():
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    await asyncio.sleep(seed.uniform(0.1, 0.6))
            await publishing
            await until(
                lambda: all(
                    len(one.messages) >= len(publisher.ids_for(f"user:{one.user}", "group:staff", "all"))
                    for one in listeners
                ),
                what="every message at every client",
            )
        for one in listeners:
            assert_complete(one, publisher.ids_for(f"user:{one.user}", "group:staff", "all"))
            assert (one.connects, one.resets) == (1, [])
            assert one.of("degraded")


async def test_redis_killed_and_started_again_loses_nothing(durable_redis: RedisServer, seed: random.Random) -> None:
    with running(Service(redis_url=durable_redis.url, env={"NOTIFIER_HISTORY_SIZE": "5000"})) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(5)]
        publisher = Publisher(service, ["user:u1", "all"], seed)
        async with listening(*listeners):
            publishing = asyncio.create_task(publisher.publish_for(8, 200))
            await asyncio.sleep(1)
            durable_redis.kill()
            await until(lambda: all(one.of("degraded") for one in listeners), what="degraded")
            await asyncio.sleep(1)
            await asyncio.to_thread(durable_redis.start)
            await publishing
            await until(lambda: all(one.of("degraded")[-1].data == {"degraded": False} for one in listeners))
            await until(
                lambda: all(
                    one.messages[-1].data["id"] == publisher.ids_for("all", f"user:{one.user}")[-1] for one in listeners
                )
            )
        assert publisher.refused
        for one in listeners:
            # The primary is another life of itself: a new epoch, so every client is told to take the present state.
            assert one.connects == 1
            assert len(one.resets) == 1
            every = publisher.ids_for(f"user:{one.user}", "all")
            with service.user(one.user) as user:
                page = user.get("/v1/inbox", params={"limit": 100}).json()
            got = {item.data["id"] for item in one.messages} | {item["id"] for item in page["messages"]}
            after = one.heard.index(one.resets[0])
            late = [item.data["id"] for item in one.heard[after:] if item.type == "message"]
            assert late == every[len(every) - len(late) :]
            assert len(got & set(every)) >= min(100, len(every))


async def test_wiped_data_makes_a_reset_and_no_short_replay(seed: random.Random) -> None:
    with running(RedisServer()) as server, running(Service(redis_url=server.url)) as service:
        listener = Listener(service.port, "ann")
        publisher = Publisher(service, ["user:ann"], seed)
        async with listening(listener):
            await publisher.publish_for(0.5, 100)
            await until(lambda: len(listener.messages) == len(publisher.acknowledged))
            with server.client() as client:
                client.flushall()
            await publisher.publish_for(0.5, 100)
            await until(lambda: listener.resets, what="a reset")
            await until(lambda: listener.messages[-1].data["id"] == publisher.acknowledged[-1][1])
        away = Listener(service.port, "ann", cursor=listener.heard[0].id)
        async with listening(away):
            await until(lambda: away.resets)
            assert away.of("hello")[0].data["recovered"] is False
            assert away.resets[0].data["reason"] == "epoch_changed"


async def test_a_killed_worker_s_users_go_on_at_another(redis_server: RedisServer, seed: random.Random) -> None:
    env = {"NOTIFIER_PREFIX": f"n{random.randrange(1 << 30)}:", "NOTIFIER_HISTORY_SIZE": "5000"}
    with running(Service(redis_url=redis_server.url, workers=2, env=env)) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(20)]
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners):
            publishing = asyncio.create_task(publisher.publish_for(4, 100))
            await asyncio.sleep(1)
            os.kill(worker_pids(service)[0], signal.SIGKILL)
            await publishing
            every = publisher.ids_for("all")
            await until(lambda: all(len(one.messages) >= len(every) for one in listeners))
        for one in listeners:
            assert_complete(one, every)
        assert any(one.connects > 1 for one in listeners)


def worker_pids(service: Service) -> list[int]:
    """The children of the supervisor that serve."""
    parent = service.process.child.pid
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(stat[1]) == parent and b"spawn_main" in command:
                found.append(int(entry.name))
    return found
