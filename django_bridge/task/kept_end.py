"""The end of a task in the outbox: a row of the caller's transaction, removed when the service has the end.

The task's process reports the end itself, at once. A row whose report failed, or whose process ended before, is left to
the deliverers. Must not know: how the end is reported.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from django.db import Error, router, transaction

from django_bridge import background, outbox, publisher
from django_bridge.commit import after_commit
from django_bridge.delivery import release, remove
from django_bridge.models import OutboxMessage
from django_bridge.task import scheduler
from notifier.task import Task

log = logging.getLogger("django_bridge")


class KeptEnd:
    """The row of one task's end. Thread-safe."""

    def __init__(self, task: Task, change: Mapping[str, object]) -> None:
        """Write the row. Raises `django.db.Error`."""
        self._lock = threading.Lock()
        self._is_committed = False
        self._is_sent: bool | None = None
        """The outcome of the last report; None before the first."""
        self._row = outbox.keep_end(task, change)
        after_commit(self._committed, outbox.database())

    def reported(self, is_sent: bool) -> None:
        """The end was sent, or could not be."""
        with self._lock:
            is_known, self._is_sent = self._is_sent == is_sent, is_sent
            is_due = self._is_committed and not is_known
        if is_due:
            self._settle(in_thread=scheduler.current().is_current_thread())

    def _committed(self) -> None:
        with self._lock:
            self._is_committed = True
            is_due = self._is_sent is not None
        if is_due:
            self._settle(in_thread=publisher.delivers_in_background())

    def _settle(self, *, in_thread: bool) -> None:
        """Remove the row, or leave it to the deliverers. Where neither works, they get it when its claim ends."""
        if in_thread:
            background.current().put(self._write_outcome)
        else:
            self._write_outcome()

    def _write_outcome(self) -> None:
        try:
            with transaction.atomic(using=router.db_for_write(OutboxMessage)):
                if self._is_sent:
                    remove(self._row)
                else:
                    release(self._row)
        except Error:
            log.exception("the outbox row of the end of a task could not be changed")
