"""One connection to Redis: how calls leave, and that each gets its own reply."""

from __future__ import annotations

import asyncio

import pytest

from notifier.broker.redis.connection import Address, open_connection
from notifier.errors import BrokerUnavailable
from tests.support import RedisServer


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
