"""Many streams that end at the same time end in portions, between which the event loop has its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from notifier.stream import Stream
from notifier.timers import PORTION, StreamTimers, spread
from tests.hubs import ScriptedBroker, attach_crowd, running_hub

COUNT = 5 * PORTION


async def most_in_a_turn(ends: list[Stream], work: Coroutine[Any, Any, None]) -> int:
    """The most streams that end between two turns of the event loop while `work` is done."""
    task, most, seen = asyncio.ensure_future(work), 0, 0
    while not task.done():
        await asyncio.sleep(0)
        most, seen = max(most, len(ends) - seen), len(ends)
    await task
    return most


async def with_streams(
    work: Callable[[list[Stream], list[Stream]], Coroutine[Any, Any, None]],
) -> tuple[int, list[Stream], list[Stream]]:
    async with running_hub(ScriptedBroker()) as hub:
        await attach_crowd(hub, COUNT, "topic:crowd")
        streams, ends = list(hub._streams), list[Stream]()
        return await most_in_a_turn(ends, work(streams, ends)), streams, ends


async def test_a_drain_that_is_late_ends_streams_in_portions() -> None:
    most, streams, ends = await with_streams(lambda streams, ends: spread(streams, ends.append, 0, lambda: False))
    assert set(ends) == set(streams)
    assert len(ends) == COUNT
    assert most == PORTION


async def test_streams_whose_lives_end_in_one_second_end_in_portions() -> None:
    async def expire(streams: list[Stream], ends: list[Stream]) -> None:
        timers = StreamTimers(15, ping=lambda _: None, expire=ends.append)
        for stream in streams:
            stream.ends_at = time.monotonic() - 2
            timers.add(stream)
        await timers.expire_due()
        await timers.expire_due()

    most, streams, ends = await with_streams(expire)
    assert ends == streams
    assert most == PORTION
