"""A primary that fails over by Sentinels, under load: nothing is lost silently."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.faults.clients import until
from tests.faults.conftest import FAULT_KINDS, Scale
from tests.faults.load import Site, is_well, loaded, round_of, seen, site_on
from tests.support import running
from tests.topologies import Node, SentinelGroup

Figure = Callable[..., None]
DOWN_AFTER_S = 2.0
FOLLOWED_S = 2.0
"""From another primary, made late, to publishes there: the Sentinels name it once they have seen its new role."""
HELLO_EVERY_MS = 250
"""How often Sentinels announce the primary that they know. They make the older one a replica after four of these; a new
primary with `min-replicas-to-write 1` takes no write before."""
MOST_GONE = 20
"""Of five failovers with `min-replicas-to-write 1`: a few milliseconds of each, where every event for all counts once
for each inbox. Hundreds without it."""


@pytest.fixture(scope="module", params=FAULT_KINDS)
def group(request: pytest.FixtureRequest) -> Iterator[SentinelGroup]:
    """Whole before and after each test."""
    with running(SentinelGroup(request.param, down_after_s=DOWN_AFTER_S, options=("--appendonly", "yes"))) as group:
        yield group


@pytest.fixture(scope="module")
def site(group: SentinelGroup) -> Iterator[Site]:
    """A service on it, for the tests of this module."""
    with running(site_on(group.url, shards=3, workers=2)) as site:
        yield site


def leads(node: Node) -> bool:
    """Whether it is a primary. As Sentinels make it one, they close its connections."""
    with contextlib.suppress(redis.ConnectionError):
        return node.is_primary
    return False


@pytest.mark.parametrize("end", [pytest.param("killed", marks=pytest.mark.full), "hung"])
async def test_a_primary_that_is_silent_is_replaced_by_the_sentinels(
    group: SentinelGroup, site: Site, end: str, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    """A hung one calls itself a primary when it is back, until the Sentinels see it.

    The first of these tests: for 10 s after a failover that was asked for, Sentinels begin none of their own."""
    slowest_elected_s = 0.0
    async with loaded(site, seed) as load:
        for _ in range(scale.whole(1, 5)):
            silent, replica = group.primary, group.replica
            (silent.kill if end == "killed" else silent.pause)()
            began = time.monotonic()
            await until(lambda: leads(replica), 60, "another primary")  # noqa: B023
            slowest_elected_s = max(slowest_elected_s, time.monotonic() - began)
            await load.goes_on()
            # The Sentinel that this asks may be later than the one that the service asked.
            await until(lambda: group.primary is replica, 30, "the new primary at every Sentinel")  # noqa: B023
            await asyncio.sleep(scale(0, began + 6 - time.monotonic()))
            await asyncio.to_thread(silent.start if end == "killed" else silent.resume)
            await asyncio.to_thread(group.wait_until_whole)
            assert not silent.is_primary
            await load.goes_on()
            await round_of(load, scale)
    figure(**seen(load, gone=load.gone, slowest_elected_s=round(slowest_elected_s, 1)))
    bound_s = DOWN_AFTER_S + 3
    if slowest_elected_s > bound_s:  # split votes: the Sentinels vote again after twice their `failover-timeout`
        bound_s = slowest_elected_s + FOLLOWED_S
    assert max(load.longest_degraded_s, load.longest_publish_s) < scale.bound_s(bound_s)


@pytest.fixture
def replicas(request: pytest.FixtureRequest, group: SentinelGroup, site: Site) -> Iterator[tuple[str, Site]]:
    """`min-replicas-to-write`, and a service; `confirmed`: one that answers when the replica has the write."""
    least = "1" if request.param == "confirmed" else request.param
    group.each("CONFIG", "SET", "min-replicas-to-write", least)
    if least != "0":
        _announce_every(group, HELLO_EVERY_MS)
    try:
        if request.param != "confirmed":
            yield least, site
        else:
            with running(site_on(group.url, shards=3, workers=2, wait_replicas=1)) as waiting:
                yield request.param, waiting
    finally:
        group.each("CONFIG", "SET", "min-replicas-to-write", 0)
        _announce_every(group, 2000)  # Redis' default


def _announce_every(group: SentinelGroup, period_ms: int) -> None:
    for sentinel in group.sentinels:
        sentinel.call("SENTINEL", "DEBUG", "publish-period", period_ms)


@pytest.mark.parametrize(
    "replicas",
    [pytest.param("0", marks=pytest.mark.full), pytest.param("1", marks=pytest.mark.full), "confirmed"],
    indirect=True,
)
async def test_a_failover_by_the_sentinels_loses_nothing(
    group: SentinelGroup, replicas: tuple[str, Site], seed: random.Random, scale: Scale, figure: Figure
) -> None:
    """The older primary takes writes until it is a replica. With `min-replicas-to-write`, it refuses them once its
    replica has left it, and the new one until it has a replica: no answered event is gone, but for those of the
    milliseconds in between. Where the service waits for the replica, none at all."""
    setting, site = replicas
    async with loaded(site, seed) as load:
        for _ in range(scale.whole(1, 5)):
            await asyncio.to_thread(group.fail_over)
            await load.goes_on()
            await asyncio.to_thread(group.wait_until_whole)
            await round_of(load, scale)
    figure(**seen(load, gone=load.gone))
    assert load.gone <= {"0": math.inf, "1": MOST_GONE if scale.full else math.inf, "confirmed": 0}[setting]
    assert max(load.longest_degraded_s, load.longest_publish_s) < scale.bound_s(DOWN_AFTER_S + 3)


async def test_without_any_sentinel_the_links_stay(
    group: SentinelGroup, site: Site, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    async with loaded(site, seed) as load:
        for sentinel in group.sentinels:
            sentinel.pause()
        await asyncio.sleep(scale(2, 10))
        await load.goes_on()
        for sentinel in group.sentinels[:2]:
            sentinel.kill()
        for _ in range(scale.whole(1, 5)):
            await round_of(load, scale)
        load.assert_unaffected(load.listeners)
        assert load.everyone.refused == 0
        for sentinel in group.sentinels:
            await asyncio.to_thread(sentinel.resume if sentinel.paused else sentinel.start)
        await asyncio.to_thread(group.wait_until_whole)
        await load.is_delivered()
        await asyncio.to_thread(group.fail_over)
        await until(lambda: load.resets > 0 and all(map(is_well, load.listeners.values())), 60, "the new primary")
        await load.goes_on()
        await asyncio.to_thread(group.wait_until_whole)
    figure(**seen(load, gone=load.gone))
