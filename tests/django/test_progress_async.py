"""`Progress` in an `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from django_bridge import Progress
from django_bridge.loop import tracker
from tests.django.reports import Reports, collect


async def _numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


async def test_an_async_for_reports_after_each_part() -> None:
    order: list[object] = []
    async for i in Progress(_numbers(4), total=4, parts=2, callback=lambda p: order.append(f"{p.percent} %")):
        order.append(f"item {i}")  # noqa: PERF401  # the loop is under test
    assert order == ["item 0", "item 1", "50 %", "item 2", "item 3", "100 %"]


async def test_an_async_for_awaits_a_callback_that_is_a_coroutine_function() -> None:
    seen: list[int | None] = []

    async def callback(progress: Progress[int]) -> None:
        await asyncio.sleep(0)
        seen.append(progress.percent)

    async for _ in Progress(_numbers(10), total=10, parts=5, callback=callback):
        pass
    assert seen == [20, 40, 60, 80, 100]


async def test_after_an_async_for_is_left_early_done_is_exact() -> None:
    progress = Progress(_numbers(10), total=10)
    async for i in progress:
        if i == 4:
            break
    assert (progress.done, progress.total, progress.percent) == (4, 10, 40)


@pytest.mark.parametrize(("holds", "last"), [(0, None), (3, (3, 3, 100)), (12, (12, 12, 100))])
async def test_an_async_iterable_with_another_total_corrects_it_at_the_end(holds: int, last: Any) -> None:
    seen: Reports = []
    progress = Progress(_numbers(holds), total=10, parts=5, callback=collect(seen))
    assert [i async for i in progress] == list(range(holds))
    assert (seen[-1] if seen else None) == last
    assert progress.percent == 100


async def test_an_async_for_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(tracker.time, "monotonic", lambda: now)

    async def numbers() -> AsyncIterator[int]:
        nonlocal now
        for n in range(4):
            now += 1
            yield n

    rates = []
    async for _ in Progress(numbers(), parts=4, total=4, callback=lambda p: rates.append((p.rate, p.eta_s))):
        pass
    assert rates == [(1.0, 3.0), (1.0, 2.0), (1.0, 1.0), (1.0, 0.0)]
