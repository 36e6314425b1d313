"""A user's wish to cancel, on the producer's side: the exception, and the parts that it must not interrupt.

Must not know: how the wish is learnt.
"""

from __future__ import annotations

from types import TracebackType


class TaskCancelled(Exception):
    """A user asked to cancel the task. Raised between two parts of the work, never inside one.

    The task has ended as cancelled when this is raised; what is left to do is to clean up and to return.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)  # what it is made again from, in another process
        self.task_id = task_id

    def __str__(self) -> str:
        return f"the task {self.task_id} was cancelled by a user"


class Shield:
    """`with shield:` a part that is not interrupted. Shields may be nested."""

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
