"""The task of the function that runs: what a `Progress` without a task reports to.

Must not know: what a task is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

_CURRENT: Final[ContextVar[Any]] = ContextVar("notifier_task", default=None)


def current_task() -> Any:
    """The `Task` of the `@progress` function that runs in this thread or coroutine; None outside of one."""
    return _CURRENT.get()


@contextmanager
def working_on(task: Any) -> Iterator[None]:
    """A part of the code in which this is the current task."""
    token = _CURRENT.set(task)
    try:
        yield
    finally:
        _CURRENT.reset(token)
