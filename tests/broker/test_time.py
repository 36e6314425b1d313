"""Brokers over time: logs and metas expire, channels are removed, and every cursor whose events are lost gets a reset.

Time passes by a clock of the test in the embedded broker, and by shorter ttls in Redis.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from notifier.broker import Broker
from notifier.broker.embedded import broker as embedded_broker
from notifier.broker.embedded import history as embedded_history
from notifier.broker.embedded import idempotency as embedded_idempotency
from notifier.broker.embedded import sweep as embedded_sweep
from notifier.broker.embedded.broker import EmbeddedBroker
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.redis import publishes
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.values import IDEMPOTENCY_TTL_S, History, Idempotency
from notifier.event import custom
from notifier.grants import Change
from tests.broker.support import Recorder, note, opened, subjects
from tests.hubs import running_hub, stream_on
from tests.support import RedisServer
from tests.test_stream import Wall

TTL_S = 3600
KEYS = Keys("aging:")
LIMITS = {"history": History(5, 5, TTL_S, 3, TTL_S // 10), "max_replay": 12}

Pass = Callable[[float], None]


def age(server: RedisServer, prefix: str, by_s: float) -> None:
    """Make every key under a prefix older."""
    with server.client() as client:
        for key in client.scan_iter(f"{prefix}*"):
            left_ms = client.pttl(key)
            if left_ms > by_s * 1000:
                client.pexpire(key, int(left_ms - by_s * 1000))
            elif left_ms >= 0:
                client.delete(key)
            if key.endswith(b"floor"):
                for name in {b"t", b"tat", b"tbt"}.intersection(client.hkeys(key)):
                    client.hincrby(key, name, -int(by_s * 1000))


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def aging(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[tuple[Broker, Pass]]:
    broker: Broker
    if request.param != "redis":
        clock = SimpleNamespace(passed_s=0.0)
        clock.time = clock.monotonic = lambda: time.time() + clock.passed_s
        monkeypatch.setattr(embedded_broker, "time", clock)
        monkeypatch.setattr(embedded_history, "time", clock)
        monkeypatch.setattr(embedded_sweep, "time", clock)
        monkeypatch.setattr(embedded_sweep, "STEPS", 100)

        def passes(ttls: float) -> None:
            clock.passed_s += ttls * TTL_S

        in_memory = request.param == "memory"
        broker = MemoryBroker(**LIMITS) if in_memory else SqliteBroker(tmp_path / "notifier.db", **LIMITS)
    else:
        server: RedisServer = request.getfixturevalue("small_redis")
        with server.client() as client:
            for key in client.scan_iter(f"{KEYS.prefix}*"):
                client.delete(key)

        def passes(ttls: float) -> None:
            age(server, KEYS.prefix, ttls * TTL_S)

        monkeypatch.setattr(publishes, "FLOOR_EVERY_S", 0)

        broker = RedisBroker(One(Address.from_url(server.url)), KEYS, **LIMITS)
    await broker.start(Recorder())
    yield broker, passes
    await broker.close()


@pytest.mark.parametrize("goes_on", ["nothing", "others", "the channel", "others, then the channel"])
@pytest.mark.parametrize("ttls", [1.5, 9, 11, 30])
async def test_a_cursor_older_than_every_stored_event_is_reset(
    aging: tuple[Broker, Pass], goes_on: str, ttls: float
) -> None:
    broker, passes = aging
    await broker.publish(note(subject="seen"))
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="missed"))
    passes(ttls)
    if "others" in goes_on:
        for _ in range(3):
            await broker.publish(note("user:bob"))
    if "channel" in goes_on:
        await broker.publish(note(subject="newest"))
    assert not (await opened(broker, start)).recovered


@pytest.mark.parametrize("lost", ["event", "message"])
async def test_a_cursor_is_reset_if_one_of_a_channels_histories_expired(aging: tuple[Broker, Pass], lost: str) -> None:
    """The other one lives on with newer entries. The embedded broker keeps both as long as either."""
    broker, passes = aging
    missed, newer = note(), custom(to=["user:ann"], event_type="order.paid")
    if lost == "event":
        missed, newer = newer, missed
    start = (await opened(broker)).cursor
    await broker.publish(missed)
    after = (await opened(broker)).cursor
    for count in range(1, 4):
        passes(0.6)
        await broker.publish(newer)
        opening = await opened(broker, start)
        assert not opening.recovered or len(opening.replay) == count + 1
        assert len((await opened(broker, after)).replay) == count
    assert opening.recovered == isinstance(broker, EmbeddedBroker)
    await broker.publish(missed)
    assert (await opened(broker, start)).recovered == isinstance(broker, EmbeddedBroker)
    assert len((await opened(broker, after)).replay) == 4


async def test_a_cursor_is_reset_however_others_published_meanwhile(aging: tuple[Broker, Pass]) -> None:
    broker, passes = aging
    await broker.publish(note("user:bob"))
    for step in (0.1, 0.7, 1.9, 2.1, 3.9, 4.1):
        start = (await opened(broker)).cursor
        await broker.publish(note(subject="missed"))
        passed = 0.0
        while passed < 11:
            passes(step)
            passed += step
            await broker.publish(note("user:bob"))
            if abs(passed - 1) > 0.05:
                assert (await opened(broker, start)).recovered == (passed < 1), f"{passed} ttls later, by {step}"
        await broker.publish(note(subject="newest"))
        assert not (await opened(broker, start)).recovered


async def test_a_cursor_younger_than_two_ttls_is_not_reset_for_channels_without_events(
    aging: tuple[Broker, Pass],
) -> None:
    broker, passes = aging
    for _ in range(30):
        await broker.publish(note("user:bob"))
        start = (await opened(broker)).cursor
        await broker.publish(note("user:bob"))
        passes(0.9)
        await broker.publish(note("user:bob"))
        assert (await opened(broker, start)).verdict == "ok"
        passes(1)
        assert (await opened(broker, start)).verdict == "ok"


async def test_a_first_event_on_a_channel_is_replayed(aging: tuple[Broker, Pass]) -> None:
    broker, passes = aging
    for ttls in (0.5, 3, 20):
        await broker.publish(note("user:bob"))
        passes(ttls)
        await broker.publish(note("user:bob"))
        start = (await opened(broker)).cursor
        await broker.publish(note(f"group:{'staff' if ttls == 20 else ttls}", subject="first"))
        opening = await opened(broker, start)
        assert (opening.verdict, subjects(opening)) == ("ok", ["first"] if ttls == 20 else [])


@pytest.mark.parametrize("aging", ["redis"], indirect=True)
async def test_the_floor_is_looked_at_now_and_then_and_for_new_channels(
    aging: tuple[Broker, Pass], small_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishes, "FLOOR_EVERY_S", 10)
    broker, passes = aging
    await broker.publish(note("user:bob"))
    passes(2.5)
    with small_redis.client() as client:
        recorded_ms = client.hget(KEYS.floor(0), "t")
        await broker.publish(note("user:bob"))
        assert client.hget(KEYS.floor(0), "t") == recorded_ms
        await broker.publish(note())
        assert client.hget(KEYS.floor(0), "t") != recorded_ms


async def test_streams_of_many_users_leave_nothing_behind_in_memory() -> None:
    broker = MemoryBroker(**LIMITS)
    for number in range(100):
        await opened(broker, user=f"u{number}")
        await broker.forget(f"u{number}")
        await broker.unread(f"v{number}", [f"user:v{number}"])
    assert set(broker._history._logs) <= {f"user:u{number}" for number in range(100)}
    assert not broker._marks


@pytest.mark.parametrize("channels", [1, 10])
async def test_expired_objects_are_removed_as_fast_as_new_ones_are_written(
    monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    clock = SimpleNamespace(now=1e9)
    clock.time = clock.monotonic = lambda: clock.now
    monkeypatch.setattr(embedded_broker, "time", clock)
    monkeypatch.setattr(embedded_history, "time", clock)
    monkeypatch.setattr(embedded_sweep, "time", clock)
    monkeypatch.setattr(embedded_idempotency, "time", clock)
    broker = MemoryBroker(**{**LIMITS, "history": History(5, 5, 30)})
    alive = 10 * 30  # publishes, one a second, until a channel is removed
    for number in range(8 * alive):
        to = [f"group:{number}-{index}" for index in range(channels)]
        await broker.publish(note(to), Idempotency(f"key-{number}", "same"))
        clock.now += 1
    assert len(broker._history._logs) <= 1.4 * alive * channels
    assert len(broker._idempotency) <= IDEMPOTENCY_TTL_S + 10


async def test_a_page_that_joins_a_topic_whose_missed_events_have_expired_is_told_to_fetch(
    aging: tuple[Broker, Pass],
) -> None:
    """A laptop that slept for longer than the history of topics."""
    broker, passes = aging
    slept, woken = "topic:order:42", "topic:order:43"
    async with running_hub(broker) as hub:
        stream = stream_on(Wall())
        await hub.attach(stream)

        async def stale(since: str, *channels: str) -> list[str]:
            ends = dict.fromkeys(channels, time.time() + 60)
            return list((await hub.grants.change(stream, Change("", ends, (), since))).stale)

        since = (await broker.publish(note())).cursor
        await broker.publish(note(slept, subject="missed"))
        passes(0.11)
        assert await stale(since, slept) == ["order:42"]
        now = (await broker.publish(note())).cursor
        assert await stale(now, slept, woken) == []


async def test_nothing_of_a_topic_stays_after_its_ttl(aging: tuple[Broker, Pass], small_redis: RedisServer) -> None:
    broker, passes = aging
    page = ("user:ann", "topic:order:42")
    await broker.publish(note("topic:order:7", subject="first"))
    start = (await broker.open("ann", page, None)).cursor
    await broker.publish(note("topic:order:42", subject="missed"))
    passes(0.05)
    opening = await broker.open("ann", page, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["missed"])
    passes(0.06)
    with small_redis.client() as client:
        assert list(client.scan_iter(f"{KEYS.prefix}*order:42")) == []
    assert (await broker.open("ann", page, start)).verdict == "history_trimmed"
    assert (await broker.open("ann", ("user:ann",), start)).verdict == "ok"
    now = (await broker.open("ann", page, None)).cursor
    await broker.publish(note("user:ann", subject="new"))
    opening = await broker.open("ann", page, now)
    assert (opening.verdict, subjects(opening)) == ("ok", ["new"])
