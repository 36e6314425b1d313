"""`Share`: one worker's part of a task that several workers advance. A part that runs again is not counted twice.

The high-water mark of a share is a row (`TaskShare.counted`): a repeated run adds only what is above it. Beside it
stands how much of that the service has (`told`): if a process dies between the two writes, the next run sends the
difference under the idempotency key of the first. Must not know: transports, loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from django.db import connections, router

from django_bridge import publisher
from django_bridge.commit import after_commit
from django_bridge.event_loop import outside_loop
from django_bridge.models import TaskShare, written
from django_bridge.task.reporter import PACE_S


class SharedTask(Protocol):
    """The task a share counts for; `Task` satisfies it."""

    @property
    def id(self) -> str: ...

    @property
    def ended(self) -> bool: ...

    def works_here(self) -> None: ...

    def set_state(self, state: Any = None) -> None: ...

    def raise_if_cancelled(self) -> None: ...

    def advance_once(self, key: str, n: int) -> bool: ...


class Share:
    """Made by `Task.share`; a context manager, and the `task` of a `Progress`.

        with task.share(self.request.id) as share:  # Celery keeps this id over the retries of a task
            for row in chunk:
                work_on(row)
                share.advance()

    A share counts from 0 in each run, and adds to the task what no earlier run of it has reached: at most ten times a
    second, and at the end of the block. Counts made in a transaction reach the service on its commit, and never after a
    rollback.
    """

    def __init__(self, task: SharedTask, key: str) -> None:
        self.task = task
        self.key = key
        self.done = 0
        """In this run."""
        self.active_loop: object = None
        """The `Progress` that advances it; nested ones leave it alone."""
        self._counted_at = 0.0
        self._is_first_count = True
        self._counted = 0
        """The high-water mark as this run has raised it."""
        self._next = 0
        """Counts above this were not sent."""
        self._tried: tuple[int, int] | None = None
        """Counts that the service may have: sent again, under their key, before others."""
        self._hook: Callable[[], None] | None = None
        """The commit hook, until it runs."""

    @property
    def begun(self) -> bool:
        return True

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.task.ended

    def begin(self, state: Any = "", total: int | None = None) -> None:
        """Does nothing: the task has begun in the process that created it."""

    def works_here(self) -> None:
        """Start the heartbeats of the task in this process."""
        self.task.works_here()

    def advance(self, n: int = 1) -> None:
        """Add to what this run has done."""
        self.done += n
        if time.monotonic() - self._counted_at >= PACE_S or not publisher.current().is_remote:
            self.count()

    def set_state(self, state: Any = None, *, done: int | None = None, total: int | None = None) -> None:
        """Set what this run has done, and the state of the task. `total` is the share's own, and is not reported."""
        if done is not None:
            self.done = done
            self.count()
        if state is not None:
            self.task.set_state(state)

    def raise_if_cancelled(self) -> None:
        """See `Task.raise_if_cancelled`."""
        self.task.raise_if_cancelled()

    @outside_loop
    def count(self) -> None:
        """Raise the high-water mark to what this run has done, and advance the task by the difference."""
        self._counted_at = time.monotonic()
        self._raise_mark(self.done)
        if self._next < self._counted or self._tried is not None:
            self._send_on_commit()

    def _raise_mark(self, done: int) -> int:
        """Raise the high-water mark, and return it. While the service may have counts that are not in `told`, the mark
        stays: the next run would send others with them, under another key."""
        row, _ = written(TaskShare).get_or_create(task_id=self.task.id, key=self.key)
        if self._is_first_count and row.told < row.counted:  # an earlier run died before it wrote `told`
            self._tried = row.told, row.counted
        if self._is_first_count or row.counted > self._counted:  # what another run has counted, that run sends
            self._next = self._counted = row.counted
        self._is_first_count = False
        if self._tried is not None or done <= row.counted:
            return row.counted
        written(TaskShare).filter(pk=row.pk, counted__lt=done).update(counted=done)
        self._counted = done
        return done

    def _send_on_commit(self) -> None:
        """Register one hook for all counts of a transaction; while the mark stays, one for each.

        A rollback drops it, and so does a hook of the project that raises before it.
        """
        database = router.db_for_write(TaskShare)
        is_registered = any(hook is self._hook for _, hook, *_ in connections[database].run_on_commit)
        if self._tried is not None or not is_registered:
            self._hook = after_commit(partial(self._send_unsent, self.done), database)

    def _send_unsent(self, done: int) -> None:
        self._hook = None
        if self._tried is not None:
            if not self._advance_task(*self._tried):
                return
            self._tried = None
        mark = self._raise_mark(done)
        counted = min(self._counted, mark)  # the mark is lower where a savepoint was rolled back
        if self._next < counted:
            self._tried, self._next = (self._next, counted), counted
            if self._advance_task(*self._tried):
                self._tried = None

    def _advance_task(self, sent: int, counted: int) -> bool:
        is_sent = self.task.advance_once(f"{self.task.id}.{self.key}.{sent}-{counted}", counted - sent)
        if is_sent:
            written(TaskShare).filter(task_id=self.task.id, key=self.key, told=sent).update(told=counted)
        return is_sent

    def __enter__(self) -> Self:
        self.works_here()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.count()

    def __repr__(self) -> str:
        return f"<Share {self.key} of {self.task!r}>"
