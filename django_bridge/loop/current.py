"""The task of the function that runs: what a `Progress` without a task reports to.

Must not know: what a task is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Final

_CURRENT: Final[ContextVar[Any]] = ContextVar("notifier_task", default=None)


def current_task() -> Any:
    """The `Task` of the `@progress` function, or of the reported Celery task, that runs in this thread or coroutine;
    None outside of them."""
    return _CURRENT.get()


def enter(task: Any) -> Token[Any]:
    """Make this the current task, until `leave`."""
    return _CURRENT.set(task)


def leave(token: Token[Any]) -> None:
    _CURRENT.reset(token)


@contextmanager
def working_on(task: Any) -> Iterator[None]:
    """A part of the code in which this is the current task."""
    token = enter(task)
    try:
        yield
    finally:
        leave(token)
