"""The state of a task in one process, and what is still to be reported: to the service at once, then to the row.

A change that fails is sent with the next one. Quick advances are joined: ten calls a second, the first at once, the
last never lost. While the work goes on in this process, the service gets heartbeats.

Must not know: the API of `Task`.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django_bridge import publisher
from django_bridge.publisher.transport import TaskAnswer
from django_bridge.task import scheduler
from django_bridge.task.heartbeat import Heartbeat
from notifier.errors import Conflict, NotFound
from notifier.event import new_id
from notifier.task import ENDED, Task

REFRESH_S: Final = 1.0
"""How old an answer may be before the service is asked again whether a user cancelled."""
PACE_S: Final = 0.1
"""Between two advances that are sent."""


@dataclass(frozen=True, slots=True)
class _Advance:
    """One call that adds to `done`."""

    key: str
    """Its idempotency key."""
    n: int


class TaskReporter:
    """Reports the changes of one task. Thread-safe: its lock is held during calls to the service and the database."""

    def __init__(self, known: Task, user_key: Any) -> None:
        self.known = known
        """The state as this process knows it: its own changes, and what the service answered."""
        self.user_key = user_key
        self.ended_elsewhere = False
        """Another process has ended the task: changes of this one are dropped."""
        self._lock = threading.RLock()
        self._in_flight: _Advance | None = None
        """The advance that was sent and not answered. It may have arrived, so it is repeated under its own key."""
        self._unsent: int | None = None
        """The sum of the advances that were not sent yet; None without any."""
        self._dirty_fields: set[str] = set()
        """Fields whose latest values the service does not have."""
        self._asked_at = 0.0
        self._answered_ms = 0
        """`updated_at_ms` of the newest answer."""
        self._advanced_at = 0.0
        self._is_scheduled = False
        """Whether the scheduler will send the advances."""
        self._is_row_stale = False
        self._heartbeat = Heartbeat(known.id, self._on_beat_answer)

    # Called by the task

    def announce(self) -> None:
        """Create the task in the service, and its row."""
        with self._lock:
            try:
                self._create()
            finally:
                self._write_row()
        if self.known.to:
            self._heartbeat.schedule()

    def change(self, change: Mapping[str, Any]) -> None:
        """Change the state and report it. Raises `InvalidInput` or `Conflict` before anything is sent."""
        ends_here = change.get("status", "running") != "running"
        if ends_here:
            self._heartbeat.stop()  # a later beat would set a pending task running again
        with self._lock:
            if self.ended_elsewhere:
                return
            self.known = self.known.changed(change, now_ms=now_ms())
            self._dirty_fields |= change.keys()
            if "done" in change:
                self._forget_advances()
            self._report()
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
            if self._may_wait():
                self._is_row_stale = True
                self._schedule_advances()
            else:
                self._report()
        self.works_here()

    def advance_once(self, key: str, n: int) -> bool:
        """Add to `done` under the caller's idempotency key. True if the service has it, or if the task has ended.

        False: the service could not be reached, and `done` is unchanged.
        """
        with self._lock:
            if self.known.ended or self.ended_elsewhere:
                return True
            before, done = self.known, self.known.done + n
            if before.total is not None:
                done = min(done, before.total)
            self.known = dataclasses.replace(before, done=done)
            is_sent = False
            try:
                is_sent = self._send_advances() and self._send(key, {"advance": n})
            finally:
                self.known = self.known if is_sent else before
                self._write_row()
        self.works_here()
        return is_sent

    def refresh(self) -> None:
        """Ask the service for its answer, by an advance of 0, if the last one is older than `REFRESH_S`."""
        with self._lock:
            if time.monotonic() - self._asked_at < REFRESH_S:
                return
            if self._has_advances() or self._dirty_fields:
                self._report()
            else:
                self._send(new_id(), {"advance": 0})

    def flush(self) -> None:
        """Send the scheduled advances and write a stale row."""
        with self._lock:
            if self._is_scheduled:
                self._send_advances()
            if self._is_row_stale:
                self._write_row()

    def on_task_collected(self) -> None:
        """Give scheduled advances to the scheduler. A stale row is left to `notifier_tasks`."""
        if self._is_scheduled:
            scheduler.current().run_soon(self._send_scheduled)

    # Joining advances

    def _may_wait(self) -> bool:
        known = self.known
        if not publisher.current().is_remote or (known.total is not None and known.done >= known.total):
            return False
        return time.monotonic() - self._advanced_at < PACE_S

    def _schedule_advances(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            scheduler.current().flush_at_exit(self)
            scheduler.current().run_after(self._advanced_at + PACE_S - time.monotonic(), self._send_scheduled)

    def _send_scheduled(self) -> None:
        if not self._lock.acquire(blocking=False):  # the caller reports: its call sends the advances too
            scheduler.current().run_after(PACE_S, self._send_scheduled)
            return
        try:
            if self._is_scheduled:
                self._send_advances()
        finally:
            self._lock.release()

    # Heartbeats

    def works_here(self) -> None:
        """Start the heartbeats if the task has recipients and has not ended."""
        if self.known.to and not self.known.ended:
            self._heartbeat.start()

    def hand_over(self) -> None:
        """Another process continues the work: make the task pending, so that no heartbeats are expected until then."""
        if self._heartbeat.answered and not self.known.ended:
            self.change({"status": "pending"})
        self._heartbeat.stop()

    def _on_beat_answer(self, answer: TaskAnswer) -> None:
        with self._lock:
            self._asked_at = time.monotonic()
            if answer.cancel_requested and not self.known.ended:
                self._apply_cancel()

    # One change: to the service, then to the row

    def _report(self) -> None:
        """Send all that the service does not have, then write the row."""
        try:
            if self._send_advances() and self._dirty_fields:
                change = {key: getattr(self.known, key) for key in sorted(self._dirty_fields)}
                if self._send(new_id(), change):
                    self._dirty_fields.clear()
        finally:
            self._write_row()

    def _send_advances(self) -> bool:
        """Send the advance in flight again, then the unsent ones as one. False if one failed."""
        self._is_scheduled = False
        while self._has_advances():
            if self._in_flight is None:
                self._in_flight, self._unsent = _Advance(new_id(), self._unsent or 0), None
            self._advanced_at = time.monotonic()
            if not self._send(self._in_flight.key, {"advance": self._in_flight.n}):
                return False
            self._in_flight = None
        return True

    def _has_advances(self) -> bool:
        return self._in_flight is not None or self._unsent is not None

    def _forget_advances(self) -> None:
        self._in_flight = self._unsent = None

    def _send(self, key: str, change: Mapping[str, object]) -> bool:
        """False if the change is to be sent again: the service did not answer. True if it has it, or refused it."""
        if not self.known.to:
            return True
        self._asked_at = time.monotonic()  # before the answer: an unreachable service is not asked after each part
        try:
            outcome = publisher.current().change_task(self.known.id, change, key)
        except NotFound:  # the creation failed, or the service has lost its data
            return self._create()
        except Conflict as exc:
            self._apply_conflict(exc)
            return True
        self._apply_answer(outcome.answer)
        return outcome.settled

    def _create(self) -> bool:
        """Create the task in the service with its whole state. Returns as `_send`."""
        if not self.known.to:
            return True
        self._asked_at = time.monotonic()  # as in `_send`
        try:
            outcome = publisher.current().create_task(dataclasses.replace(self.known, version=1), new_id())
        except Conflict as exc:
            self._apply_conflict(exc)
            return True
        if outcome.answer is not None:
            self._forget_advances()
            self._dirty_fields.clear()
        self._apply_answer(outcome.answer)
        return outcome.settled

    def _apply_answer(self, answer: TaskAnswer | None) -> None:
        if answer is None or answer.updated_at_ms < self._answered_ms:  # a repeated call gets its old answer
            return
        self._answered_ms = answer.updated_at_ms
        self.known = dataclasses.replace(
            self.known,
            # The answer counts the advance in flight, not those after it.
            done=self.known.done if "done" in self._dirty_fields else answer.done + (self._unsent or 0),
            total=self.known.total if "total" in self._dirty_fields else answer.total,
            updated_at_ms=max(self.known.updated_at_ms, answer.updated_at_ms),
        )
        if answer.cancel_requested:
            self._apply_cancel()

    def _apply_cancel(self) -> None:
        is_cancelling = self.known.status in ("running", "pending")
        status = "cancelling" if is_cancelling else self.known.status
        self.known = dataclasses.replace(self.known, cancel_requested=True, status=status)

    def _apply_conflict(self, exc: Conflict) -> None:
        """The service refused the change. If the task has ended there, the text of the error names its status."""
        self._forget_advances()
        self._dirty_fields.clear()
        status = re.search(r"ended as (\w+)", str(exc))
        if status and status[1] in ENDED and not self.known.ended:
            self.ended_elsewhere = True
            self.known = dataclasses.replace(self.known, status=status[1], ended_at_ms=self.known.updated_at_ms)

    def _write_row(self) -> None:
        from django_bridge.task import records  # loads the models: too early where a models module imports `Task`

        self._is_row_stale = False
        records.write(self.known, self.user_key)


def now_ms() -> int:
    return int(time.time() * 1000)
