"""One connection to Redis: how calls leave, and that each gets its own reply, also if a caller is gone."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address, Connection, open_connection
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.values import History
from notifier.errors import BrokerUnavailable
from tests.broker.support import Recorder, listed, note
from tests.support import RedisServer, running


async def test_calls_of_one_turn_leave_in_one_write_and_get_their_own_replies(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await open_connection(Address.from_url(redis_server.url), name="test")
    assert connection._transport is not None
    writes: list[bytes] = []
    write = connection._transport.write

    def counted(data: bytes) -> None:
        writes.append(data)
        write(data)

    monkeypatch.setattr(connection._transport, "write", counted)
    first = [connection.call("ECHO", str(number)) for number in range(20)]
    assert not writes
    assert await asyncio.gather(*first) == [b"%d" % number for number in range(20)]
    assert len(writes) == 1
    assert await connection.call("ECHO", "later") == b"later"
    assert len(writes) == 2
    connection.close()


async def test_calls_that_wait_to_be_written_fail_with_the_connection(redis_server: RedisServer) -> None:
    connection = await open_connection(Address.from_url(redis_server.url), name="test")
    call = connection.call("PING")
    connection.close()
    with pytest.raises(BrokerUnavailable, match="lost"):
        await call


async def test_a_refused_subscription_is_no_reply_to_the_calls_behind_it(redis_server: RedisServer) -> None:
    confirmed: list[tuple[bytes, bytes, bool]] = []

    def confirm(pushes: Sequence[list[bytes]]) -> None:
        confirmed.extend((push[0], push[1], connection.confirms(push[0], push[1])) for push in pushes)

    connection = await open_connection(Address.from_url(redis_server.url), name="test", on_pushes=confirm)
    connection.subscribe("SUBSCRIBE", [b"a", b"b"])
    assert await connection.call("ECHO", "first") == b"first"
    assert confirmed == [(b"subscribe", b"a", True), (b"subscribe", b"b", True)]
    assert not connection.confirms(b"unsubscribe", b"b")
    with redis_server.client() as client:
        client.acl_setuser("guest", enabled=True, nopass=True, categories=["+@all"], keys=["*"], reset_channels=True)
        await connection.call("AUTH", "guest", "any")
        connection.subscribe("SUBSCRIBE", [b"c"])
        behind = [connection.call("ECHO", "second"), connection.call("ECHO", "third")]
        answers = await asyncio.gather(*behind, return_exceptions=True)
        client.acl_deluser("guest")
    assert all(isinstance(answer, BrokerUnavailable) for answer in answers)
    assert "Redis refused the subscriptions: NOPERM" in str(connection.lost.result())


async def test_an_opening_that_subscribes_leaves_in_one_write(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(f"notifier:c{uuid.uuid4().hex[:8]}:")
    broker = RedisBroker(One(Address.from_url(redis_server.url)), keys, history=History(50, 50, 3600), max_replay=100)
    await broker.start(Recorder())
    writes: list[bytes] = []
    monkeypatch.setattr("notifier.broker.redis.connection.Connection._flush", _noting(writes, Connection._flush))
    await broker.open("ann", ["user:ann", "all"], None, subscribe=True)
    subscribing = [written for written in writes if b"SUBSCRIBE" in written]
    assert len(subscribing) == 1
    assert b"EVALSHA" in subscribing[0].partition(b"SUBSCRIBE")[2]
    await broker.close()


@pytest.mark.parametrize("is_cached", [True, False])
async def test_publishes_are_stored_in_the_order_of_submit_although_one_caller_is_gone(
    redis_server: RedisServer, is_cached: bool
) -> None:
    keys = Keys(f"notifier:c{uuid.uuid4().hex[:8]}:")
    broker = RedisBroker(One(Address.from_url(redis_server.url)), keys, history=History(50, 50, 3600), max_replay=100)
    await broker.start(Recorder())
    first = await broker.publish(note())
    if not is_cached:
        with redis_server.client() as client:
            client.script_flush()
    pending = [asyncio.ensure_future(broker.submit(note(subject=str(number)))) for number in range(5)]
    pending.pop(1).cancel()
    receipts = await asyncio.gather(*pending)
    # A script that Redis does not know is called again, unless its caller is gone.
    skipped = 1 if is_cached else 0
    assert [receipt.seq - first.seq for receipt in receipts] == [1, 2 + skipped, 3 + skipped, 4 + skipped]
    assert [subject for subject, _ in await listed(broker)][-2:] == ["0", "Hi"]
    await broker.close()


def _noting(writes: list[bytes], flush: Callable[[Connection], None]) -> Callable[[Connection], None]:
    def noted(connection: Connection) -> None:
        writes.append(b"".join(connection._out))
        flush(connection)

    return noted


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with running(RedisServer()) as server:
        yield server


@pytest.mark.programs
async def test_deleted_data_begins_another_epoch_and_loses_no_connection(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.broker.redis.primary.WATCH_EVERY_S", 0.02)
    sink = Recorder()
    keys = Keys(f"notifier:c{uuid.uuid4().hex[:8]}:")
    broker = RedisBroker(One(Address.from_url(own_redis.url)), keys, history=History(50, 50, 3600), max_replay=100)
    await broker.start(sink)
    before = await broker.publish(note())
    with own_redis.client() as client:
        client.flushall()
        looks = client.info("commandstats")["cmdstat_get"]["calls"]
        while client.info("commandstats")["cmdstat_get"]["calls"] < looks + 3:
            await asyncio.sleep(0.02)
    after = await broker.publish(note())
    assert after.cursor.partition("-")[0] != before.cursor.partition("-")[0]
    assert (sink.away, broker.ready) == ([], True)
    await broker.close()


@pytest.mark.parametrize("turns", range(8))
async def test_an_attempt_that_is_cancelled_as_it_succeeds_leaves_no_connection_open(turns: int) -> None:
    address, opened, returned, dropped = Address(), list[str](), list[str](), list[str]()
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def opening() -> str:
        await answered
        opened.append("connection")
        return "connection"

    attempt = asyncio.create_task(One(address).while_at(0, address, opening(), dropped.append))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answered.set_result(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    attempt.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        returned.append(await attempt)
    assert returned + dropped == opened
