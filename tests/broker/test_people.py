"""The contract of brokers: who is present on a topic, by leases."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from notifier.broker import Broker
from notifier.broker.redis.broker import Options, RedisBroker
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.people import RedisPeople, is_time
from notifier.broker.redis.scripts import Call
from notifier.errors import BrokerUnavailable
from notifier.people import Lease, Person, by_user
from tests.broker.conftest import LIMITS
from tests.broker.support import Recorder, until
from tests.support import RedisServer

TOPIC = "topic:order:42"
ANN, BOB = Person("ann", "Ann ü"), Person("bob", None, "editing")


async def present(broker: Broker) -> set[Person]:
    return {present.person for present in await broker.people(TOPIC)}


async def test_people_are_present_until_their_lease_ends(broker: Broker) -> None:
    await broker.lease(TOPIC, [Lease("c1", ANN, 60), Lease("c2", BOB, 60)])
    assert await present(broker) == {ANN, BOB}
    assert all(50 < each.left_s <= 60 for each in await broker.people(TOPIC))
    await broker.lease(TOPIC, [Lease("c2", BOB, 0)])
    assert await present(broker) == {ANN}
    await broker.lease(TOPIC, [Lease("c1", ANN, 0.05)])
    while await present(broker):
        await asyncio.sleep(0.01)
    assert await broker.people("topic:order:43") == []


async def test_changes_are_announced_and_renewals_are_not(broker: Broker, sink: Recorder) -> None:
    topics = [topic for user in ("ann", "bob", "eve") for topic in broker.topics(user, [TOPIC])]
    assert set(topics) <= set(broker.topics_of(TOPIC))
    await broker.subscribe(topics)
    steps = [
        (Lease("c1", ANN, 60), True),
        (Lease("c1", ANN, 60), False),
        (Lease("c1", ANN, 30), True),  # others are to look earlier
        (Lease("c1", Person("ann", "Ann ü", "editing"), 30), True),
        (Lease("c2", BOB, 0), False),
        (Lease("c1", ANN, 0), True),
        (Lease("c1", ANN, 0), False),
    ]
    for lease, is_announced in steps:
        sink.changed_on.clear()
        await broker.lease(TOPIC, [lease])
        # What is announced to the same subscription afterwards arrives afterwards.
        await broker.lease("topic:mark", [Lease("m", ANN, 60)])
        if is_announced:
            # Every shard announces it: a later one must not be taken for that of the next step.
            await until(lambda: sink.changed_on.count(TOPIC) == len(set(topics)))
        else:
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert TOPIC not in sink.changed_on
    assert set(sink.changed_on) <= {TOPIC, "topic:mark"}


async def test_many_leases_are_kept_at_once(broker: Broker) -> None:
    await broker.lease(TOPIC, [Lease(f"c{number}", Person(f"u{number % 300}"), 60) for number in range(600)])
    people = await broker.people(TOPIC)
    assert (len(people), len(by_user(people))) == (600, 300)


async def test_people_of_a_crowded_topic_are_read_in_portions(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []
    if isinstance(broker, RedisBroker):
        run = broker._shards.run

        async def noted(call: Call) -> Any:
            answers.append(await run(call))
            return answers[-1]

        monkeypatch.setattr(broker._shards, "run", noted)
    people = {Person(f"u{number}", "a name") for number in range(1500)}
    await broker.lease(TOPIC, [Lease(f"c{person.user}", person, 60) for person in people])
    await broker.lease(TOPIC, [Lease("cu7", Person("u7"), 0)])
    del answers[:]
    assert await present(broker) == people - {Person("u7", "a name")}
    assert len(await broker.people(TOPIC)) == 1499
    assert all(len(answer) < 1 + 3 * 750 for answer in answers), [len(answer) for answer in answers]


async def test_people_whose_reading_was_interrupted_are_read_again() -> None:
    """By the caller: another primary, with another order of the leases, would continue somewhere else."""
    shards = ShardsAway()
    lease = [b"c1", ANN.text().encode(), 1000]
    shards.answers = [[b"0", *lease], [b"7", *lease]]
    people = RedisPeople(shards, Keys("notifier:p:", 3))  # type: ignore[arg-type]
    assert [each.person for each in await people.of(TOPIC)] == [ANN]
    shards.answers = [[b"0"], [b"7", *lease]]
    shards.was_away = True
    with pytest.raises(BrokerUnavailable):
        await people.of(TOPIC)


@pytest.mark.programs
async def test_people_are_readable_after_the_clock_stepped_back(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Recorder()
    broker = RedisBroker.from_url(redis_server.url, Options(prefix="notifier:clock:", shards=1, **LIMITS))
    await broker.start(sink)
    wall_time = time.time
    try:
        await broker.lease(TOPIC, [Lease(f"c{number}", Person(f"u{number}"), 60) for number in range(600)])
        await broker.subscribe(broker.topics("ann", [TOPIC]))
        monkeypatch.setattr(time, "time", lambda: wall_time() + 3600)
        with redis_server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: sink.away[-2:] == [True, False])
        monkeypatch.setattr(time, "time", wall_time)
        assert len(await broker.people(TOPIC)) == 600
    finally:
        await broker.close()


async def test_the_topics_with_streams_are_known_by_one_call(
    broker: Broker, sink: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    if isinstance(broker, RedisBroker):
        call = broker._shards.call

        async def noted(shard: int, *command: Any) -> Any:
            called.append(shard)
            return await call(shard, *command)

        monkeypatch.setattr(broker._shards, "call", noted)
    topics = [broker.topics(user, [f"user:{user}"])[0] for user in (f"u {number} ü" for number in range(100))]
    await broker.subscribe(topics[:50])
    while len(await broker.watched(topics)) < 50:
        await asyncio.sleep(0.01)
    del called[:]
    assert set(await broker.watched(topics)) == set(topics[:50])
    assert len(called) == len(set(called)), "one call for each shard"
    broker.unsubscribe(topics)
    while await broker.watched(topics):
        await asyncio.sleep(0.01)


class ShardsAway:
    """Three shards, of which some are away; the home of the topic answers that others see a change, once."""

    def __init__(self) -> None:
        self.away: set[int] = set()
        self.was_away = False
        self.answers: list[Any] = [1]
        self.told: list[int] = []

    async def run(self, call: Call) -> Any:
        if call.script.name == "seen":
            return await self.call(call.shard, *call.keys)
        answer = self.answers.pop() if self.answers else 0
        if answer is None:
            raise BrokerUnavailable("no answer in time")
        return answer

    def is_live_since(self, shard: int, at: float) -> bool:
        return not self.was_away

    async def call(self, shard: int, *command: Any) -> int:
        if shard in self.away:
            raise BrokerUnavailable("the shard is away")
        self.told.append(shard)
        return 1


async def test_each_shard_is_told_of_a_change_although_one_is_away_at_first() -> None:
    shards = ShardsAway()
    people = RedisPeople(shards, Keys("notifier:p:", 3))  # type: ignore[arg-type]
    shards.away = {1}
    assert await people.put(TOPIC, [Lease("c1", ANN, 60)])
    assert sorted(shards.told) == [0, 2]
    assert await people.put(TOPIC, [])
    shards.away.clear()
    assert not await people.put(TOPIC, [])
    assert not await people.put(TOPIC, [Lease("c1", ANN, 60)])
    assert sorted(shards.told) == [0, 1, 2]


async def test_a_change_without_an_answer_is_announced_by_the_next_call() -> None:
    shards = ShardsAway()
    shards.answers = [None]
    people = RedisPeople(shards, Keys("notifier:p:", 3))  # type: ignore[arg-type]
    with pytest.raises(BrokerUnavailable):
        await people.put(TOPIC, [Lease("c1", ANN, 60)])
    assert not await people.put(TOPIC, [Lease("c1", ANN, 60)])
    assert sorted(shards.told) == [0, 1, 2]


async def test_when_users_were_last_seen_is_known_until_they_are_forgotten(broker: Broker) -> None:
    users = {f"user {number}": number + 1 for number in range(450)}
    await broker.seen(users)
    await broker.seen({"user 7": 9000})
    await broker.seen({})
    assert await broker.last_seen([*users, "eve"]) == {**users, "user 7": 9000}
    await broker.forget("user 7")
    assert await broker.last_seen(["user 7", "user 8"]) == {"user 8": 9}
    assert await broker.last_seen([]) == {}


async def test_a_shard_that_is_away_keeps_only_its_own_users() -> None:
    shards, keys = ShardsAway(), Keys("notifier:p:", 3)
    people = RedisPeople(shards, keys)  # type: ignore[arg-type]
    users = {f"user {number}": number for number in range(900)}
    shards.away = {1}
    away = [user for user in users if keys.shard_of_name(user) == 1]
    assert sorted(await people.see(users, ttl_s=60)) == sorted(away)
    assert set(shards.told) == {0, 2}


@pytest.mark.parametrize(("stored", "expected"), [(b"1700000000000", True), (b"9" * 30, False), (b"soon", False)])
def test_a_time_that_another_program_wrote_is_ignored(stored: bytes, expected: bool) -> None:
    assert is_time(stored) is expected
