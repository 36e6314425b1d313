"""Several primaries, one of which is away: only what needs it waits. Processes that disagree about the shards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.faults.clients import until
from tests.faults.conftest import FAULT_KINDS, Scale
from tests.faults.load import is_well, others, round_of, seen, under_load
from tests.support import Service, running
from tests.topologies import Node, RedisCluster, Topology

Figure = Callable[..., None]


@pytest.mark.parametrize("kind", FAULT_KINDS)
async def test_a_publish_for_all_waits_for_the_shard_that_is_away_and_is_stored_once(
    kind: str, seed: random.Random, scale: Scale, figure: Figure
) -> None:
    servers = [Node(kind, ("--appendonly", "yes", "--appendfsync", "always")) for _ in range(3)]
    with running(Topology(servers)) as topology:
        topology.start()
        async with under_load(",".join(server.url for server in servers), seed) as load:
            for _ in range(scale.whole(1, 5)):
                away = seed.randrange(3)
                before = load.troubles(others(load, [away]))
                servers[away].kill()
                await load.refuses(load.everyone)
                await load.goes_on([load.users[shard] for shard in before], scale.whole(4, 20))
                with load.service.client() as client:
                    answer = client.get("/readyz")
                    assert (answer.status_code, answer.json()["shards_away"]) == (200, [away])
                await asyncio.to_thread(servers[away].start)
                await load.goes_on()
                await until(lambda: all(map(is_well, load.listeners.values())), 60, "live again")
                await round_of(load, scale)
                assert load.troubles(before) == before
    for listener in load.listeners.values():
        subjects = [message.data["subject"] for message in listener.messages]
        assert len(subjects) == len(set(subjects)), "a repeat was stored twice"
    assert load.gone == 0
    figure(**seen(load))


@pytest.mark.parametrize("shards", [pytest.param("1", marks=pytest.mark.full), "3"])
@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_service_with_another_number_of_shards_refuses_to_start(
    request: pytest.FixtureRequest, kind: str, shards: str
) -> None:
    cluster: RedisCluster = request.getfixturevalue(f"{kind}_cluster")
    env = {"NOTIFIER_BROKER_URL": cluster.url, "NOTIFIER_PREFIX": f"layout{shards}:"}
    with (
        running(Service(env={**env, "NOTIFIER_SHARDS": "12"})),
        pytest.raises(AssertionError, match=rf"12 sharded(.|\n)*{shards} sharded|{shards} sharded(.|\n)*12 sharded"),
    ):
        Service(env={**env, "NOTIFIER_SHARDS": shards})
