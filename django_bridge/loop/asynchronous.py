"""The asynchronous pass: the `async for` over a `Progress`.

Must not know: how items are counted, tasks, models.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, Generic, TypeVar

from asgiref.sync import sync_to_async

from django_bridge.loop.arguments import is_in_memory
from django_bridge.loop.tracker import Tracker

T = TypeVar("T")

_END: Final = object()


async def in_loop(rows: Iterable[T]) -> AsyncIterator[T]:
    """The items of a synchronous iterable. Where a query may lie behind them, each is read in a thread."""
    if is_in_memory(rows):
        for row in rows:
            yield row
        return
    items: Iterator[Any] = await sync_to_async(iter)(rows)
    read = sync_to_async(partial(next, items, _END))  # an exception StopIteration cannot leave the thread
    while (item := await read()) is not _END:
        yield item


class AsyncPass(Generic[T]):
    """One pass. Not an async generator: that would detach its task late when the loop is left early."""

    def __init__(
        self,
        tracker: Tracker,
        open_rows: Callable[[], Awaitable[tuple[AsyncIterable[T], int]]],
        parts: int,
        callback: Callable[[], Any] | None,
    ) -> None:
        """`open_rows` gives the iterable and its number of items. `callback` may be a coroutine function."""
        self._tracker = tracker
        self._open_rows = open_rows
        self._parts = parts
        self._callback = callback
        self._items: AsyncIterator[T] | None = None
        self._bounds: Iterator[int] = iter(())
        self._bound: int | None = None
        """The count that completes this part; None for the last part, which ends with the iterable."""

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        tracker = self._tracker
        items = self._items
        if items is None:
            items = await self._open()
        tracker.unfinished = 0
        if tracker.counted == self._bound:
            self._bound = next(self._bounds, None)
            await self._report()
            await self._check()
        try:
            item = await anext(items)
        except StopAsyncIteration:
            if not tracker.finished:
                tracker.finish()
                await self._report()
                tracker.detach()
            raise
        tracker.counted += 1
        tracker.unfinished = 1
        return item

    def __del__(self) -> None:
        self._tracker.detach()

    async def _open(self) -> AsyncIterator[T]:
        rows, total = await self._open_rows()
        self._tracker.start(total)
        self._bounds = self._tracker.bounds(self._parts)
        self._bound = next(self._bounds, None)
        await sync_to_async(self._tracker.attach)()
        self._items = items = aiter(rows)
        return items

    async def _check(self) -> None:
        if not self._tracker.has_task:
            return
        try:
            await sync_to_async(self._tracker.check)()
        except BaseException:
            self._tracker.detach()
            raise

    async def _report(self) -> None:
        """Report to the task in a thread, since that may wait for the database and the network; then call back."""
        await sync_to_async(self._tracker.report)()
        if self._callback is not None and self._tracker.handed_out:
            answer = self._callback()
            if inspect.isawaitable(answer):
                await answer
