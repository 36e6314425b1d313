"""`Progress`: a loop that reports after each part of its pass.

The loop itself runs in C: the pass is a chain of `itertools.islice`, one for each part, and Python runs only between
two parts (bench/progress.py measures it).

Must not know: how a task reports, what a browser shows.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from functools import partial
from itertools import chain, islice
from typing import Any, Final, Generic, TypeVar

from asgiref.sync import sync_to_async
from django.db.models import QuerySet

from django_bridge.loop.arguments import CHUNK, in_chunks, is_in_memory, one_argument, whole
from django_bridge.loop.asynchronous import AsyncPass, in_loop
from django_bridge.loop.current import current_task
from django_bridge.loop.tracker import SupportsProgress, Tracker
from django_bridge.loop.weights import Weights

T = TypeVar("T")

_NEVER_RAISE: Final = (list, tuple, range)


class Progress(Generic[T]):
    """Wraps the iterable of a long loop and reports after each part of it.

        for i in Progress(range(100), parts=10, callback=_callback):
            print(i)

    A full pass makes exactly `parts` reports (one per item where there are fewer items), evenly spread, each after the
    loop's body has completed the part's last item; the last report is at 100 %. A report calls `callback` and updates
    `task`.

    `iterable` is a list, a tuple, a range, a QuerySet, anything with `len()`; any other iterable with `total=`.
    `async for` takes the same, and asynchronous iterables; the items of a generator or of a type of your own are then
    read in a thread, since a query may lie behind them. A QuerySet costs one `SELECT COUNT(*)` at the start of the
    pass, or none if its rows are already fetched.

    `callback` takes the `Progress` itself (`done total percent rate eta_s`), or no argument. In an `async for` it may
    be a coroutine function.

    Without `task` and `callback` it is the task of the `@progress` function that runs. `task` begins with the pass if
    it has not begun. Of nested passes with one task, it shows the outermost. With
    `weights` (one whole number for all items, or a list with one per item) the task counts in weights instead of items,
    and a nested pass with the same task shows its progress within the current item of the outer pass:

        for step, work in Progress(zip(names, steps), total=3, weights=[10, 70, 20], task=task):
            work(task)  # has a Progress of its own, with this task

    After each part except the last, a user's cancel raises `TaskCancelled`.

    A pass that is left early (`break`, an exception) does not call `callback` again; `done` is then the number of items
    whose body ran to its end, and `task` gets that number (not after an `async for`, where nothing can be awaited any
    more). An iterable with fewer or more items than its `len()` or `total=` corrects `total` at its end, and `percent`
    is below 100 until then.

    Raises `TypeError` where the number of items is unknown, `ValueError` for `parts` or `total` out of range.
    """

    def __init__(
        self,
        iterable: Iterable[T] | AsyncIterable[T],
        parts: int = 10,
        callback: Callable[..., Any] | None = None,
        task: SupportsProgress | None = None,
        total: int | None = None,
        weights: int | Iterable[int] | None = None,
    ) -> None:
        self.parts = whole(parts, "parts", least=1)
        self._iterable: Any = iterable
        self._callback = None if callback is None else one_argument(callback)
        self._given_total = None if total is None else whole(total, "total", least=0)
        if total is None and not isinstance(iterable, Sized | QuerySet):
            raise TypeError(f"a {type(iterable).__name__} has no len(): say how many items it holds with total=")
        if task is None and callback is None:
            task = current_task()
        weighed = Weights(1 if weights is None else weights)
        self._tracker = Tracker(self._given_total, weighed, task, shows_nested=weights is not None)

    @property
    def done(self) -> int:
        """Items whose loop body ran to its end."""
        return self._tracker.done

    @property
    def total(self) -> int | None:
        """Items of the pass, as far as is known; None before it starts, unless it was given."""
        return self._tracker.total

    @property
    def percent(self) -> int | None:
        """By weights, 0-100, rounded down; 100 only after the end of the pass; None while the total is unknown."""
        return self._tracker.percent

    @property
    def rate(self) -> float | None:
        """Mean items per second since the pass started; None before the first item is done."""
        return self._tracker.rate

    @property
    def eta_s(self) -> float | None:
        """Seconds left at that pace, by weights; 0 after the end of the pass, None where it cannot be computed."""
        return self._tracker.eta_s

    def __repr__(self) -> str:
        return f"<Progress {self.done} of {self.total}>"

    def __iter__(self) -> Iterator[T]:
        parts = self._pass()
        if type(self._iterable) in _NEVER_RAISE:
            return chain.from_iterable(parts)
        return _guarded(parts, self._tracker)

    def __aiter__(self) -> AsyncIterator[T]:
        callback = None if self._callback is None else partial(self._callback, self)
        return AsyncPass(self._tracker, self._open_async, self.parts, callback)

    def _pass(self) -> Iterator[Iterator[T]]:
        """The parts, one after the other. The request for the next part means that the body has completed the last."""
        tracker = self._tracker
        rows, total = self._open()
        tracker.start(total)
        items = tracker.counting(rows)
        tracker.attach()
        try:
            for bound in tracker.bounds(self.parts):
                tracker.unfinished = 1
                yield islice(items, bound - tracker.handed_out)
                tracker.unfinished = 0
                if tracker.handed_out < bound:  # the iterable ended before its total
                    break
                self._report()
                tracker.check()
            else:  # the last part is all that is left, be it more or fewer items than the total says
                tracker.unfinished = 1
                yield items
            tracker.finish()
            self._report()
        except GeneratorExit:
            tracker.report_quietly()
            raise
        finally:
            tracker.detach()

    def _open(self) -> tuple[Iterable[T], int]:
        """The iterable and its number of items."""
        rows, total = self._iterable, self._given_total
        if isinstance(rows, QuerySet):
            total = rows.count() if total is None else total
            if in_chunks(rows, total):
                return rows.iterator(chunk_size=CHUNK), total
        return rows, len(rows) if total is None else total

    async def _open_async(self) -> tuple[AsyncIterable[T], int]:
        rows, total = self._iterable, self._given_total
        if isinstance(rows, QuerySet):
            total = await rows.acount() if total is None else total
            if in_chunks(rows, total):
                return rows.aiterator(chunk_size=CHUNK), total
        elif total is None:
            total = len(rows) if is_in_memory(rows) else await sync_to_async(len)(rows)
        return rows if hasattr(rows, "__aiter__") else in_loop(rows), total

    def _report(self) -> None:
        self._tracker.report()
        if self._callback is not None and self._tracker.handed_out:
            self._callback(self)


def _guarded(parts: Iterator[Iterator[T]], tracker: Tracker) -> Iterator[T]:
    """`chain.from_iterable` that distinguishes a failure of the iterable from one of the loop's body: where the
    iterable fails, the last item is done."""
    for part in parts:
        try:
            yield from part
        except GeneratorExit:
            raise
        except BaseException:
            tracker.unfinished = 0
            raise
