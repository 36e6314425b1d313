"""`Progress`: a loop that reports after each part of its pass.

The loop itself runs in C: the pass is a chain of `itertools.islice`, one for each part, and Python comes in only
between two parts. Items are counted by what they leave of an `itertools.repeat` of known length, so `done` is exact
at any time without a line of Python per item (bench/progress.py measures it).

Must not know: how a task reports, what a browser shows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from itertools import chain, compress, islice, repeat
from operator import length_hint
from typing import Any, Final, Generic, Protocol, TypeVar

from django.db.models import QuerySet

from django_bridge.loop.arguments import CHUNK, in_chunks, one_argument, whole
from django_bridge.loop.weights import Weights

log = logging.getLogger("django_bridge")

T = TypeVar("T")

_FULL: Final = 2**62
_NEVER_RAISE: Final = (list, tuple, range)


class Reporter(Protocol):
    """What a pass tells its state to: a `Task`."""

    active_loop: object
    """The pass whose numbers it shows; others (nested ones) leave it alone."""

    @property
    def begun(self) -> bool: ...

    @property
    def ended(self) -> bool: ...

    def begin(self, state: str = "", total: int | None = None) -> None: ...

    def works_here(self) -> None: ...

    def set_state(self, state: str | None = None, *, done: int | None = None, total: int | None = None) -> None: ...

    def raise_if_cancelled(self) -> None: ...


class Progress(Generic[T]):
    """Wraps the iterable of a long loop and reports after each part of it.

        for i in Progress(range(100), parts=10, callback=_callback):
            print(i)

    A full pass makes exactly `parts` reports (one per item where there are fewer items), evenly spread, each after the
    loop's body is through with the part's last item; the last report is at 100 %. A report calls `callback` and tells
    `task` how much is done.

    `iterable` is a list, a tuple, a range, a QuerySet, anything with `len()`; any other iterable with `total=`; with
    `async for` an asynchronous iterable. A QuerySet costs one `SELECT COUNT(*)`, at the start of the pass, and none if
    its rows are already there.

    `callback` takes the `Progress` itself (`done total percent rate eta_s`), or nothing if it has no parameter for it.
    In an `async for` it may be a coroutine function.

    `task` begins with the pass if it has not begun. Of nested passes with one task, the outermost is the one it shows.
    With `weights` (one whole number for all items, or a list with one for each) the task counts in these instead of in
    items, and a nested pass with the same task shows its way through the item that it belongs to:

        for step, work in Progress(zip(names, steps), total=3, weights=[10, 70, 20], task=task):
            work(task)  # has a Progress of its own, with this task

    After a part, but not after the last one, a user's cancel raises `TaskCancelled`.

    A pass that is left early (`break`, an exception) makes no further call of `callback`; `done` is then the number of
    items whose body ran to its end, and `task` is told that number (not after an `async for`: nothing can be awaited
    there any more). An iterable that holds fewer or more items than
    it said corrects `total` when it ends, and never shows 100 % before.

    Raises `TypeError` where the number of items cannot be known, `ValueError` for `parts` or `total` out of range.
    """

    def __init__(
        self,
        iterable: Iterable[T] | AsyncIterable[T],
        parts: int = 10,
        callback: Callable[..., Any] | None = None,
        task: Reporter | None = None,
        total: int | None = None,
        weights: int | Iterable[int] | None = None,
    ) -> None:
        self.parts = whole(parts, "parts", least=1)
        self._iterable: Any = iterable
        self._callback = None if callback is None else one_argument(callback)
        self._task = task
        self._given_total = None if total is None else whole(total, "total", least=0)
        if total is None and not isinstance(iterable, Sized | QuerySet):
            raise TypeError(f"a {type(iterable).__name__} has no len(): say how many items it holds with total=")
        self._weights = Weights(1 if weights is None else weights)
        self._is_filled = weights is not None
        """Whether nested passes show in it."""
        self._outer: Progress[Any] | None = None
        self._ticks: repeat[bool] | None = None
        self._restart(None)

    @property
    def done(self) -> int:
        """Items whose loop body ran to its end."""
        return max(0, self._handed_out - self._in_hand)

    @property
    def total(self) -> int | None:
        """Items of the pass, as far as is known; None before it starts, unless it was given."""
        return self._given_total if self._total is None else max(self._total, self._handed_out)

    @property
    def percent(self) -> int | None:
        """0-100, rounded down; 100 only when the pass is over; None while the total is unknown."""
        if self._finished:
            return 100
        done, total = self._weighed()
        if total is None:
            return None
        return min(99, done * 100 // total) if total else 0

    @property
    def rate(self) -> float | None:
        """Items a second, the mean since the pass started; None while nothing can be said."""
        if not self.done:
            return None
        elapsed_s = (self._ended_at or time.monotonic()) - self._started_at
        return self.done / elapsed_s if elapsed_s else None

    @property
    def eta_s(self) -> float | None:
        """Seconds left at that pace, by weights; 0 when the pass is over, None while nothing can be said."""
        if self._finished:
            return 0.0
        done, total = self._weighed()
        elapsed_s = time.monotonic() - self._started_at
        return None if not done or not elapsed_s or total is None else (total - done) * elapsed_s / done

    def __repr__(self) -> str:
        return f"<Progress {self.done} of {self.total}>"

    def __iter__(self) -> Iterator[T]:
        parts = self._pass()
        if type(self._iterable) in _NEVER_RAISE:
            return chain.from_iterable(parts)
        return self._guarded(parts)

    def __aiter__(self) -> AsyncIterator[T]:
        if not hasattr(self._iterable, "__aiter__"):
            raise TypeError(f"a {type(self._iterable).__name__} is not asynchronous: use `for`")
        from django_bridge.loop.asynchronous import AsyncPass

        return AsyncPass(self)

    # One pass

    def _pass(self) -> Iterator[Iterator[T]]:
        """The parts, one after the other; whoever asks for the next one is through with the last."""
        rows, total = self._open()
        self._restart(total)
        ticks = self._ticks = repeat(True, _FULL)
        items = compress(rows, ticks)
        self._attach()
        try:
            for bound in self._bounds():
                self._in_hand = 1
                yield islice(items, bound - self._handed_out)
                self._in_hand = 0
                if self._handed_out < bound:  # the iterable ended before its total
                    break
                self._report()
                self._check()
            else:  # the last part is whatever is left, be it more or less than the total said
                self._in_hand = 1
                yield items
            self._finish()
            self._report()
        except GeneratorExit:
            self._leave()
            raise
        finally:
            self._detach()

    def _guarded(self, parts: Iterator[Iterator[T]]) -> Iterator[T]:
        """`chain.from_iterable` that tells an iterable's own failure from one in the loop's body."""
        for part in parts:
            try:
                yield from part
            except GeneratorExit:
                raise
            except BaseException:
                self._in_hand = 0
                raise

    def _open(self) -> tuple[Iterable[T], int]:
        rows, total = self._iterable, self._given_total
        if isinstance(rows, QuerySet):
            total = rows.count() if total is None else total
            if in_chunks(rows, total):
                return rows.iterator(chunk_size=CHUNK), total
        return rows, len(rows) if total is None else total

    def _bounds(self) -> Iterator[int]:
        """How many items are done at each report but the last, whose place is the end of the iterable."""
        total = self._total or 0
        parts = min(self.parts, total)
        for part in range(1, parts):
            yield -(-total * part // parts)

    def _restart(self, total: int | None) -> None:
        self._total = total
        self._ticks = None
        self._counted = 0
        self._in_hand = 0
        self._inner: tuple[int, float] = (0, 0.0)
        """How far nested passes are in the item in hand: its number, and their share of it."""
        self._finished = False
        self._started_at = time.monotonic()
        self._ended_at: float | None = None

    def _finish(self) -> None:
        self._in_hand = 0
        self._finished = True
        self._ended_at = time.monotonic()
        self._total = self._handed_out

    @property
    def _handed_out(self) -> int:
        return self._counted if self._ticks is None else _FULL - length_hint(self._ticks)

    # Reports

    def _attach(self) -> None:
        """Takes the task, unless an outer pass has it and is not to be filled in; begins it where nobody has."""
        task = self._task
        if task is None or task.ended:
            return
        outer = task.active_loop
        if outer is not None and not (isinstance(outer, Progress) and outer._is_filled):
            return
        if not task.begun:
            task.begin(total=self._weighed()[1])
        task.works_here()
        self._outer, task.active_loop = outer, self

    def _detach(self) -> None:
        if self._task is not None and self._task.active_loop is self:
            self._task.active_loop = self._outer

    def _report(self) -> None:
        self._tell_task()
        if self._callback is not None and self._handed_out:
            self._callback(self)

    def _tell_task(self) -> None:
        task = self._task
        if task is not None and task.active_loop is self and not task.ended:
            self._show(task)

    def _show(self, task: Reporter) -> None:
        done, total = self._weighed()
        if self._outer is None:
            task.set_state(done=done, total=total)
        else:
            self._outer._fill(task, done / total if total else 0.0)

    def _fill(self, task: Reporter, share: float) -> None:
        """A nested pass is so far. A second one in the same item does not take back what the first has shown."""
        item, before = self._inner
        self._inner = (self._handed_out, max(share, before) if item == self._handed_out else share)
        self._show(task)

    def _weighed(self) -> tuple[int, int | None]:
        """`done` and `total` in weights."""
        total = self.total
        item, share = self._inner
        inner = share if self._in_hand and item == self._handed_out else 0.0
        return self._weights.within(self.done, inner), None if total is None else self._weights.upto(total)

    def _check(self) -> None:
        """A user's cancel ends the pass here. Not after the last part: the work is done then."""
        if self._task is not None:
            self._task.raise_if_cancelled()

    def _leave(self) -> None:
        """The pass was left early. The exception that ended it may be on its way: nothing may be raised here."""
        try:
            self._tell_task()
        except Exception:
            log.exception("the progress of a loop that was left early could not be told to its task")
