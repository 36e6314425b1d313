"""The state of a pass: counts items, divides the pass into parts, reports to the task.

Both the synchronous and the asynchronous pass use it. Must not know: callbacks, where items come from, what a browser
shows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import compress, repeat
from operator import length_hint
from typing import Final, Protocol, TypeVar

from django_bridge.loop.weights import Weights

log = logging.getLogger("django_bridge")

T = TypeVar("T")

_FULL: Final = 2**62


class SupportsProgress(Protocol):
    """What a pass reports to: a `Task`, or a worker's share of one."""

    active_loop: object
    """The `Tracker` of the pass whose numbers the task shows. Passes nested in it do not replace it."""

    @property
    def begun(self) -> bool: ...

    @property
    def ended(self) -> bool: ...

    def begin(self, state: str = "", total: int | None = None) -> None: ...

    def works_here(self) -> None: ...

    def set_state(self, state: str | None = None, *, done: int | None = None, total: int | None = None) -> None: ...

    def raise_if_cancelled(self) -> None: ...


class Tracker:
    """The current pass of one `Progress`.

    Items of a synchronous pass are counted without Python per item: each takes one element of an `itertools.repeat` of
    known length, so `done` is exact at any time. An asynchronous pass adds to `counted`.
    """

    def __init__(
        self, total: int | None, weights: Weights, task: SupportsProgress | None, *, shows_nested: bool
    ) -> None:
        self._weights = weights
        self._task = task
        self._shows_nested = shows_nested
        self._outer: Tracker | None = None
        self.start(total)

    def start(self, total: int | None) -> None:
        """Begin a new pass over `total` items; None while unknown."""
        self.unfinished = 0
        """Items handed to the loop's body that it has not completed: 1 inside the body, 0 between two items."""
        self.counted = 0
        """Items handed out by an asynchronous pass."""
        self.finished = False
        """Whether the pass reached the end of its iterable."""
        self._total = total
        self._ticks = repeat(True, _FULL)
        self._nested: tuple[int, float] = (0, 0.0)
        """(number of the current item, fraction 0-1 of that item that its nested passes have done)."""
        self._started_at = time.monotonic()
        self._ended_at: float | None = None

    @property
    def has_task(self) -> bool:
        return self._task is not None

    # Counting

    def counting(self, rows: Iterable[T]) -> Iterator[T]:
        """The rows, each counted as it is handed out."""
        return compress(rows, self._ticks)

    def bounds(self, parts: int) -> Iterator[int]:
        """The counts at which the pass reports, evenly spread. The last report is not among them: it is at the end."""
        total = self._total or 0
        parts = min(parts, total)
        for part in range(1, parts):
            yield -(-total * part // parts)

    @property
    def handed_out(self) -> int:
        """Items handed to the loop's body so far."""
        return self.counted + _FULL - length_hint(self._ticks)

    @property
    def done(self) -> int:
        """Items whose loop body ran to its end."""
        return max(0, self.handed_out - self.unfinished)

    @property
    def total(self) -> int | None:
        """Items of the pass, never fewer than were handed out; None while unknown."""
        return None if self._total is None else max(self._total, self.handed_out)

    @property
    def percent(self) -> int | None:
        """By weights, 0-100, rounded down; 100 only after the end; None while the total is unknown."""
        if self.finished:
            return 100
        done, total = self._weighed()
        if total is None:
            return None
        return min(99, done * 100 // total) if total else 0

    @property
    def rate(self) -> float | None:
        """Mean items per second since the start; None before the first item is done."""
        if not self.done:
            return None
        elapsed_s = (self._ended_at or time.monotonic()) - self._started_at
        return self.done / elapsed_s if elapsed_s else None

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the mean pace so far, by weights; 0 after the end, None where it cannot be computed."""
        if self.finished:
            return 0.0
        done, total = self._weighed()
        elapsed_s = time.monotonic() - self._started_at
        return None if not done or not elapsed_s or total is None else (total - done) * elapsed_s / done

    def finish(self) -> None:
        """The iterable has ended: the total is the number of its items."""
        self.unfinished = 0
        self.finished = True
        self._ended_at = time.monotonic()
        self._total = self.handed_out

    def _weighed(self) -> tuple[int, int | None]:
        """`done` and `total` in weights."""
        total = self.total
        item, fraction = self._nested
        nested = fraction if self.unfinished and item == self.handed_out else 0.0
        return self._weights.within(self.done, nested), None if total is None else self._weights.upto(total)

    # Reporting

    def attach(self) -> None:
        """Become the task's active loop, unless an outer pass is and does not show nested ones. Begins the task."""
        task = self._task
        if task is None or task.ended:
            return
        outer = task.active_loop
        if outer is not None and not (isinstance(outer, Tracker) and outer._shows_nested):
            return
        if not task.begun:
            task.begin(total=self._weighed()[1])
        task.works_here()
        self._outer, task.active_loop = outer, self

    def detach(self) -> None:
        """Make the outer pass the task's active loop again."""
        if self._task is not None and self._task.active_loop is self:
            self._task.active_loop = self._outer

    def report(self) -> None:
        """Send `done` and `total` to the task, if this is its active loop."""
        task = self._task
        if task is not None and task.active_loop is self and not task.ended:
            self._show(task)

    def report_quietly(self) -> None:
        """As `report`, for a pass that was left early: it may be unwinding an exception, so nothing is raised."""
        try:
            self.report()
        except Exception:
            log.exception("the progress of a loop that was left early could not be reported to its task")

    def check(self) -> None:
        """Raise `TaskCancelled` where a user cancelled the task."""
        if self._task is not None:
            self._task.raise_if_cancelled()

    def _show(self, task: SupportsProgress) -> None:
        done, total = self._weighed()
        if self._outer is None:
            task.set_state(done=done, total=total)
        else:
            self._outer._show_nested(task, done / total if total else 0.0)

    def _show_nested(self, task: SupportsProgress, fraction: float) -> None:
        """A nested pass has done this fraction (0-1) of the current item. A second one within it never lowers it."""
        item, before = self._nested
        self._nested = (self.handed_out, max(fraction, before) if item == self.handed_out else fraction)
        self._show(task)
