"""Commit hooks, of one database or over all those of a thread.

Must not know: what its actions do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


def after_commit(action: Callable[[], object], using: str | None = None) -> Callable[[], None]:
    """Run `action` when every transaction that is open in this thread has committed, or with `using` that of this
    database; at once where none is open.

    A rollback of any of them drops it. Only `atomic()` counts: with `set_autocommit(False)` Django has no commit hook,
    and the action runs at once. Returns the hook that was registered; it runs the action once, however often it is
    called, as by nested blocks of `captureOnCommitCallbacks`.
    """
    connections_in_atomic = open_transactions() if using is None else _in_atomic([connections[using]])
    waiting = len(connections_in_atomic)

    def committed() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            action()

    for connection in connections_in_atomic:
        connection.on_commit(committed)
    if not connections_in_atomic:
        action()
    return committed


def open_transactions() -> list[BaseDatabaseWrapper]:
    """The connections of this thread that are inside `atomic()`."""
    in_atomic = _in_atomic(connections.all(initialized_only=True))
    # A TestCase opens a transaction on each database and commits none. Where only those are open, the first (on the
    # default database) stands for all, since captureOnCommitCallbacks collects from one database.
    real = [connection for connection in in_atomic if not all(map(_is_of_testcase, connection.atomic_blocks))]
    return real or in_atomic[:1]


def _in_atomic(of: Iterable[BaseDatabaseWrapper]) -> list[BaseDatabaseWrapper]:
    return [connection for connection in of if connection.in_atomic_block]


def _is_of_testcase(block: object) -> bool:
    return getattr(block, "_from_testcase", False) is True
