"""Many streams are reopened at once: they attach while Redis comes back, arrive in a storm, have long replays."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import httpx

from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.faults.test_nothing_lost import roomy
from tests.support import API_KEY, RedisServer, Service, bearer, running

GROUPS = tuple(f"g{number}" for number in range(20))
HISTORY = 256

CONNECTION_LOST = "the connection is lost"
"""Logged by the service when its subscription connection is lost."""


async def test_streams_that_attach_while_redis_comes_back_are_all_opened_and_so_are_those_after_the_next_resync(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(Service(redis_url=own_redis.url, env=roomy())) as service, own_redis.client() as client:
        old = [Listener(service.port, f"old{i}", ("staff",)) for i in range(10)]
        new: list[Listener] = []
        gone: list[Listener] = []
        async with listening(*old) as tasks, publishing(service) as publish:
            for _ in range(scale.whole(1, 3)):
                own_redis.kill()
                killed = time.monotonic()
                back = asyncio.create_task(_start_after(own_redis, 2))
                while not (back.done() and time.monotonic() > killed + 3):
                    turn = len(new) + len(gone)
                    listener = Listener(service.port, f"new{turn}", ("staff", f"g{turn % 7}"), comes_back=False)
                    tasks.append(asyncio.create_task(listener.run()))
                    new.append(listener)
                    if turn % 4 == 3 and (leaving := seed.choice(new)).connects:
                        leaving.cut()
                        new.remove(leaving)
                        gone.append(leaving)
                    await asyncio.sleep(0.02)
                await back
                await until(lambda: all(listener.live for listener in new), what="hello at every stream that stayed")
                await _reaches(publish, "group:staff", [*old, *new])
            # A stream that left while it was opened must not have stopped the reopening of the others.
            for _ in range(2):
                losses = service.process.output().count(CONNECTION_LOST)
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await until(lambda losses=losses: service.process.output().count(CONNECTION_LOST) > losses)  # type: ignore[misc]
                late = Listener(service.port, f"late{len(new)}", ("staff",))
                tasks.append(asyncio.create_task(late.run()))
                new.append(late)
                await until(lambda late=late: late.live)  # type: ignore[misc]
                await _reaches(publish, "group:staff", [*old, *new])
                await _reaches(publish, "all", [*old, *new])
            assert all(listener.connects == 1 for listener in [*old, *new])
            assert gone
            assert service.open_streams() == len(old) + len(new)
        figure(attached=len(new) + len(gone), left=len(gone), without_hello=0)


async def test_many_streams_with_full_histories_settle_after_a_killed_connection(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(_with_histories(own_redis)) as service, own_redis.client() as client:
        listeners = [Listener(service.port, f"u{i}", GROUPS) for i in range(scale.whole(60, 500))]
        async with publishing(service) as publish:
            await _fill(publish)
            async with listening(*listeners), _watched(service) as refusals:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                killed = time.monotonic()
                await until(lambda: service.process.output().count(CONNECTION_LOST) == 1)
                await _reaches(publish, "all", listeners)
                settled_s = time.monotonic() - killed
                await _reaches(publish, "group:g7", listeners)
                assert service.process.output().count(CONNECTION_LOST) == 1
        assert refusals.longest_s < scale(10, 2)
        assert refusals.slowest_answer_s < scale(10, 2)
        for listener in listeners:
            assert (listener.connects, listener.resets) == (1, [])
            assert len(listener.messages) == 2
        figure(
            streams=len(listeners),
            settled_s=round(settled_s, 1),
            longest_refusal_s=round(refusals.longest_s, 2),
            slowest_publish_s=round(refusals.slowest_answer_s, 2),
        )


async def test_many_connects_at_once_with_full_histories_do_not_drop_the_connections(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(_with_histories(own_redis)) as service:
        listeners = [Listener(service.port, f"u{i}", GROUPS) for i in range(scale.whole(60, 500))]
        async with publishing(service) as publish:
            await _fill(publish)
            async with _watched(service) as refusals:
                began = time.monotonic()
                async with listening(*listeners):
                    live_s = time.monotonic() - began
                    await _reaches(publish, "all", listeners)
        assert CONNECTION_LOST not in service.process.output()
        assert "is away" not in service.process.output()
        assert refusals.count == 0
        assert refusals.slowest_answer_s < scale(10, 2)
        assert all(listener.connects == 1 and not listener.of("degraded") for listener in listeners)
        figure(
            streams=len(listeners), all_live_s=round(live_s, 1), slowest_publish_s=round(refusals.slowest_answer_s, 2)
        )


def _with_histories(server: RedisServer) -> Service:
    return Service(redis_url=server.url, env=roomy(NOTIFIER_HISTORY_SIZE=str(HISTORY)))


async def _start_after(server: RedisServer, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


def publishing(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.url, headers=bearer(API_KEY), timeout=30)


async def _fill(publish: httpx.AsyncClient) -> None:
    """Fill the history of every group."""
    to = [f"group:{name}" for name in GROUPS]
    for number in range(HISTORY):
        answer = await publish.post("/v1/messages", json={"to": to, "subject": str(number)})
        assert answer.status_code == 200, answer.text


async def _reaches(publish: httpx.AsyncClient, channel: str, listeners: list[Listener]) -> None:
    """Publish an event, repeating while the service answers 503, and wait until every listener has it."""
    deadline = time.monotonic() + 20
    while True:
        answer = await publish.post("/v1/messages", json={"to": [channel], "subject": "after"})
        if answer.status_code == 200:
            break
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline, "publishing is refused"
        await asyncio.sleep(0.05)
    cursor = answer.json()["cursor"]
    await until(
        lambda: all(any(message.id == cursor for message in reversed(listener.messages)) for listener in listeners),
        what=f"{cursor} at every stream",
    )


class _watched:
    """Publishes to a user without streams all the while: `async with _watched(service) as refusals:`."""

    def __init__(self, service: Service) -> None:
        self.count = 0
        self.longest_s = 0.0
        """The longest time from a refusal to the next acceptance."""
        self.slowest_answer_s = 0.0
        self._service = service
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> _watched:
        self._task = asyncio.create_task(self._publish_forever())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _publish_forever(self) -> None:
        refused_at = 0.0
        async with publishing(self._service) as client:
            while True:
                sent_at = time.monotonic()
                answer = await client.post("/v1/messages", json={"to": ["user:nobody"], "subject": "?"})
                now = time.monotonic()
                self.slowest_answer_s = max(self.slowest_answer_s, now - sent_at)
                if answer.status_code == 200:
                    refused_at = 0.0
                else:
                    self.count += 1
                    refused_at = refused_at or sent_at
                if refused_at:
                    self.longest_s = max(self.longest_s, now - refused_at)
                await asyncio.sleep(0.05)
