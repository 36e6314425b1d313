"""`Share`: one worker's part of a task that several advance; a part that runs again is not counted twice.

How far a share ever came is a row: what a repeated run does up to there is known already. What the service has of it
stands beside it, so that a process that ends between the two loses nothing: the next run tells it, under the key that
the first one used. Must not know: transports, loops.
"""

from __future__ import annotations

import time
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from django_bridge import publisher
from django_bridge.commit import after_commit
from django_bridge.models import TaskShare
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

    It counts from 0 in each run, and adds to the task what no earlier run of the share has reached. At most ten times a
    second, and at the end of the block. What is counted in a transaction is told when that is committed, and never when
    it is rolled back.
    """

    def __init__(self, task: SharedTask, key: str) -> None:
        self.task = task
        self.key = key
        self.done = 0
        """In this run."""
        self.active_loop: object = None
        self._counted_at = 0.0
        self._is_new = True
        self._waits_from: int | None = None
        """What is counted above this is told on commit."""

    @property
    def begun(self) -> bool:
        return True

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.task.ended

    def begin(self, state: Any = "", total: int | None = None) -> None:
        """The task has begun elsewhere."""

    def works_here(self) -> None:
        self.task.works_here()

    def advance(self, n: int = 1) -> None:
        """Adds to what this run has done."""
        self.done += n
        if time.monotonic() - self._counted_at >= PACE_S or not publisher.current().is_remote:
            self.count()

    def set_state(self, state: Any = None, *, done: int | None = None, total: int | None = None) -> None:
        """What this run has done, as a number. A state is the task's; a total is that of the share, and not shown."""
        if done is not None:
            self.done = done
            self.count()
        if state is not None:
            self.task.set_state(state)

    def raise_if_cancelled(self) -> None:
        """As the task's."""
        self.task.raise_if_cancelled()

    def count(self) -> None:
        """Writes how far the share has come, and tells the task what is new."""
        self._counted_at = time.monotonic()
        row, _ = TaskShare.objects.get_or_create(task_id=self.task.id, key=self.key)
        if self._is_new and row.told < row.counted:  # a run that ended before it could note what it told
            after_commit(partial(self._tell, row.told, row.counted))
        self._is_new = False
        if self.done > row.counted:
            TaskShare.objects.filter(pk=row.pk, counted__lt=self.done).update(counted=self.done)
            self._tell_from(row.counted)

    def _tell_from(self, told: int) -> None:
        """On commit, once for all that the transaction counts. After a rollback the row is back where it was."""
        if self._waits_from is None or told <= self._waits_from:
            self._waits_from = told
            after_commit(self._tell_what_waits)

    def _tell_what_waits(self) -> None:
        told, self._waits_from = self._waits_from, None
        counted = TaskShare.objects.get(task_id=self.task.id, key=self.key).counted
        if told is not None and told < counted:
            self._tell(told, counted)

    def _tell(self, told: int, counted: int) -> None:
        if self.task.advance_once(f"{self.task.id}.{self.key}.{told}-{counted}", counted - told):
            TaskShare.objects.filter(task_id=self.task.id, key=self.key, told=told).update(told=counted)

    def __enter__(self) -> Self:
        self.works_here()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.count()

    def __repr__(self) -> str:
        return f"<Share {self.key} of {self.task!r}>"
