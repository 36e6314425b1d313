"""Streams are excluded from garbage collection, which is safe because they leave no cycles."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from notifier import garbage
from tests.serving import serving
from tests.support import bearer, subscriber_token


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.unfreeze()
    gc.set_threshold(*before)
    gc.enable()


async def _open(port: int, user: str) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    token = bearer(subscriber_token(user))["Authorization"]
    writer.write(f"GET /v1/stream HTTP/1.1\r\nHost: test\r\nAuthorization: {token}\r\n\r\n".encode())
    await reader.readuntil(b"event: hello")
    return writer


async def _open_and_close(port: int, count: int) -> None:
    writers = [await _open(port, f"g{number}") for number in range(count)]
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def sparing(stream_count: Callable[[], int]) -> AsyncIterator[None]:
    task = asyncio.create_task(garbage.spare_forever(stream_count))
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_a_stream_that_has_ended_leaves_no_cycle() -> None:
    async with serving() as port:
        await _open_and_close(port, 5)
        gc.collect()
        gc.disable()
        await _open_and_close(port, 50)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = Counter(type(kept).__name__ for kept in gc.garbage if type(kept).__module__.startswith("notifier"))
    assert not kinds


async def test_open_streams_are_frozen_and_a_full_collection_frees_old_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.01)
    count = 0
    gc.collect()
    old = Cycle()
    alive = weakref.ref(old)
    async with sparing(lambda: count):
        await asyncio.sleep(0.05)
        before = gc.get_freeze_count()
        count = garbage.MIN_GROWTH
        while gc.get_freeze_count() == before:
            await asyncio.sleep(0.01)
        del old
        gc.collect()
        assert alive() is not None
    monkeypatch.setattr(garbage, "FULL_EVERY_S", 0.0)
    async with sparing(lambda: count):
        while alive() is not None:
            await asyncio.sleep(0.01)
