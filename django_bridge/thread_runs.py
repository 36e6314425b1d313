"""Functions that run in threads of a server's process, of bounded number; the threads end with the process.

Must not know: requests, how the functions report.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from django.db import connections

log = logging.getLogger("django_bridge")

MAX_USER_RUNS: Final = 4
"""Runs of one user at once in one process, of all pages and actions."""
MAX_RUNS: Final = 32
"""Runs of all users at once in one process."""

_lock: Final = threading.Lock()
_by_user: Final[Counter[Any]] = Counter()


def start(function: Callable[[], object], *, name: str, user: Any) -> bool:
    """Run `function` in a thread of this name; what it raises is logged. False, and it does not run, at one of the
    bounds of the user and the process."""
    with _lock:
        if _by_user[user] >= MAX_USER_RUNS or _by_user.total() >= MAX_RUNS:
            return False
        _by_user[user] += 1
    threading.Thread(target=_run, args=(function, name, user), name=name, daemon=True).start()
    return True


def _run(function: Callable[[], object], name: str, user: Any) -> None:
    try:
        function()
    except Exception:  # the task has failed with it
        log.exception("%s failed", name)
    finally:
        with _lock:
            _by_user[user] -= 1
            if not _by_user[user]:
                del _by_user[user]
        connections.close_all()
