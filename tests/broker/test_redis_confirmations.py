"""`NOTIFIER_REDIS_WAIT_REPLICAS`: a write is answered when a replica has it, or refused."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from notifier.broker.redis import confirmations
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import settle
from notifier.broker.registry import open_broker
from notifier.broker.values import History, Idempotency, Options
from notifier.errors import BrokerUnavailable, ConfigurationError
from notifier.message import corrected
from notifier.settings import load
from tests.broker.support import Recorder, listed, new_task, note, step, until
from tests.support import running
from tests.topologies import KINDS, Pair

pytestmark = pytest.mark.programs

LONG_MS = 30_000
"""Longer than a replica needs on a busy machine."""
UNCONFIRMED = "0 of 1 replicas confirmed"


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with running(Pair(request.param)) as pair:
        yield pair


Open = Callable[..., Awaitable[RedisBroker]]


@pytest.fixture
async def open_one(pair: Pair) -> AsyncIterator[Open]:
    """Opens brokers that share their keys, each as a process does."""
    prefix = f"notifier:w{uuid.uuid4().hex[:8]}:"
    opened: list[RedisBroker] = []

    async def open_one(*, sink: Recorder | None = None, wait_replicas: int = 1, shards: int = 1) -> RedisBroker:
        options = Options(History(50, 50, 3600), 100, prefix, shards, redis_wait_replicas=wait_replicas)
        broker = RedisBroker.from_url(pair.primary.url, options)
        opened.append(broker)
        await broker.start(sink or Recorder())
        return broker

    yield open_one
    for broker in opened:
        await broker.close()


@pytest.fixture
def long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmations, "WAIT_MS", LONG_MS)


KEY = Idempotency("p:key", "a")


def with_text(text: str) -> Callable[[str], str]:
    return lambda stored: corrected(stored, {"text": text})


def writes(broker: RedisBroker) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every kind of write on what `prepared` stored, as a producer repeats it."""
    ann = ("user:ann",)
    return {
        "publish": lambda: broker.publish(note(subject="new", id="new"), KEY),
        "create": lambda: broker.create_task(new_task(task_id="made"), Idempotency("p:create", "a")),
        "change": lambda: broker.change_task("kept", step(advance=1), Idempotency("p:change", "a")),
        "output": lambda: broker.append_output("kept", "text", Idempotency("p:output", "a")),
        "read": lambda: broker.mark("ann", ann, "read", ["first"]),
        "correct": lambda: broker.correct("first", ann, with_text("better")),
        "retract": lambda: broker.retract("second", ann),
        "dismiss": lambda: broker.dismiss_task("ann", "kept"),
        "disconnect": lambda: broker.disconnect("bob"),
        "forget": lambda: broker.forget("bob"),
    }


async def prepared(broker: RedisBroker) -> None:
    for name in ("first", "second"):
        await broker.publish(note(subject=name, id=name))
    await broker.create_task(new_task(task_id="kept"))


async def refused(calls: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, str]:
    """The errors of calls that run at the same time."""
    answers = await asyncio.gather(*(call() for call in calls.values()), return_exceptions=True)
    return {name: str(answer) for name, answer in zip(calls, answers, strict=True) if isinstance(answer, Exception)}


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3])
async def test_no_write_is_answered_while_the_replica_does_not_confirm_it_and_a_repeat_stores_it_once(
    open_one: Open, pair: Pair, shards: int, long_wait: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await open_one(shards=shards)
    await prepared(broker)
    calls = writes(broker)
    with pair.without_replica(), monkeypatch.context() as patch:
        patch.setattr(confirmations, "WAIT_MS", 200)
        errors = await refused(calls)
        assert {name for name, error in errors.items() if UNCONFIRMED in error} == set(calls)
        # A repeat writes nothing, and a process that has written nothing would be told of an older offset.
        other = await open_one(shards=shards)
        errors = await refused(writes(other))
        assert {name for name, error in errors.items() if UNCONFIRMED in error} == set(calls)
    for each in (broker, other):
        assert await refused(writes(each)) == {}
    assert await listed(other) == [("new", False), ("first", True)]
    assert (await other.task("kept")).done == 1  # type: ignore[union-attr]  # it is there
    assert (await other.output("kept", 0)).text == "text"


async def test_reads_go_on_and_the_shard_is_not_away_while_a_write_waits(
    open_one: Open, pair: Pair, long_wait: None
) -> None:
    sink = Recorder()
    broker = await open_one(sink=sink)
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    with pair.without_replica():
        write = asyncio.ensure_future(broker.publish(note(subject="waits")))
        await until(lambda: sink.events)  # its announcement does not wait
        assert await listed(broker) == [("waits", False)]
        assert not write.done()
        assert broker.ready
    await write
    assert sink.away == []
    assert sink.resyncs == []


async def test_a_lost_link_refuses_what_waits_and_the_next_write_is_confirmed(
    open_one: Open, pair: Pair, long_wait: None
) -> None:
    broker = await open_one()
    with pair.without_replica():
        write = asyncio.ensure_future(broker.publish(note(subject="cut"), KEY))
        await until(lambda: _links(pair, waiting=True))
        for client in _links(pair):
            pair.primary.call("CLIENT", "KILL", "ID", client)
        with pytest.raises(BrokerUnavailable, match="lost"):
            await write
    await until(lambda: broker.ready)
    await broker.publish(note(subject="cut"), KEY)
    assert await listed(broker) == [("cut", False)]


async def test_a_link_on_which_redis_is_silent_for_too_long_is_dropped(
    open_one: Open, pair: Pair, long_wait: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await open_one()
    waiting = broker._shards.primaries[0].confirmations
    assert waiting is not None
    with pair.without_replica():
        write = asyncio.ensure_future(broker.publish(note(), KEY))
        await until(lambda: _links(pair, waiting=True))
        await waiting.require_answers(0)
        assert not write.done()  # Redis may be silent for as long as WAIT takes
        monkeypatch.setattr(confirmations, "WAIT_MS", 0)
        await waiting.require_answers(0)
        with pytest.raises(BrokerUnavailable, match="no answer to WAIT"):
            await write


def _links(pair: Pair, *, waiting: bool = False) -> list[str]:
    """The ids of connections for WAIT; those that it blocks."""
    rows = [dict(part.split("=", 1) for part in line.split()) for line in _clients(pair)]
    return [row["id"] for row in rows if row["name"].endswith("-wait") and (not waiting or "b" in row["flags"])]


def _clients(pair: Pair) -> list[str]:
    with contextlib.closing(pair.primary.client()) as client:
        return [f"id={row['id']} name={row['name'] or '-'} flags={row['flags']}" for row in client.client_list()]


async def test_a_primary_that_was_a_replica_in_between_confirms_nothing(
    open_one: Open, pair: Pair, long_wait: None
) -> None:
    """It may have dropped the write, and its replica confirms what is left."""
    broker = await open_one()
    shard = broker._shards.primaries[0]
    answer = asyncio.get_running_loop().create_future()
    # Without a turn of the event loop in between: the check of every second has no time to see it.
    pair.primary.call("REPLICAOF", "127.0.0.1", 1)
    pair.primary.call("REPLICAOF", "NO", "ONE")
    pair.wait_until_whole()
    shard.confirm(shard.connection, partial(settle, answer))
    with pytest.raises(BrokerUnavailable, match="was a replica for a moment"):
        await answer


async def test_no_replica_is_waited_for_by_default(open_one: Open, pair: Pair) -> None:
    broker = await open_one(wait_replicas=Options(History(50, 50, 3600), 100, "a", 1).redis_wait_replicas)
    with pair.without_replica():
        await prepared(broker)
        assert await refused(writes(broker)) == {}
        assert _links(pair) == []


async def test_a_user_who_may_not_wait_is_told_so(open_one: Open, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.primary.call("ACL", "SETUSER", "default", "-wait")
    try:
        broker = await open_one()
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match=r"Redis refused WAIT: NOPERM"):
                await broker.publish(note())
        warnings = [each.getMessage() for each in caplog.records if "answered 503" in each.getMessage()]
        assert len(warnings) == 1
        assert "Redis refused WAIT: NOPERM" in warnings[0]
    finally:
        pair.primary.call("ACL", "SETUSER", "default", "+wait")


@pytest.mark.parametrize("url", ["memory:", "sqlite:///tmp/notifier.db"])
def test_a_broker_without_replicas_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"NOTIFIER_REDIS_WAIT_REPLICAS: \w+ has no replicas"):
        open_broker(load(broker_url=url, redis_wait_replicas=1))
