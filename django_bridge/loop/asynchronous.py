"""The `async for` over a `Progress`: one pass, item by item.

Knows a `Progress` from inside; must not know tasks or models.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar, cast

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

from django_bridge.loop.arguments import CHUNK, in_chunks
from django_bridge.loop.progress import Progress

T = TypeVar("T")


class AsyncPass(Generic[T]):
    """One pass of an `async for`. Not a generator: one that is left early would let go of the task too late."""

    def __init__(self, progress: Progress[T]) -> None:
        self._progress = progress
        self._items: AsyncIterator[T] | None = None
        self._bounds: Iterator[int] = iter(())
        self._bound: int | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        progress = self._progress
        items = self._items or await self._open()
        progress._in_hand = 0
        if progress._counted == self._bound:
            self._bound = next(self._bounds, None)
            await self._report()
            await self._check()
        try:
            item = await anext(items)
        except StopAsyncIteration:
            if not progress._finished:
                progress._finish()
                await self._report()
                progress._detach()
            raise
        progress._counted += 1
        progress._in_hand = 1
        return item

    def __del__(self) -> None:
        self._progress._detach()

    async def _open(self) -> AsyncIterator[T]:
        progress = self._progress
        rows, total = progress._iterable, progress._given_total
        if isinstance(rows, QuerySet):
            total = await rows.acount() if total is None else total
            if in_chunks(rows, total):
                rows = rows.aiterator(chunk_size=CHUNK)
        progress._restart(len(rows) if total is None else total)
        self._bounds = progress._bounds()
        self._bound = next(self._bounds, None)
        await sync_to_async(progress._attach)()
        self._items = items = cast(AsyncIterator[T], aiter(rows))
        return items

    async def _check(self) -> None:
        if self._progress._task is None:
            return
        try:
            await sync_to_async(self._progress._check)()
        except BaseException:
            self._progress._detach()
            raise

    async def _report(self) -> None:
        """The task is told in a thread: it may wait for the database and the network."""
        progress = self._progress
        await sync_to_async(progress._tell_task)()
        if progress._callback is not None and progress._counted:
            answer = progress._callback(progress)
            if inspect.isawaitable(answer):
                await answer
