"""When a transaction is through: one hook over all databases of a thread.

Must not know: what waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


def after_commit(action: Callable[[], object]) -> None:
    """Runs `action` once every transaction that is open in this thread is committed; at once where none is.

    A rollback of any of them drops it. Transactions are those of `atomic()`; with `set_autocommit(False)` Django has no
    hook for a commit, and the action runs at once.
    """
    open_ones = open_transactions()
    if not open_ones:
        action()
        return
    waiting = len(open_ones)

    def committed() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            action()

    for connection in open_ones:
        connection.on_commit(committed)


def open_transactions() -> list[BaseDatabaseWrapper]:
    """The connections of this thread that are inside `atomic()`."""
    found = [connection for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    # A TestCase opens one on each database and commits none: of those alone, the first (its default) speaks for all.
    real = [one for one in found if not all(getattr(block, "_from_testcase", False) for block in one.atomic_blocks)]
    return real or found[:1]
