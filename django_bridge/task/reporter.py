"""The state of a task in one process, and what is still to be reported: to the service at once, then to the row.

A change that fails is sent with the next one. Quick advances are joined: ten calls a second, the first at once, the
last never lost. With `DELIVERY="background"`, and for progress while the service is slow, the scheduler's thread sends
what has come together since its last call, and no caller waits. While the work goes on in this process, the service
gets heartbeats.

Must not know: the API of `Task`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db import Error

from django_bridge import publisher
from django_bridge.conf import settings
from django_bridge.publisher.transport import TaskAnswer
from django_bridge.task import scheduler
from django_bridge.task.heartbeat import Heartbeat
from django_bridge.task.unreported import UnreportedChanges
from notifier.task import ENDED, Task

if TYPE_CHECKING:
    from django_bridge.task.kept_end import KeptEnd

log = logging.getLogger("django_bridge")

REFRESH_S: Final = 1.0
"""How old an answer may be before the service is asked again whether a user cancelled."""
PACE_S: Final = 0.1
"""Between two advances that are sent."""
OUTPUT_PACE_S: Final = 0.05
"""Between two pieces of output that are sent."""
MAX_JOINED_CHARS: Final = 64 * 1024
"""Characters that wait to be sent; with more, the writer sends them and so waits for the service."""
SLOW_S: Final = 0.25
"""After a call that took longer, the scheduler sends the progress of the task, until a call is faster."""
RETRY_S: Final = 2.0
"""With `DELIVERY="background"`, between two tries to report a change."""


class TaskReporter(UnreportedChanges):
    """Reports the changes of one task. Thread-safe."""

    def __init__(self, known: Task, user_key: Any) -> None:
        super().__init__(known)
        self.user_key = user_key
        self.traceback = ""
        """Of the exception that failed the task."""

    def begin_in_child(self) -> None:
        """In a forked child: what is not reported stays with the parent, and so do the heartbeats until the child works
        on the task."""
        self._begin()

    def _begin(self) -> None:
        super()._begin()
        self._writing = threading.Lock()
        """Locked while the row is written."""
        self._is_row_stale = False
        self._end: KeptEnd | None = None
        """The row of the outbox for the task's end."""
        self._heartbeat = Heartbeat(self.known.id, self._on_beat_answer)
        scheduler.begin_in_child(self)

    # Called by the task

    def announce(self) -> None:
        """Create the task in the service, and its row."""
        self._is_announced = False
        self._report(defers=_in_background())
        if self.known.to and self.known.status != "pending":
            self._heartbeat.schedule()

    def change(self, change: Mapping[str, Any]) -> None:
        """Change the state and report it. Raises `InvalidInput` or `Conflict` before anything is sent."""
        ends_here = change.get("status", "running") != "running"
        background = _in_background()
        if ends_here:
            # A later beat would set a pending task running again. The scheduler sends beats and changes in order.
            self._heartbeat.stop(waits=not background)
        end = self._keep_end(change) if change.get("status") in ENDED else None
        try:
            with self._lock:
                if self.ended_elsewhere:
                    return
                self.known = self.known.changed(change, now_ms=now_ms())
                self._end, end = end or self._end, None
                self._dirty_fields |= change.keys()
                if "done" in change:
                    self._forget_advances()
        finally:
            if end is not None:  # another end came first
                end.reported(is_sent=True)
        self._report(defers=background or (not ends_here and self._is_slow()))
        if not ends_here:
            self.works_here()

    def advance(self, n: int) -> None:
        """Add to `done`. Sent at once, or joined with the advances of the next `PACE_S`. Raises as `change`."""
        with self._lock:
            if self.ended_elsewhere:
                return
            self.known = self.known.changed({"advance": n}, now_ms=now_ms())
            if "done" not in self._dirty_fields:
                self._unsent = n + (self._unsent or 0)
            waits = self._wait_for_pace()
        if not waits:
            self._report(defers=_in_background() or self._is_slow(), paced=True)
        self.works_here()

    def advance_once(self, key: str, n: int) -> bool:
        """Add to `done` under the caller's idempotency key. True if the service has it, or if the task has ended.

        False: the service could not be reached, and `done` is unchanged.
        """
        is_sent = False
        with self._sending:
            with self._lock:
                if self.known.ended or self.ended_elsewhere:
                    return True
                before = self.known.done
                done = before + n if self.known.total is None else min(before + n, self.known.total)
                self.known = dataclasses.replace(self.known, done=done)
            try:
                is_sent = self._send_advances() and self._send(key, {"advance": n})
            finally:
                if not is_sent:
                    with self._lock:
                        self.known = dataclasses.replace(self.known, done=self.known.done - (done - before))
                self.write_row()
        self.works_here()
        return is_sent

    def join_output(self, text: str) -> bool:
        """Add to the output that the scheduler is about to send. False where `write` has more to do."""
        with self._lock:
            if not self._is_scheduled or self._output.chars > MAX_JOINED_CHARS:
                return False
            if self.known.ended or self.known.cancel_requested or self.ended_elsewhere:
                return False
            self._output.add(text)
        return True

    def write(self, text: str) -> None:
        """Append to the output. Sent at once, or joined with what comes in the next `OUTPUT_PACE_S`. Raises `Conflict`
        after the end."""
        with self._lock:
            if self.ended_elsewhere:
                return
            self.known.require_output()
            self._output.add(text)
            wait_s = self._wrote_at + OUTPUT_PACE_S - time.monotonic()
            may_wait = wait_s > 0 and self._output.chars <= MAX_JOINED_CHARS and publisher.current().is_remote
            if may_wait:
                self._schedule(wait_s)
        if not may_wait:
            self._report(defers=_in_background() or self._is_slow(), row=False)
        self.works_here()

    def refresh(self) -> None:
        """Ask the service for its answer, by an advance of 0, if the last one is older than `REFRESH_S`."""
        with self._lock:
            if time.monotonic() - self._asked_at < REFRESH_S:
                return
            self._is_asked = True
        self._report(defers=_in_background() or self._is_slow(), row=self._has_changes())

    def flush(self) -> None:
        """Send what is scheduled and write a stale row."""
        if self._is_scheduled or self._output.pending:
            with self._sending:
                self._send_all()
        if self._is_row_stale:
            self.write_row()

    def on_task_collected(self) -> None:
        """Give what is scheduled to the scheduler. A stale row is left to `notifier_tasks`."""
        if self._is_scheduled:
            self._due_at = 0.0
            scheduler.current().run_soon(self._send_scheduled)

    # When to send

    def _is_slow(self) -> bool:
        """Whether the service is too slow to wait for it after each part of a loop."""
        return self._took_s > SLOW_S and not settings().raise_ and publisher.current().is_remote

    def _may_wait(self) -> bool:
        known = self.known
        if not publisher.current().is_remote or (known.total is not None and known.done >= known.total):
            return False
        return time.monotonic() - self._advanced_at < PACE_S

    def _wait_for_pace(self) -> bool:
        """Leave the advances to the scheduler if the last ones were sent less than `PACE_S` ago. False if not."""
        with self._lock:
            if not self._may_wait():
                return False
            self._is_row_stale = True
            self._schedule(self._advanced_at + PACE_S - time.monotonic())
            return True

    def _schedule(self, wait_s: float) -> None:
        with self._lock:
            if not self._is_scheduled:
                self._is_scheduled = True
                self._due_at = time.monotonic() + wait_s
                scheduler.current().flush_at_exit(self)
                scheduler.current().run_after(wait_s, self._send_scheduled)

    def _send_scheduled(self) -> None:
        if not self._sending.acquire(blocking=False):  # the caller reports: its call sends this too
            scheduler.current().run_after(PACE_S, self._send_scheduled)
            return
        try:
            # An earlier action may still be in the scheduler: what it was for, the caller has sent.
            is_due = self._is_scheduled and time.monotonic() >= self._due_at
            is_sent = not is_due or self._send_all()
        finally:
            self._sending.release()
        if not is_sent and (_in_background() or self._output.pending):
            self._retry()

    def _retry(self) -> None:
        with self._lock:
            if not self._is_scheduled:
                self._is_scheduled = True
                scheduler.current().flush_at_exit(self)
                scheduler.current().retry_after(RETRY_S, self._send_scheduled)

    # Heartbeats

    def works_here(self) -> None:
        """Start the heartbeats if the task has recipients and has not ended."""
        if self.known.to and not self.known.ended:
            self._heartbeat.start()

    def hand_over(self) -> None:
        """Another process continues the work: make the task pending, so that no heartbeats are expected until then."""
        if self._heartbeat.answered and not self.known.ended:
            self.change({"status": "pending"})
        self._heartbeat.stop(waits=not _in_background())

    def _on_beat_answer(self, answer: TaskAnswer) -> None:
        with self._lock:
            self._asked_at = time.monotonic()
            if answer.cancel_requested and not self.known.ended:
                self._apply_cancel()

    # One change: to the service, then to the row

    def _report(self, *, defers: bool, paced: bool = False, row: bool = True) -> None:
        """Send all that the service does not have, or let the scheduler send it; then write the row.

        paced: leave it to the scheduler if another thread's call, which this one waited for, has just sent advances.
        """
        try:
            if defers and self.known.to:
                self._schedule(0.0)
            else:
                with self._sending:
                    is_sent = (paced and self._wait_for_pace()) or self._send_all()
                if not is_sent and self._output.pending:
                    self._retry()
        finally:
            if row:
                self.write_row()

    def _send_all(self) -> bool:
        is_sent = False
        try:
            is_sent = super()._send_all()
            return is_sent
        finally:
            with self._lock:
                end = None if is_sent and self._has_changes() else self._end
            if end is not None:
                end.reported(is_sent)

    def _keep_end(self, change: Mapping[str, Any]) -> KeptEnd | None:
        """The row of the outbox for this end; None without an outbox. Raises as `change`."""
        if not settings().outbox or not self.known.to or self.ended_elsewhere or not publisher.current().is_remote:
            return None
        from django_bridge.task.kept_end import KeptEnd  # loads the models, as `records` in `write_row`

        with self._lock:
            ended = self.known.changed(change, now_ms=now_ms())
            unreported = self._dirty_fields | self._fields_in_flight | change.keys()
            if self._in_flight is not None or self._unsent is not None:
                unreported.add("done")
        try:
            return KeptEnd(ended, {key: getattr(ended, key) for key in sorted(unreported)})
        except Error:
            if settings().raise_:
                raise
            log.exception("the end of task %s could not be kept in the outbox", ended.id)
            return None

    def write_row(self) -> None:
        """Write the newest state to the row."""
        from django_bridge.task import records  # loads the models: too early where a models module imports `Task`

        with self._writing:
            self._is_row_stale = False
            records.write(self.known, self.user_key, self.traceback, replaces_end=self.ended_here)


def _in_background() -> bool:
    """Whether the scheduler sends all changes. Under `RAISE` the caller is to get the error, so it sends them."""
    return publisher.delivers_in_background() and not settings().raise_


def now_ms() -> int:
    return int(time.time() * 1000)
