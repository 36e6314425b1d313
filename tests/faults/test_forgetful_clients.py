"""Clients that reset their last id with each response lose nothing: the first event of every stream has it again."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable

import pytest

from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.faults.publishers import Publisher
from tests.faults.test_nothing_lost import replace_workers, roomy
from tests.support import RedisServer, Service, running

MORE_DRAINS = 5


@pytest.mark.timeout(600)
async def test_a_client_that_forgets_its_last_id_with_each_response_loses_nothing(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    """Through drains, in which it is refused, and an outage, in which it comes and goes. So do clients that keep it."""
    drains, events = scale.whole(1, 3), scale.whole(100, 2000)
    env = roomy(NOTIFIER_DRAIN_S="1.5")
    with running(Service(redis_url=own_redis.url, workers=2, env=env)) as service:
        forgetful = [Listener(service.port, f"u{number}", forgets=True) for number in range(scale.whole(10, 40))]
        listeners = [*forgetful, *(Listener(service.port, f"v{number}") for number in range(scale.whole(5, 40)))]
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners):
            async with publisher.publishing(scale(30, 80), at_least=events):
                refused = done = 0
                # Whether a client comes back to a worker that drains is chance: more drains, until one has.
                while done < drains or (not refused and done < drains + MORE_DRAINS):
                    await replace_workers(service)
                    done += 1
                    refused = sum(_refused(listener) for listener in forgetful)
                await _come_and_go_without(own_redis, listeners, seed)
            await publisher.delivered(listeners)
        publisher.assert_complete(listeners)
        assert not any(listener.resets for listener in listeners)
        assert all(listener.of("bye") for listener in listeners)
        assert refused, "no client was refused by a draining worker"
        figure(drains=done, published=len(publisher.acknowledged), refused=refused, lost=0)


def _refused(listener: Listener) -> int:
    """Streams whose first event was `bye`."""
    kinds = ["bye", *(event.type for event in listener.events if event.type != "ping")]
    return sum(kinds[at] == kinds[at + 1] == "bye" for at in range(len(kinds) - 1))


async def _come_and_go_without(redis: RedisServer, listeners: list[Listener], seed: random.Random) -> None:
    """Stop Redis, and cut each client three times when it has seen that; then cut some while Redis returns."""
    assert redis.process is not None
    redis.process.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            known = {listener: len(listener.events) for listener in listeners}
            for listener in listeners:
                await _cut(listener)
            await until(
                lambda known=known: all(  # type: ignore[misc]
                    any(event.type == "degraded" for event in listener.events[number:])
                    for listener, number in known.items()
                ),
                what="degraded at every client",
            )
    finally:
        redis.process.signal(signal.SIGCONT)
    for _ in listeners:
        await _cut(seed.choice(listeners))
        await asyncio.sleep(0.02)


async def _cut(listener: Listener) -> None:
    """Not between a response and its first event: a client that forgets its last id has none then."""
    await until(lambda: listener.cursor, 60, "the first event of a response")
    listener.cut()
