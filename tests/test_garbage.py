"""Streams are excluded from garbage collection, which is safe because they leave no cycles."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator

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
async def sparing() -> AsyncIterator[None]:
    task = asyncio.create_task(garbage.spare_forever())
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
    gc.collect()
    old = Cycle()
    alive = weakref.ref(old)
    before = gc.get_freeze_count()
    async with sparing():
        while gc.get_freeze_count() == before:
            await asyncio.sleep(0.01)
        del old
        gc.collect()
        assert alive() is not None
    monkeypatch.setattr(garbage, "FULL_EVERY_S", 0.0)
    async with sparing():
        while alive() is not None:
            await asyncio.sleep(0.01)


async def test_objects_that_replace_others_do_not_pile_up_for_a_long_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As events do in full histories: Python counts a new object less a freed one as none."""
    gc.collect()
    garbage.begin()
    kept = [[number] for number in range(20_000)]
    gc.freeze()
    monkeypatch.setattr(garbage, "LOOK_EVERY_S", 0.01)
    young: list[int] = []
    async with sparing():
        for start in range(0, len(kept), 1000):
            for at in range(start, start + 1000):
                kept[at] = [at]
            frozen = gc.get_freeze_count()
            while gc.get_freeze_count() == frozen and len(young) < start // 1000 + 200:
                young.append(len(gc.get_objects(generation=0)))
                await asyncio.sleep(0.01)
        assert max(young) < 5_000
