"""Cancelling on the producer's side: the exception, and the shield for parts that it must not interrupt.

Must not know: how a cancel request arrives.
"""

from __future__ import annotations

from types import TracebackType


class TaskCancelled(Exception):
    """A user cancelled the task. Raised between two parts of the work, never inside one.

    The task has already ended as cancelled: clean up and return.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)  # the arguments of `__init__`, for pickle
        self.task_id = task_id

    def __str__(self) -> str:
        return f"the task {self.task_id} was cancelled by a user"


class Shield:
    """`with shield:` a part of the work that a cancel does not interrupt. True while inside; shields nest."""

    def __init__(self) -> None:
        self._depth = 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1

    def __bool__(self) -> bool:
        return self._depth > 0
